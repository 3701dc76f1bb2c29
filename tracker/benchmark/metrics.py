"""Tracking measures in numpy: overlap, success, precision, normalised precision, average overlap.

Rule of the success curve, stated once and never mixed in one table:

- ``"inclusive"`` (ours): a frame succeeds at threshold t when IoU >= t and the boxes overlap at all. A perfect run
  reads 1.0, a run that never touches the target reads 0.0. Rounding below 1e-9 does not cost a success.
- ``"otb"`` (Wu, Lim, Yang, CVPR 2013, and the toolkits after it): IoU > t strictly. A perfect run reads 20/21 = 0.952.

Frames where the target is absent (a truth box that is not finite or has no area) are left out of every measure. A
predicted box that is not finite counts as a failure: IoU 0, centre error infinite.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rule = Literal["inclusive", "otb"]
Floats = NDArray[np.float64]

SUCCESS_THRESHOLDS: Floats = np.linspace(0, 1, 21)
PRECISION_THRESHOLDS: Floats = np.arange(0, 51, dtype=float)
NORMALISED_THRESHOLDS: Floats = np.arange(0, 51) / 100
ROUNDING = 1e-9


def as_boxes(boxes: ArrayLike, name: str = "boxes") -> Floats:
    """Return boxes as (N, 4) float64; ValueError names a wrong shape."""
    array = np.asarray(boxes, dtype=np.float64)
    if array.ndim == 1 and array.size in (0, 4):
        array = array.reshape(-1, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name}: expected shape (N, 4) of x, y, w, h, got {array.shape}")
    return array


def present(truth: ArrayLike) -> NDArray[np.bool_]:
    """Return (N,) True where a truth box is finite and has an area, False where the target is absent."""
    boxes = as_boxes(truth, "truth")
    with np.errstate(invalid="ignore"):
        return np.isfinite(boxes).all(axis=1) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)


def _pair(predicted: ArrayLike, truth: ArrayLike) -> tuple[Floats, Floats]:
    a, b = as_boxes(predicted, "predicted"), as_boxes(truth, "truth")
    if len(a) != len(b):
        raise ValueError(f"{len(a)} predicted boxes for {len(b)} truth boxes: they must be one a frame")
    return a, b


def iou(predicted: ArrayLike, truth: ArrayLike, bound: tuple[float, float] | None = None) -> Floats:
    """Return the intersection over union of each frame, (N,) in [0, 1], NaN where the target is absent.

    predicted: (N, 4) x, y, w, h in px; a row that is not finite or has no area gives 0.
    truth: (N, 4), same frame of reference; a row that is not finite or has no area is an absent target and gives NaN.
    bound: (width, height) of the image in px, or None. Clips both boxes exactly as the GOT-10k toolkit does: a corner
        left of the image moves to 0 and the width stays.
    ValueError: shapes differ or are not (N, 4).
    """
    a, b = _pair(predicted, truth)
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


def _clip_got10k(boxes: Floats, bound: tuple[float, float]) -> Floats:
    corner = np.clip(boxes[:, :2], 0, bound)
    return np.hstack([corner, np.clip(boxes[:, 2:], 0, np.asarray(bound, float) - corner)])


def center_error(predicted: ArrayLike, truth: ArrayLike) -> Floats:
    """Return the distance between box centres, (N,) px.

    predicted, truth: (N, 4) x, y, w, h in px. Infinite for a failed prediction, NaN where the target is absent.
    ValueError: shapes differ or are not (N, 4).
    """
    a, b = _pair(predicted, truth)
    return _distance(a, b, np.ones((len(b), 2)))


def normalised_center_error(predicted: ArrayLike, truth: ArrayLike) -> Floats:
    """Return the centre distance with x in units of the truth width and y of its height (TrackingNet, ECCV 2018), (N,).

    predicted, truth: (N, 4) x, y, w, h in px. Infinite for a failed prediction, NaN where the target is absent.
    ValueError: shapes differ or are not (N, 4).
    """
    a, b = _pair(predicted, truth)
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


def success_curve(ious: ArrayLike, rule: Rule = "inclusive", thresholds: ArrayLike = SUCCESS_THRESHOLDS) -> Floats:
    """Return the share of frames that succeed at each threshold, (T,) in [0, 1].

    ious: (N,) in [0, 1]; NaN frames are left out. No frame left gives NaN.
    rule: "inclusive" (perfect run 1.0) or "otb" (strict, perfect run 0.952), see the module.
    thresholds: (T,) in [0, 1], 0, 0.05 .. 1 by default.
    ValueError: unknown rule, or values outside [0, 1].
    """
    values = _kept(ious)
    if values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError(f"IoU must lie in [0, 1], got {values.min():g} to {values.max():g}")
    limits = np.asarray(thresholds, float)[None, :]
    if rule == "inclusive":
        reached = (values[:, None] >= limits - ROUNDING) & (values[:, None] > 0)
    elif rule == "otb":
        reached = values[:, None] > limits
    else:
        raise ValueError(f'rule must be "inclusive" or "otb", got {rule!r}')
    return _share(reached)


def success_auc(ious: ArrayLike, rule: Rule = "inclusive") -> float:
    """Return the mean of the success curve over the 21 thresholds 0, 0.05 .. 1; arguments as `success_curve`."""
    return float(np.mean(success_curve(ious, rule)))


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
    """Return TrackingNet's normalised precision, the mean of the curve over 0, 0.01 .. 0.5."""
    return float(np.mean(normalised_precision_curve(errors)))


