"""What the refiner learns from: boxes that miss the target by a little, by much, or altogether."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tracker.heads import Maps, Template
from tracker.network import Swift
from train.losses import generalised_iou

# Of the boxes to begin with, beside that of the peak itself: around what, and how far off (deviation of the centre in
# target sizes, and of the log of the size).
AROUND_TARGET, AROUND_PEAK = 0, 1
MISSES = (
    (AROUND_TARGET, 0.1, 0.15),
    (AROUND_TARGET, 0.1, 0.15),
    (AROUND_TARGET, 0.2, 0.3),
    (AROUND_PEAK, 0.06, 0.1),
    (AROUND_TARGET, 0.6, 0.3),
)
SMALLEST, LARGEST = 6.0, 190.0  # search px
LEAST_OVERLAP = 0.2  # a box with a lower IoU does not learn where the target is
WRONG, RIGHT = 0.3, 0.7  # IoU up to which a refined box is wrong, and from which it is right; between them in part


def draw_misses(rng: np.random.Generator) -> NDArray[np.float32]:
    """(len(MISSES), 4) by how much boxes miss: dx, dy in sizes, dw, dh in logs; width and height mostly together."""
    noise = rng.standard_normal((len(MISSES), 5))
    place, size = (np.array([miss[k] for miss in MISSES])[:, None] for k in (1, 2))
    stretch = size * (noise[:, 2:3] + 0.6 * noise[:, 3:])
    return np.concatenate([place * noise[:, :2], stretch], axis=1).astype(np.float32)


def first_boxes(net: Swift, maps: Maps, target: Tensor, present: Tensor, misses: Tensor) -> Tensor:
    """(N, 1 + len(MISSES), 4) boxes to refine: of the peak, and around the target (the peak, if it is not in view).

    target: (N, 4); all boxes are cx, cy, w, h, search px. present: (N,). misses: (N, len(MISSES), 4).
    """
    assert maps.box_map is not None
    cells = maps.logits.shape[-1]
    best = maps.logits.flatten(1).argmax(1)
    left, top, right, bottom = maps.box_map.flatten(2).gather(2, best[:, None, None].expand(-1, 4, 1)).unbind(1)
    centres = torch.as_tensor(net.grid.centres, dtype=left.dtype, device=left.device)
    cx, cy = centres[best % cells][:, None], centres[best // cells][:, None]
    peak = torch.cat([cx + (right - left) / 2, cy + (bottom - top) / 2, left + right, top + bottom], dim=1)
    target = torch.where(present[:, None], target, peak)
    around = torch.stack([(target, peak)[miss[0]] for miss in MISSES], dim=1)
    moved = around[..., :2] + misses[..., :2] * around[..., 2:]
    boxes = torch.cat([peak[:, None], torch.cat([moved, around[..., 2:] * misses[..., 2:].exp()], dim=2)], dim=1)
    return torch.cat([boxes[..., :2], boxes[..., 2:].clamp(SMALLEST, LARGEST)], dim=2)


def refine_loss(
    net: Swift, template: Template, maps: Maps, box: Tensor, misses: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Loss of the refiner, and the mean IoU of the peaks' boxes before and after it.

    template, maps: what the rest of the network made of N pairs. box: (N, 4) x, y, w, h
    of the targets, search px; w = h = 0 where it is not in view. misses: (N, len(MISSES), 4), see `draw_misses`.
    2 (1 - GIoU) + half a smooth L1 of moves and stretches, where the first box overlaps the target; and cross-entropy
    of being right, also for another target's exemplar, which is never right.
    """
    centred, present = torch.cat([box[:, :2] + box[:, 2:] / 2, box[:, 2:]], dim=1), box[:, 2] > 0
    with torch.no_grad():
        first = first_boxes(net, maps, centred, present, misses)
    n, k = first.shape[:2]
    seen = net.refiner.patches(maps.levels, first)
    own, foreign = template.patch.repeat_interleave(k, 0), template.patch.roll(1, 0)
    strangers = seen.view(n, k, *seen.shape[1:])[:, 1]
    flat = first.flatten(0, 1)
    found = net.refiner(torch.cat([own, foreign]), torch.cat([seen, strangers]), torch.cat([flat, first[:, 1]]))
    refined, logit = found[: n * k, :4], found[:, 4]
    truth, there = centred.repeat_interleave(k, 0), present.repeat_interleave(k, 0)
    before, after = generalised_iou(flat, truth)[0], generalised_iou(refined, truth)
    close = there & (before > LEAST_OVERLAP)
    loss = seen.sum() * 0
    if close.any():
        loss = loss + 2 * (1 - after[1][close]).mean() + 0.5 * _moves(flat, refined, truth)[close].mean()
    right = torch.where(there, ((after[0].detach() - WRONG) / (RIGHT - WRONG)).clamp(0, 1), 0.0)
    loss = loss + F.binary_cross_entropy_with_logits(logit[: n * k], right)
    if n > 1:
        loss = loss + 0.3 * F.binary_cross_entropy_with_logits(logit[n * k :], torch.zeros_like(logit[n * k :]))
    peaks = close.view(n, k)[:, 0]
    said = {"refine": float(loss.detach())}
    for name, iou in (("peak_iou", before), ("refined_iou", after[0])):
        said[name] = float(iou.detach().view(n, k)[:, 0][peaks].mean()) if peaks.any() else 0.0
    return loss, said


def _moves(first: Tensor, refined: Tensor, truth: Tensor) -> Tensor:
    """(M,) smooth L1 of how boxes moved and stretched against how they should have."""

    def moves(to: Tensor) -> Tensor:
        stretch = (to[:, 2:].clamp(min=1.0) / first[:, 2:]).log()
        return torch.cat([(to[:, :2] - first[:, :2]) / first[:, 2:], stretch], dim=1)

    return F.smooth_l1_loss(moves(refined), moves(truth), beta=0.1, reduction="none").sum(1)
