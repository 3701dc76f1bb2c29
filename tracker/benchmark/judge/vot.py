"""Measures of the VOT challenges, as the VOT toolkit computes them: accuracy, robustness, EAO, long-term F.

Overlaps are those of the toolkit, too: regions rounded to whole pixels and cut to the image. Rotated truth (VOT 2015
to 2019) is judged by its polygons, see `polygons`; masks by their upright boxes, as in the box challenges.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.benchmark.judge import polygons
from tracker.benchmark.judge.certainty import Measure, ratio_of
from tracker.benchmark.judge.metrics import pair
from tracker.benchmark.judge.polygons import Size
from tracker.footage.files import Floats, present

BURN_IN = 10  # frames after a start, with it, that the accuracy of supervised runs leaves out


def overlaps(predicted: ArrayLike, truth: ArrayLike, size: Size) -> Floats:
    """Return the overlap of each frame as the VOT toolkit draws it, (N,) in [0, 1].

    predicted, truth: (N, 4) x, y, w, h in px; a row that is not finite or has no area says that there is no target. Two
    such rows agree: overlap 1. truth may also be (N, K, 2) corners.
    ValueError: shapes differ or are not (N, 4).
    """
    if np.ndim(truth) == 3:
        return polygons.overlaps(predicted, truth, size)
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
    per_100: failures in 100 frames, as VOT's papers before 2020 print robustness; NaN for anchors.
    measures: eao, accuracy, robustness and per_100 for any draw of the sequences, see `certainty`.
    """

    accuracy: float
    robustness: float
    failures: int
    eao: float
    per_100: float
    measures: dict[str, Measure]


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
    burn_in: int = BURN_IN,
) -> VotScore:
    """Return accuracy, robustness and EAO of supervised runs (VOT 2015 to 2019).

    boxes, states, truths, sizes: a (N, 4), (N,), (N, 4) and image size for each sequence; states as in `results`: 0
        tracked, 1 started, 2 failed, 3 skipped, 4 tracked and said to be lost.
    interval: first and last fragment length of the EAO, frames, both counted; None takes `eao_interval`. Lengths that
        no fragment reaches are left out, as in the toolkit, unless none reaches any.
    burn_in: see `BURN_IN`.
    """
    accuracies, counts, weights = [], [], []
    fragments: list[list[tuple[Floats, bool]]] = []
    for predicted, state, truth, size in zip(boxes, states, truths, sizes, strict=True):
        codes = np.asarray(state, int)
        found = overlaps(predicted, truth, size)
        starts, fails = np.flatnonzero(codes == 1), np.flatnonzero(codes == 2)
        counted = counted_frames(codes, truth, burn_in)
        accuracies.append(float(found[counted].mean()) if counted.any() else 0.0)
        counts.append(len(fails) if len(starts) else 1)  # a tracker that never began has failed at once
        weights.append(len(codes))
        parts = [(found[start:end], end is None) for start, end in itertools.zip_longest(starts, fails)]
        fragments.append(parts or [(np.zeros(1), False)])
    low, high = interval or eao_interval(weights)
    longest = max(len(values) for parts in fragments for values, _ in parts)
    length = min(high + 1, longest) if longest > low else high + 1
    curves = [eao_sums(parts, length, 0) for parts in fragments]
    failures, frames = np.array(counts, float), np.array(weights, float)
    measures = {
        "eao": _eao([sums for sums, _ in curves], [active for _, active in curves], low, reached=True),
        "accuracy": ratio_of(np.multiply(accuracies, frames), frames),
        "robustness": ratio_of(failures * frames, frames),
        "per_100": ratio_of(100 * failures, frames),
    }
    return _score(measures, len(weights), sum(counts))


def counted_frames(states: ArrayLike, truth: ArrayLike, burn_in: int = BURN_IN) -> NDArray[np.bool_]:
    """Return the frames of a supervised run over which accuracy is the mean overlap, (N,)."""
    codes = np.asarray(states, int)
    counted = np.isin(codes, (0, 4)) & _visible(truth)
    for start in np.flatnonzero(codes == 1):
        counted[start : start + burn_in] = False
    return counted


class Tagged(NamedTuple):
    """The frames to which a tag applies: how many count, their mean overlap, and the failures in them."""

    frames: int
    overlap: float
    failures: int


UNTAGGED = "no tag"


def by_tag(
    boxes: Sequence[Floats],
    states: Sequence[NDArray[np.int64]],
    truths: Sequence[Floats],
    sizes: Sequence[Size],
    tags: Sequence[Mapping[str, NDArray[np.bool_]]],
) -> dict[str, Tagged]:
    """Pool the counted frames of supervised runs by tag, as VOT's papers do; `UNTAGGED` where a frame has none.

    tags: by name, (N,) bool, for each sequence; those without are left out. The others: as for `supervised`.
    """
    found: dict[str, list[tuple[Floats, int]]] = defaultdict(list)
    for predicted, state, truth, size, named in zip(boxes, states, truths, sizes, tags, strict=True):
        if named:
            found_here, counted = overlaps(predicted, truth, size), counted_frames(state, truth)
            none = ~np.any(list(named.values()), axis=0)
            for name, where in {**named, UNTAGGED: none}.items():
                found[name].append((found_here[counted & where], int((where & (state == 2)).sum())))
    table = {}
    for name, rows in sorted(found.items()):
        pooled = np.concatenate([values for values, _ in rows])
        mean = float(pooled.mean()) if pooled.size else math.nan
        table[name] = Tagged(len(pooled), mean, sum(failures for _, failures in rows))
    return table


