"""Measures of the VOT challenges, as the VOT toolkit computes them: accuracy, robustness, EAO, long-term F.

Overlaps are those of the toolkit, too: boxes rounded to whole pixels and cut to the image. Data sets of polygons and
masks are judged by their upright boxes, as in the box challenges.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.benchmark.judge.metrics import pair
from tracker.footage.files import Floats, present

Size = tuple[int, int]  # width, height of the image, px


def overlaps(predicted: ArrayLike, truth: ArrayLike, size: Size) -> Floats:
    """Return the overlap of each frame as the VOT toolkit draws it, (N,) in [0, 1].

    predicted, truth: (N, 4) x, y, w, h in px; a row that is not finite or has no area says that there is no target. Two
    such rows agree: overlap 1.
    ValueError: shapes differ or are not (N, 4).
    """
    (first_a, last_a, a), (first_b, last_b, b) = (_pixels(boxes) for boxes in pair(predicted, truth))
    low, high = np.minimum(first_a, first_b), np.maximum(last_a, last_b)
    same = (low >= high).any(axis=1)
    low, high = np.maximum(low, 0), np.minimum(high, np.subtract(size, 1))
    outside = (low >= high).any(axis=1)

    def area(first: Floats, last: Floats, there: NDArray[np.bool_]) -> Floats:
        inside = np.minimum(last, high) - np.maximum(first, low) + 1
        return np.where(there, np.prod(np.maximum(inside, 0), axis=1), 0.0)

    shared = area(np.maximum(first_a, first_b), np.minimum(last_a, last_b), a & b)
    union = area(first_a, last_a, a) + area(first_b, last_b, b) - shared
    result = shared / np.maximum(union, 1)
    result[outside] = 0.0
    result[same] = 1.0
    return result


def _pixels(boxes: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the first and the last pixel of each box, (N, 2), 0 where there is none, and (N,) where there is one."""
    there = present(boxes)
    rounded: Floats = np.where(there[:, None], boxes, 0.0).round()
    return rounded[:, :2], np.where(there[:, None], rounded[:, :2] + rounded[:, 2:] - 1, 0.0), there


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


def supervised(
    boxes: Sequence[ArrayLike],
    states: Sequence[ArrayLike],
    truths: Sequence[ArrayLike],
    sizes: Sequence[Size],
    interval: tuple[int, int] | None = None,
    burn_in: int = 10,
) -> VotScore:
    """Return accuracy, robustness and EAO of supervised runs (VOT 2015 to 2019).

    boxes, states, truths, sizes: a (N, 4), (N,), (N, 4) and image size for each sequence; states as in `results`: 0
        tracked, 1 started, 2 failed, 3 skipped, 4 tracked and said to be lost.
    interval: first and last fragment length of the EAO, frames, both counted; None takes `eao_interval`. Lengths that
        no fragment reaches are left out, as in the toolkit, unless none reaches any.
    burn_in: frames after a start, with it, that accuracy leaves out.
    """
    accuracies, counts, weights = [], [], []
    fragments: list[tuple[Floats, bool]] = []
    for predicted, state, truth, size in zip(boxes, states, truths, sizes, strict=True):
        codes = np.asarray(state, int)
        found = overlaps(predicted, truth, size)
        starts, fails = np.flatnonzero(codes == 1), np.flatnonzero(codes == 2)
        counted = np.isin(codes, (0, 4)) & present(truth)
        for start in starts:
            counted[start : start + burn_in] = False
        accuracies.append(float(found[counted].mean()) if counted.any() else 0.0)
        counts.append(len(fails))
        weights.append(len(codes))
        for start, end in itertools.zip_longest(starts, fails):
            fragments.append((found[start:end], end is None))
    low, high = interval or eao_interval(weights)
    accuracy, robustness = np.average(accuracies, weights=weights), np.average(counts, weights=weights)
    longest = max(len(values) for values, _ in fragments)
    sums, active = eao_sums(fragments, min(high + 1, longest) if longest > low else high + 1, 0)
    eao = np.mean(sums[low:] / np.maximum(active[low:], 1))
    return VotScore(float(accuracy), float(robustness), sum(counts), float(eao))


