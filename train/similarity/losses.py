"""Losses of pairs and triplets; each returns one value a row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(distance: Tensor, same: Tensor, margin: float) -> Tensor:
    """y d^2 + (1 - y) max(m - d, 0)^2 (Hadsell et al. 2006, equation 4, without its factor 1/2).

    distance: (N,) >= 0. same: (N,) 1 or 0. margin: m.
    """
    return same * distance.square() + (1 - same) * (margin - distance).clamp(min=0).square()


def triplet(positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """max(d(a, p) - d(a, n) + m, 0) (Weinberger & Saul 2009, with plain distances).

    positive, negative: (N,) distances from the anchors.
    """
    return (positive - negative + margin).clamp(min=0)


def squared_triplet(positive: Tensor, negative: Tensor, margin: float) -> Tensor:
    """max(d(a, p)^2 - d(a, n)^2 + m, 0) (Schroff et al. 2015, equation 3; there m = 0.2).

    positive, negative: (N,) distances from the anchors.
    """
    return (positive.square() - negative.square() + margin).clamp(min=0)


def bce(logits: Tensor, same: Tensor) -> Tensor:
    """Binary cross-entropy of sigmoid(logit) (Koch et al. 2015, section 3.2). logits: (N,). same: (N,) 1 or 0."""
    return F.binary_cross_entropy_with_logits(logits, same, reduction="none")


def n_way(scores: Tensor, labels: Tensor) -> Tensor:
    """log(1 + sum over k of exp(s_ak - s_ap)): cross-entropy of the choice of a partner p of the anchor a among all
    images k of other classes (Sohn 2016, equation 6, for any score).

    scores: (N, N), row a holds the raw scores of a and each image. labels: (N,) classes; -1 is no class, and no anchor.
    Returns a value for each ordered pair of one class.
    """
    same = labels[:, None] == labels
    foreign = scores.masked_fill(same, -torch.inf).logsumexp(1)
    anchor, partner = torch.nonzero((same & (labels >= 0)).fill_diagonal_(False), as_tuple=True)
    return F.softplus(foreign[anchor] - scores[anchor, partner])


def hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """max(1 - y o, 0) (Zagoruyko & Komodakis 2015, equation 1; the optimiser adds its L2 term).

    scores: (N,) o. labels: (N,) y, +1 same, -1 different.
    """
    return (1 - labels * scores).clamp(min=0)


def balanced_mean(values: Tensor, same: Tensor) -> Tensor:
    """Mean of the mean over same and the mean over different pairs; values, same: (N,), same 1 or 0, both present."""
    return ((values * same).sum() / same.sum() + (values * (1 - same)).sum() / (1 - same).sum()) / 2


def growing(begin: float, end: float, progress: float) -> float:
    """A margin after a share `progress` in [0, 1] of the run."""
    return begin + (end - begin) * min(max(progress, 0.0), 1.0)
