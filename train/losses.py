"""Losses of score and box maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def balanced_logistic(logits: Tensor, labels: Tensor) -> Tensor:
    """SiamFC's logistic loss; targets and background of each map weigh the same (Bertinetto et al. 2016, section 3.2).

    logits, labels: (N, H, W); labels 1 or 0. With v = 2 label - 1 the loss of a cell is log(1 + exp(-v logit)).
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    positive = labels.sum((1, 2), keepdim=True).clamp(min=1)
    negative = (1 - labels).sum((1, 2), keepdim=True).clamp(min=1)
    weights = 0.5 * torch.where(labels > 0, 1 / positive, 1 / negative)
    return (weights * losses).sum() / len(logits)


def masked_bce(logits: Tensor, labels: Tensor, hard: float, hardest: int = 8, focal: bool = False) -> Tensor:
    """Cross-entropy with a ring that does not count: mean over targets + mean over background + the hardest background.

    logits, labels: (N, H, W); labels 1, 0, or -1 (not counted). hard: weight of the mean over the `hardest` background
    cells of each map. Maps without a target have no first term. focal: the loss of a cell is multiplied by
    4 (1 - p)^2, p the probability that the network gives to its label (Lin et al., Focal loss, 2017, eq. 4, gamma 2;
    the factor 4 leaves a cell that is undecided at its weight).
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0), reduction="none")
    if focal:
        losses = losses * 4 * torch.where(labels > 0, -logits, logits).sigmoid() ** 2
    positive, negative = (labels == 1).float(), (labels == 0).float()
    on_target = (losses * positive).sum((1, 2)) / positive.sum((1, 2)).clamp(min=1)
    background = (losses * negative).sum((1, 2)) / negative.sum((1, 2)).clamp(min=1)
    worst = (losses * negative).flatten(1).topk(min(hardest, logits[0].numel()), dim=1).values.mean(1)
    return (0.5 * on_target + 0.5 * background + hard * worst).mean()


def box_loss(predicted: Tensor, target: Tensor, weight: Tensor, overlap: Literal["giou", "diou"]) -> Tensor:
    """1 - overlap of boxes seen from the same cell.

    predicted, target: (N, 4, H, W) distances to left, top, right, bottom; those of `target` are used where `weight`
    (N, H, W) is positive. overlap: generalised IoU (Rezatofighi et al. 2019, algorithm 1), or IoU less the squared
    distance of the centres over the squared diagonal of the hull (Zheng et al., Distance-IoU loss, 2020, eq. 7).
    Returns the weighted mean.
    """
    chosen = weight > 0
    p = predicted.permute(0, 2, 3, 1)[chosen]
    t = target.permute(0, 2, 3, 1)[chosen]
    w = weight[chosen]
    if len(w) == 0:
        return predicted.sum() * 0
    p, t = (torch.cat([(d[:, 2:] - d[:, :2]) / 2, d[:, :2] + d[:, 2:]], dim=1) for d in (p, t))  # cx, cy, w, h
    iou, generalised, hull = generalised_iou(p, t)
    apart = ((p[:, :2] - t[:, :2]) ** 2).sum(1) / (hull**2).sum(1)
    penalty = iou - generalised if overlap == "giou" else apart
    return ((1 - iou + penalty) * w).sum() / w.sum()


def generalised_iou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Overlaps of boxes (M, 4) cx, cy, w, h, row by row (Rezatofighi et al. 2019, algorithm 1).

    Returns IoU (M,), generalised IoU (M,) and width and height of the hull of both (M, 2).
    """
    low_a, high_a, low_b, high_b = (x[:, :2] + side * x[:, 2:] for x in (a, b) for side in (-0.5, 0.5))
    common = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(1)
    union = a[:, 2:].prod(1) + b[:, 2:].prod(1) - common
    hull = torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)
    iou, area = common / union.clamp(min=1e-6), hull.prod(1)
    return iou, iou - (area - union) / area.clamp(min=1e-6), hull