def _score(measures: dict[str, Measure], sequences: int, failures: int) -> VotScore:
    every = np.ones((1, sequences))
    read = {name: float(measure(every)[0]) for name, measure in measures.items()}
    return VotScore(
        read["accuracy"], read["robustness"], failures, read["eao"], read.get("per_100", math.nan), measures
    )


def _eao(sums: Sequence[Floats], active: Sequence[Floats], low: int, reached: bool) -> Measure:
    """Return the EAO: the mean over fragment lengths from `low` on of the mean over fragments.

    sums, active: (L,) of each sequence, see `eao_sums`. reached: leave out lengths that no fragment of a draw reaches.
    """
    above, below = np.array(sums)[:, low:], np.array(active)[:, low:]

    def measure(drawn: Floats) -> Floats:
        number = drawn @ below
        curve = (drawn @ above) / np.maximum(number, 1)
        counted = (number > 0) | ((number <= 0).all(axis=1, keepdims=True) if reached else True)
        total = counted.sum(axis=1)
        return np.where(total > 0, (curve * counted).sum(axis=1) / np.maximum(total, 1), np.nan)

    return measure


def _visible(truth: ArrayLike) -> NDArray[np.bool_]:
    return np.isfinite(np.asarray(truth, float)).all(axis=(1, 2)) if np.ndim(truth) == 3 else present(truth)


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
    accuracies, good, rates, curves = [], [], [], []
    for runs, run_truths, size in zip(boxes, truths, sizes, strict=True):
        frames = tracked = 0
        total = 0.0
        fragments = []
        for predicted, truth in zip(runs, run_truths, strict=True):
            found = overlaps(predicted, truth, size)
            found[0] = 0.0
            progress = _progress(found, _visible(truth), threshold, grace)
            failures += progress < len(found)
            frames, tracked = frames + len(found), tracked + progress
            total += float(found[:progress].sum())
            fragments.append((np.where(np.arange(len(found)) < progress, found, 0.0), progress == len(found)))
        accuracies.append(total / tracked if tracked else 0.0)
        good.append(tracked)
        rates.append(tracked / frames)
        curves.append(eao_sums(fragments, high, 1))
    tracked_frames, weights = np.array(good, float), np.array(lengths, float)
    measures = {
        "eao": _eao([sums for sums, _ in curves], [active for _, active in curves], low, reached=False),
        "accuracy": _or_zero(ratio_of(np.multiply(accuracies, tracked_frames), tracked_frames)),
        "robustness": ratio_of(np.multiply(rates, weights), weights),
    }
    return _score(measures, len(weights), int(failures))


def _or_zero(measure: Measure) -> Measure:
    """Return a measure that reads 0 where there is nothing to read."""
    return lambda drawn: np.nan_to_num(measure(drawn))


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
    """Best F over all confidence thresholds, precision, recall and threshold there, and the two curves, (T,) each.

    measures: f, precision and recall for any draw of the sequences, see `certainty`.
    """

    f: float
    precision: float
    recall: float
    threshold: float
    precisions: Floats
    recalls: Floats
    measures: dict[str, Measure]


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
    precise, recalled = np.zeros((len(runs), len(limits))), np.zeros((len(runs), len(limits)))
    for row, (found, trust, visible) in enumerate(runs):
        for index, limit in enumerate(limits):
            sure = trust >= limit
            precise[row, index] = found[sure].mean() if sure.any() else 1.0
            recalled[row, index] = found[sure].sum() / visible
    names = ("f", "precision", "recall")
    measures = {name: _at_best(precise, recalled, place) for place, name in enumerate(names)}
    precisions, recalls = precise.mean(axis=0), recalled.mean(axis=0)
    best = int(np.argmax(_f(precisions, recalls)))
    f, precision, recall = (float(measures[name](np.ones((1, len(runs))))[0]) for name in names)
    return LongTermScore(f, precision, recall, float(limits[best]), precisions, recalls, measures)


def _f(precision: Floats, recall: Floats) -> Floats:
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def _at_best(precise: Floats, recalled: Floats, place: int) -> Measure:
    """Return F (place 0), precision (1) or recall (2) at the threshold of the best F; precise, recalled: (S, T)."""

    def measure(drawn: Floats) -> Floats:
        count = drawn.sum(axis=1, keepdims=True)
        precision, recall = drawn @ precise / count, drawn @ recalled / count
        curves = (_f(precision, recall), precision, recall)
        best = np.argmax(curves[0], axis=1)
        return curves[place][np.arange(len(drawn)), best]

    return measure


def confidence_thresholds(scores: Floats, resolution: int) -> Floats:
    """Return thresholds from infinity down to minus infinity, the others evenly spread over the ranked scores."""
    ranked = np.sort(scores)[::-1]
    if len(ranked) > resolution - 2:
        step = len(ranked) // (resolution - 2)
        ranked = ranked[np.round(np.linspace(step, len(ranked) - step, resolution - 2)).astype(int)]
    return np.concatenate([[np.inf], ranked, [-np.inf]])