def anchors(
    boxes: Sequence[Sequence[ArrayLike]],
    truths: Sequence[Sequence[ArrayLike]],
    sizes: Sequence[Size],
    lengths: Sequence[int],
    interval: tuple[int, int] | None = None,
    threshold: float = 0.1,
    grace: int = 10,
) -> VotScore:
    """Return accuracy, robustness and EAO of runs from anchors (VOT 2020 and later).

    boxes, truths: for each sequence a list of (N, 4), one for each anchor, in the order in which the run saw frames.
    sizes, lengths: image size and number of frames of each sequence.
    interval: the EAO averages its curve from the first up to the second, which is left out, as in the toolkit; lengths
        that no run reaches count 0. None takes `eao_interval`.
    threshold, grace: a run fails where the overlap stays at or below the threshold for so many frames.
    The given first frame counts with overlap 0, as in the toolkit.
    """
    low, high = interval or np.add(eao_interval(lengths), (0, 1)).tolist()
    failures = 0
    accuracies, good, rates = [], [], []
    curve, active = np.zeros(high), np.zeros(high)
    for runs, run_truths, size in zip(boxes, truths, sizes, strict=True):
        frames = tracked = 0
        total = 0.0
        fragments = []
        for predicted, truth in zip(runs, run_truths, strict=True):
            found = overlaps(predicted, truth, size)
            found[0] = 0.0
            progress = _progress(found, present(truth), threshold, grace)
            failures += progress < len(found)
            frames, tracked = frames + len(found), tracked + progress
            total += float(found[:progress].sum())
            fragments.append((np.where(np.arange(len(found)) < progress, found, 0.0), progress == len(found)))
        accuracies.append(total / tracked if tracked else 0.0)
        good.append(tracked)
        rates.append(tracked / frames)
        sums, number = eao_sums(fragments, high, 1)
        curve, active = curve + sums, active + number
    accuracy = np.average(accuracies, weights=good) if sum(good) else 0.0
    robustness = np.average(rates, weights=lengths)
    eao = np.mean((curve / np.maximum(active, 1))[low:]) if low < high else math.nan
    return VotScore(float(accuracy), float(robustness), int(failures), float(eao))


def _progress(found: Floats, there: NDArray[np.bool_], threshold: float, grace: int) -> int:
    """Return the frame at which a run failed, or its length."""
    left = grace
    for index, value in enumerate(found):
        left = left - 1 if value <= threshold and there[index] else grace
        if left == 0:
            return index + 1 - grace
    return len(found)


def eao_sums(fragments: Sequence[tuple[Floats, bool]], length: int, less: int) -> tuple[Floats, Floats]:
    """Sum, at each fragment length, the mean overlap since the start; a failed fragment goes on with zeros.

    fragments: (N,) overlaps from the start on, and whether the run was finished without a failure.
    less: what the toolkit's anchor measure takes off the count of frames after the end of a failed run.
    Returns sums and number of fragments, (length,) each.
    """
    sums, active = np.zeros(length), np.zeros(length)
    for values, finished in fragments:
        total = np.cumsum(values[1:])
        inside = min(length, len(values))
        sums[1:inside] += total[: inside - 1] / np.arange(1, inside)
        active[1:inside] += 1
        if not finished and inside < length:
            after = np.arange(max(inside, 1), length)
            sums[after] += (total[-1] if total.size else 0.0) / np.maximum(after - less, 1)
            active[after] += 1
    return sums, active


class LongTermScore(NamedTuple):
    """Best F over all confidence thresholds, precision, recall and threshold there, and the two curves, (T,) each."""

    f: float
    precision: float
    recall: float
    threshold: float
    precisions: Floats
    recalls: Floats


def long_term(
    boxes: Sequence[ArrayLike],
    scores: Sequence[ArrayLike],
    truths: Sequence[ArrayLike],
    sizes: Sequence[Size],
    resolution: int = 100,
) -> LongTermScore:
    """Return the long-term measure of Lukezic et al. (2018), used by VOT-LT: the best F over confidence thresholds.

    Precision is the mean overlap over the frames with a score at or above the threshold (0 where the target is absent
    and a box is given), recall the overlap summed over those frames a frame with a visible target; both are averaged
    over sequences. The given first frame counts with overlap 0 and a missing score is 0, as in the toolkit.
    boxes, scores, truths, sizes: a (N, 4), (N,), (N, 4) and image size for each sequence.
    resolution: thresholds tried, evenly spread over the ranked scores.
    """
    runs = []
    for predicted, score, truth, size in zip(boxes, scores, truths, sizes, strict=True):
        found = overlaps(predicted, truth, size)
        found[0] = 0.0
        runs.append((found, np.nan_to_num(np.asarray(score, float)), int(present(truth).sum())))
    limits = confidence_thresholds(np.concatenate([trust for _, trust, _ in runs]), resolution)
    precisions, recalls = np.zeros(len(limits)), np.zeros(len(limits))
    for found, trust, visible in runs:
        for index, limit in enumerate(limits):
            sure = trust >= limit
            precisions[index] += found[sure].mean() if sure.any() else 1.0
            recalls[index] += found[sure].sum() / visible
    precisions, recalls = precisions / len(runs), recalls / len(runs)
    f = 2 * precisions * recalls / np.maximum(precisions + recalls, 1e-12)
    best = int(np.argmax(f))
    at_best = [float(values[best]) for values in (f, precisions, recalls, limits)]
    return LongTermScore(at_best[0], at_best[1], at_best[2], at_best[3], precisions, recalls)


def confidence_thresholds(scores: Floats, resolution: int) -> Floats:
    """Return thresholds from infinity down to minus infinity, the others evenly spread over the ranked scores."""
    ranked = np.sort(scores)[::-1]
    if len(ranked) > resolution - 2:
        step = len(ranked) // (resolution - 2)
        ranked = ranked[np.round(np.linspace(step, len(ranked) - step, resolution - 2)).astype(int)]
    return np.concatenate([[np.inf], ranked, [-np.inf]])
