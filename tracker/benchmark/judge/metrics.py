"""Tracking measures in numpy: overlap, success, precision, normalised precision, average overlap.

Success of a frame at threshold t, never mixed in one table:

- ``"inclusive"`` (ours): IoU >= t, and the boxes overlap at all. A perfect run reads 1.0, a run that never touches the
  target reads 0.0. Rounding below 1e-9 does not cost a success.
- ``"strict"`` (Wu, Lim, Yang, CVPR 2013, and the toolkits after it): IoU > t. A perfect run reads 20/21 = 0.952.

Frames where the target is absent (a truth box that is not finite or has no area) are NaN here and left out; a predicted
box that is not finite has IoU 0 and an infinite centre error. What toolkits do instead is in `rules`.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.errors import InputError
from tracker.footage.files import Floats, as_boxes, present
from tracker.footage.sequence import Bound

Success = Literal["inclusive", "strict"]

SUCCESS_THRESHOLDS: Floats = np.linspace(0, 1, 21)
PRECISION_THRESHOLDS: Floats = np.arange(0, 51, dtype=float)
NORMALISED_THRESHOLDS: Floats = np.arange(0, 51) / 100
ROUNDING = 1e-9


def pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    """Return both as (N, 4) float64; ValueError: shapes differ or are not (N, 4)."""
    a, b = as_boxes(predicted, "predicted"), as_boxes(truth, "truth")
    if len(a) != len(b):
        raise InputError(f"{len(a)} predicted boxes for {len(b)} truth boxes: they must be one a frame")
    return a, b


def iou(predicted: ArrayLike, truth: ArrayLike, bound: Bound | None = None) -> Floats:
    """Return the intersection over union of each frame, (N,) in [0, 1], NaN where the target is absent.

    predicted: (N, 4) x, y, w, h in px; a row that is not finite or has no area gives 0.
    truth: (N, 4), same frame of reference; a row that is not finite or has no area is an absent target and gives NaN.
    bound: left, top, right, bottom px, or None. Clips both boxes exactly as the GOT-10k toolkit does: a corner left of
        the bound moves to it and the width stays.
    ValueError: shapes differ or are not (N, 4).
    """
    a, b = pair(predicted, truth)
    there = present(b)
    failed = ~present(a)
    a, b = np.where(failed[:, None], 0.0, a), np.where(there[:, None], b, 0.0)
    if bound is not None:
        a, b = _clip_got10k(a, bound), _clip_got10k(b, bound)
    low = np.maximum(a[:, :2], b[:, :2])
    high = np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - shared
    result = np.clip(shared / (union + np.finfo(float).eps), 0.0, 1.0)
    result[failed] = 0.0
    result[~there] = np.nan
    return result


def _clip_got10k(boxes: Floats, bound: Bound) -> Floats:
    low, high = np.asarray(bound[:2], float), np.asarray(bound[2:], float)
    corner = np.clip(boxes[:, :2], low, high)
    return np.hstack([corner, np.clip(boxes[:, 2:], 0, high - corner)])


def center_error(predicted: ArrayLike, truth: ArrayLike) -> Floats:
    """Return the distance between box centres, (N,) px.

    predicted, truth: (N, 4) x, y, w, h in px. Infinite for a failed prediction, NaN where the target is absent.
    ValueError: shapes differ or are not (N, 4).
    """
    a, b = pair(predicted, truth)
    return _distance(a, b, np.ones((len(b), 2)))


def normalised_center_error(predicted: ArrayLike, truth: ArrayLike) -> Floats:
    """Return the centre distance with x in units of the truth width and y of its height (TrackingNet, ECCV 2018), (N,).

    predicted, truth: (N, 4) x, y, w, h in px. Infinite for a failed prediction, NaN where the target is absent.
    ValueError: shapes differ or are not (N, 4).
    """
    a, b = pair(predicted, truth)
    return _distance(a, b, b[:, 2:])


def _distance(a: Floats, b: Floats, unit: Floats) -> Floats:
    there = present(b)
    failed = ~np.isfinite(a).all(axis=1)
    result = np.full(len(b), np.nan)
    result[there & failed] = np.inf
    ok = there & ~failed
    offset = (a[ok, :2] + a[ok, 2:] / 2) - (b[ok, :2] + b[ok, 2:] / 2)
    result[ok] = np.sqrt(np.sum((offset / unit[ok]) ** 2, axis=1))
    return result


def success_curve(
    ious: ArrayLike, success: Success = "inclusive", thresholds: ArrayLike = SUCCESS_THRESHOLDS
) -> Floats:
    """Return the share of frames that succeed at each threshold, (T,) in [0, 1].

    ious: (N,) in [0, 1]; NaN frames are left out. No frame left gives NaN.
    success: "inclusive" (a perfect run reads 1.0) or "strict" (0.952), see the module.
    thresholds: (T,) in [0, 1], 0, 0.05 .. 1 by default.
    ValueError: an unknown word, or values outside [0, 1].
    """
    values = _kept(ious)
    if values.size and (values.min() < 0 or values.max() > 1):
        raise InputError(f"IoU must lie in [0, 1], got {values.min():g} to {values.max():g}")
    limits = np.asarray(thresholds, float)[None, :]
    if success == "inclusive":
        reached = (values[:, None] >= limits - ROUNDING) & (values[:, None] > 0)
    elif success == "strict":
        reached = values[:, None] > limits
    else:
        raise InputError(f'success must be "inclusive" or "strict", got {success!r}')
    return _share(reached)


def success_auc(ious: ArrayLike, success: Success = "inclusive") -> float:
    """Return the mean of the success curve over the 21 thresholds 0, 0.05 .. 1; arguments as `success_curve`."""
    return float(np.mean(success_curve(ious, success)))


def precision_curve(errors: ArrayLike, thresholds: ArrayLike = PRECISION_THRESHOLDS) -> Floats:
    """Return the share of frames with a centre error <= each threshold, (T,) in [0, 1].

    errors: (N,) px (or the normalised error); NaN frames are left out. No frame left gives NaN.
    thresholds: (T,), 0, 1 .. 50 px by default.
    """
    return _share(_kept(errors)[:, None] <= np.asarray(thresholds, float)[None, :])


def precision_20(errors: ArrayLike) -> float:
    """Return the share of frames whose centre error is at most 20 px; errors: (N,) px."""
    return float(precision_curve(errors, [20.0])[0])


def normalised_precision_curve(errors: ArrayLike) -> Floats:
    """Return the share of frames within 0, 0.01 .. 0.5 of normalised centre error, (51,)."""
    return precision_curve(errors, NORMALISED_THRESHOLDS)


def normalised_precision_20(errors: ArrayLike) -> float:
    """Return LaSOT's normalised precision, the share of frames with a normalised centre error at most 0.2."""
    return float(precision_curve(errors, [0.2])[0])