def average_overlap(ious: ArrayLike) -> float:
    """Return GOT-10k's AO, the mean IoU of one sequence without its first frame, which is given.

    ious: (N,) of the whole sequence; NaN frames are left out. No frame left gives NaN.
    """
    values = _kept(np.asarray(ious, float)[1:])
    return float(values.mean()) if values.size else float("nan")


def success_rate_50(ious: ArrayLike) -> float:
    """Return GOT-10k's SR0.5, the share of frames after the first with IoU > 0.5 (strict, as published)."""
    return success_rate(np.asarray(ious, float)[1:], 0.5)


def success_rate_75(ious: ArrayLike) -> float:
    """Return GOT-10k's SR0.75, the share of frames after the first with IoU > 0.75 (strict, as published)."""
    return success_rate(np.asarray(ious, float)[1:], 0.75)


def success_rate(ious: ArrayLike, threshold: float) -> float:
    """Return the share of frames with IoU > threshold; ious: (N,), only NaN frames are left out."""
    return float(_share(_kept(ious)[:, None] > threshold)[0])


def _kept(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[~np.isnan(array)]


def _share(hits: NDArray[np.bool_]) -> Floats:
    return np.mean(hits, axis=0) if len(hits) else np.full(hits.shape[1], np.nan)


# --- VOT and long-term measures --------------------------------------------------------------------------------------


class VotScore(NamedTuple):
    """Measures of one tracker over a VOT data set.

    accuracy: mean overlap while tracking, [0, 1]. failures: restarts in all (supervised), or runs that ended in a
    failure (anchors). robustness: failures a sequence, weighted by its length (supervised, less is better), or the
    share of frames before the failure (anchors, [0, 1], more is better). eao: expected average overlap, [0, 1].
    """

    accuracy: float
    robustness: float
    failures: int
    eao: float


def eao_interval(lengths: Sequence[int]) -> tuple[int, int]:
    """Return the quartiles of the sequence lengths, less the first frame: the EAO interval where none is published."""
    low, high = np.percentile(np.asarray(lengths) - 1, [25, 75])
    return max(1, int(low)), max(1, int(high))


def vot_supervised(
    boxes: Sequence[ArrayLike],
    states: Sequence[ArrayLike],
    truths: Sequence[ArrayLike],
    interval: tuple[int, int] | None = None,
    burn_in: int = 10,
) -> VotScore:
    """Return accuracy, robustness and EAO of supervised runs (VOT 2015 to 2019, as the VOT toolkit computes them).

    boxes, states, truths: a (N, 4), (N,) and (N, 4) for each sequence; states as in `results`: 0 tracked, 1 started,
        2 failed, 3 skipped. Overlaps are not clipped to the image.
    interval: first and last fragment length of the EAO, frames; None takes `eao_interval`.
    burn_in: frames after a start, with it, that accuracy leaves out.
    """
    accuracies, counts, weights = [], [], []
    fragments: list[tuple[Floats, bool]] = []
    for predicted, state, truth in zip(boxes, states, truths, strict=True):
        codes = np.asarray(state, int)
        overlaps = np.nan_to_num(iou(predicted, truth))
        starts, fails = np.flatnonzero(codes == 1), np.flatnonzero(codes == 2)
        counted = (codes == 0) & present(truth)
        for start in starts:
            counted[start : start + burn_in] = False
        accuracies.append(float(overlaps[counted].mean()) if counted.any() else 0.0)
        counts.append(len(fails))
        weights.append(len(codes))
        for start, end in itertools.zip_longest(starts, fails):
            fragments.append((overlaps[start:end], end is None))
    low, high = interval or eao_interval(weights)
    accuracy, robustness = np.average(accuracies, weights=weights), np.average(counts, weights=weights)
    sums, active = _eao_sums(fragments, high + 1, 0)
    return VotScore(float(accuracy), float(robustness), sum(counts), _eao(sums, active, low))


def vot_anchors(
    boxes: Sequence[Sequence[ArrayLike]],
    truths: Sequence[Sequence[ArrayLike]],
    interval: tuple[int, int] | None = None,
    threshold: float = 0.1,
    grace: int = 10,
) -> VotScore:
    """Return accuracy, robustness and EAO of runs from anchors (VOT 2020 and later, as the VOT toolkit computes them).

    boxes, truths: for each sequence a list of (N, 4), one for each anchor, in the order in which the run saw frames.
    threshold, grace: a run fails where the overlap stays at or below the threshold for so many frames.
    The given first frame counts with overlap 0, as in the toolkit.
    """
    lengths = [max(len(np.asarray(run)) for run in runs) for runs in truths]
    low, high = interval or eao_interval(lengths)
    failures = 0
    accuracies, good, robustnesses = [], [], []
    curve, active = np.zeros(high + 1), np.zeros(high + 1)
    for runs, run_truths, length in zip(boxes, truths, lengths, strict=True):
        frames = tracked = 0
        overlap_sum = 0.0
        fragments = []
        for predicted, truth in zip(runs, run_truths, strict=True):
            overlaps = np.nan_to_num(iou(predicted, truth))
            overlaps[0] = 0.0
            progress = _progress(overlaps, present(truth), threshold, grace)
            failures += progress < len(overlaps)
            frames, tracked = frames + len(overlaps), tracked + progress
            overlap_sum += float(overlaps[:progress].sum())
            fragments.append((np.where(np.arange(len(overlaps)) < progress, overlaps, 0.0), progress == len(overlaps)))
        accuracies.append(overlap_sum / tracked if tracked else 0.0)
        good.append(tracked)
        robustnesses.append((tracked / frames, length))
        sums, number = _eao_sums(fragments, high + 1, 1)
        curve, active = curve + sums, active + number
    rates, weights = zip(*robustnesses, strict=True)
    accuracy = np.average(accuracies, weights=good) if sum(good) else 0.0
    robustness = np.average(rates, weights=weights)
    return VotScore(float(accuracy), float(robustness), int(failures), _eao(curve, active, low))


def _progress(overlaps: Floats, there: NDArray[np.bool_], threshold: float, grace: int) -> int:
    """Return the frame at which a run failed, or its length."""
    left = grace
    for index, value in enumerate(overlaps):
        left = left - 1 if value <= threshold and there[index] else grace
        if left == 0:
            return index + 1 - grace
    return len(overlaps)


def _eao_sums(fragments: Sequence[tuple[Floats, bool]], length: int, less: int) -> tuple[Floats, Floats]:
    """Sum, at each fragment length, the mean overlap since the start; a failed fragment goes on with zeros.

    less: what the toolkit's anchor measure takes off the count of frames after the end of a failed run.
    """
    sums, active = np.zeros(length), np.zeros(length)
    for overlaps, finished in fragments:
        total = np.cumsum(overlaps[1:])
        inside = min(length, len(overlaps))
        sums[1:inside] += total[: inside - 1] / np.arange(1, inside)
        active[1:inside] += 1
        if not finished and inside < length:
            after = np.arange(inside, length)
            sums[inside:] += (total[-1] if total.size else 0.0) / np.maximum(after - less, 1)
            active[inside:] += 1
    return sums, active


def _eao(sums: Floats, active: Floats, low: int) -> float:
    """Average the curve from `low` on, over the lengths that any run reaches; NaN when none does."""
    reached = np.flatnonzero(active[low:]) + low
    return float(np.mean(sums[reached] / active[reached])) if reached.size else float("nan")


class LongTermScore(NamedTuple):
    """Best F over all confidence thresholds, with precision, recall and the threshold there."""

    f: float
    precision: float
    recall: float
    threshold: float


def long_term(
    boxes: Sequence[ArrayLike], scores: Sequence[ArrayLike], truths: Sequence[ArrayLike], steps: int = 100
) -> LongTermScore:
    """Return the long-term measure of Lukezic et al. (2018), used by VOT-LT: the best F over confidence thresholds.

    Precision is the mean overlap over the frames with a confident box (0 where the target is absent), recall the
    overlap summed over those frames a frame with a visible target; both are averaged over sequences. The given first
    frame is left out. A box that is not finite is no answer; a missing score is full confidence.
    boxes, scores, truths: a (N, 4), (N,) and (N, 4) for each sequence.
    steps: thresholds tried, evenly spread over the ranked scores.
    """
    runs = []
    for predicted, score, truth in zip(boxes, scores, truths, strict=True):
        overlaps = np.nan_to_num(iou(predicted, truth))[1:]
        trust = np.nan_to_num(np.asarray(score, float), nan=1.0)[1:]
        answered = np.all(np.isfinite(as_boxes(predicted)), axis=1)[1:]
        trust = np.where(answered, trust, -np.inf)
        runs.append((overlaps, trust, int(present(truth)[1:].sum())))
    ranked = np.sort(np.concatenate([trust[np.isfinite(trust)] for _, trust, _ in runs] or [np.empty(0)]))
    if not ranked.size:
        return LongTermScore(0.0, 0.0, 0.0, float("nan"))
    best = LongTermScore(-1.0, 0.0, 0.0, float("nan"))
    for limit in np.unique(ranked[np.linspace(0, len(ranked) - 1, min(steps, len(ranked))).astype(int)]):
        rates = []
        for overlaps, trust, visible in runs:
            sure = trust >= limit
            total = overlaps[sure].sum()
            rates.append((total / sure.sum() if sure.any() else 1.0, total / visible if visible else 0.0))
        precision, recall = np.mean(rates, axis=0).tolist()
        f = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        if f > best.f:
            best = LongTermScore(f, precision, recall, float(limit))
    return best