def normalised_precision_auc(errors: ArrayLike) -> float:
    """Return the mean of the curve of normalised precision over 0, 0.01 .. 0.5."""
    return float(np.mean(normalised_precision_curve(errors)))


class TrackingNet(NamedTuple):
    """The three measures of TrackingNet's devkit, each the area under a curve of 21 points, [0, 1]."""

    success: float
    precision: float
    normalised_precision: float


def trackingnet(predicted: ArrayLike, truth: ArrayLike) -> TrackingNet:
    """Return the measures of TrackingNet's devkit (metrics.py): boxes rounded to whole pixels, trapezes over 21 points.

    predicted, truth: (N, 4) x, y, w, h in px as they are in the files; absent targets are left out, and a predicted box
    that is not finite counts as 0, 0, 0, 0. The first frame is given. The precisions run over 0 to 50 px and 0 to 0.5.
    ValueError: shapes differ or are not (N, 4).
    """
    a, b = pair(predicted, truth)
    there = present(b)
    a, b = np.where(np.isfinite(a), a, 0.0).round()[there], b.round()[there]
    if not len(b):
        return TrackingNet(*[float("nan")] * 3)
    if there[0]:
        a[0] = b[0]
    b[:, 2:] = np.maximum(b[:, 2:], 1)  # a target thinner than half a pixel is divided by
    apart = (a[:, :2] + a[:, 2:] / 2) - (b[:, :2] + b[:, 2:] / 2)
    curves = (
        success_curve(iou(a, b), "strict"),
        precision_curve(np.hypot(*apart.T), np.linspace(0, 50, 21)),
        precision_curve(np.hypot(*(apart / b[:, 2:]).T), np.linspace(0, 0.5, 21)),
    )
    return TrackingNet(*(float((curve[1:] + curve[:-1]).mean() / 2) for curve in curves))


def average_overlap(ious: ArrayLike) -> float:
    """Return GOT-10k's AO, the mean IoU of one sequence without its first frame, which is given.

    ious: (N,) of the whole sequence; NaN frames are left out. No frame left gives NaN.
    """
    values = _kept(np.asarray(ious, float)[1:])
    return float(values.mean()) if values.size else float("nan")


def success_rate_50(ious: ArrayLike) -> float:
    """Return GOT-10k's SR0.5, the share of frames after the first with IoU > 0.5 (strict, as published)."""
    return success_rate(np.asarray(ious, float)[1:], 0.5)


def success_rate(ious: ArrayLike, threshold: float) -> float:
    """Return the share of frames with IoU > threshold; ious: (N,), only NaN frames are left out."""
    return float(_share(_kept(ious)[:, None] > threshold)[0])


def _kept(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[~np.isnan(array)]


def _share(hits: NDArray[np.bool_]) -> Floats:
    return np.mean(hits, axis=0) if len(hits) else np.full(hits.shape[1], np.nan)


def confidence_auc(scores: ArrayLike, ious: ArrayLike, hit: float = 0.5, miss: float = 0.1) -> float:
    """Return the chance that a frame on target has a higher score than a frame off target: how far a score can be used.

    scores: (N,); frames without a score are left out. ious: (N,), NaN where the target is absent.
    On target: IoU > hit. Off target: IoU <= miss, or the target is absent. 0.5 is a score that says nothing; ties count
    half. NaN when one of the two kinds is missing.
    """
    trust, overlap = np.asarray(scores, float).ravel(), np.asarray(ious, float).ravel()
    on = np.sort(trust[np.isfinite(trust) & (overlap > hit)])
    off = trust[np.isfinite(trust) & ~(overlap > miss)]
    if not on.size or not off.size:
        return float("nan")
    below, not_above = np.searchsorted(on, off, "left"), np.searchsorted(on, off, "right")
    return float(np.mean(len(on) - (below + not_above) / 2) / len(on))
