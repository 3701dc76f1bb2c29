"""Scores of finished runs: a tracker over a data set, and over each of its sequences.

A sequence counts once: the frames of its runs (TRE, SRE) are pooled first, as in the toolkit of OTB, and the first box,
which is given, counts as right. AO, SR0.5 and SR0.75 pool the frames of all sequences without the first, as GOT-10k
does. Latency is the time of `update` without decoding.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark import results
from tracker.benchmark.judge import metrics, vot
from tracker.benchmark.protocols import Part, Protocol
from tracker.benchmark.results import Run, Runs
from tracker.footage.files import Floats

LOST_OVERLAP, LOST_FRAMES = 0.1, 10
PERCENTILES = (50, 95, 99)
STAGES = {"update": "ms", "crop": "crop_ms", "network": "network_ms", "post": "post_ms"}


@dataclass
class SequenceScore:
    """Scores of one tracker on one sequence, over all its runs.

    losses: how often it lost the target; lost_at: frame of the first loss of its first run, or None. no_box: frames
    with a target and no box for it. error: what went wrong, or "".
    """

    success_auc: float
    precision_20: float
    normalised_precision_20: float
    average_overlap: float
    ms_p50: float
    losses: int
    lost_at: int | None
    no_box: int
    error: str


@dataclass
class TrackerScore:
    """Scores of one tracker over all sequences; NaN where a measure does not apply to the protocol.

    curves: by name, points as `metrics` spaces them. at_once: how many trackers ran at once when it was timed.
    """

    name: str
    spec: str
    success_auc: float
    success_rate_50: float
    precision_20: float
    normalised_precision_20: float
    normalised_precision_auc: float
    average_overlap: float
    got10k_sr50: float
    got10k_sr75: float
    confidence_auc: float
    long_term: dict[str, float]
    vot: dict[str, float]
    latency_ms: dict[str, dict[str, float]]
    at_once: list[str]
    files: dict[str, str]
    sequences: dict[str, SequenceScore] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)

    @property
    def losses(self) -> int:
        """Losses over all sequences."""
        return sum(row.losses for row in self.sequences.values())


def score_tracker(
    runs: Runs, protocol: Protocol, rule: metrics.Rule, eao: tuple[int, int] | None = None
) -> TrackerScore:
    """Score one tracker from its runs; eao: the interval of VOT's EAO, or None for `vot.eao_interval`."""
    curves: dict[str, list[Floats]] = defaultdict(list)
    pooled: list[Floats] = []
    by_sequence: dict[str, SequenceScore] = {}
    for name, parts in runs.by_sequence.items():
        found = [_judge(part, run) for part, run in parts]
        ious, errors, normalised, clipped = (np.concatenate(values) for values in zip(*found, strict=True))
        curves["success"].append(metrics.success_curve(ious, rule))
        curves["precision"].append(metrics.precision_curve(errors))
        curves["normalised_precision"].append(metrics.normalised_precision_curve(normalised))
        pooled.append(clipped[np.isfinite(clipped)])
        lost = [find_losses(part, run, protocol) for part, run in parts]
        by_sequence[name] = SequenceScore(
            float(curves["success"][-1].mean()),
            float(curves["precision"][-1][20]),
            float(curves["normalised_precision"][-1][20]),
            _mean(pooled[-1]),
            _percentile(np.concatenate([run.milliseconds() for _, run in parts]), 50),
            sum(len(frames) for frames in lost),
            next(iter(lost[0]), None),
            int(np.isinf(errors).sum()),
            next((run.error for _, run in parts if run.error), ""),
        )
    mean = {key: np.nanmean(np.array(rows), axis=0) for key, rows in curves.items()}
    frames = np.concatenate(pooled)
    every = [pair for parts in runs.by_sequence.values() for pair in parts]
    long = _long_term(every) if protocol == "longterm" else None
    if long:
        mean |= {"long_term_precision": long.precisions, "long_term_recall": long.recalls}
    measures = _vot(runs, protocol, eao)
    best = {key: getattr(long, key) for key in ("f", "precision", "recall", "threshold")} if long else {}
    return TrackerScore(
        runs.name,
        runs.spec,
        float(mean["success"].mean()),
        float(mean["success"][10]),
        float(mean["precision"][20]),
        float(mean["normalised_precision"][20]),
        float(mean["normalised_precision"].mean()),
        _mean(frames),
        _mean(frames > 0.5),
        _mean(frames > 0.75),
        _confidence(every),
        best,
        measures._asdict() if measures else {},
        _latency([run for _, run in every]),
        runs.at_once,
        runs.files,
        by_sequence,
        {key: value.tolist() for key, value in mean.items()},
    )


def _judge(part: Part, run: Run) -> tuple[Floats, Floats, Floats, Floats]:
    """Return IoU, centre error, normalised error of each frame, and GOT-10k's IoU of those after the first."""
    truth, boxes = part.sequence.boxes, run.boxes.copy()
    if run.states[0] == results.STARTED:
        boxes[0] = truth[0]
    return (
        metrics.iou(boxes, truth),
        metrics.center_error(boxes, truth),
        metrics.normalised_center_error(boxes, truth),
        metrics.iou(boxes, truth, bound=part.sequence.bound)[1:],
    )


def find_losses(part: Part, run: Run, protocol: Protocol) -> list[int]:
    """Return the frame of each loss of one run: the failures of a supervised run, else see `losses`."""
    if protocol == "supervised":
        return np.flatnonzero(run.states == results.FAILED).tolist()
    return losses(metrics.iou(run.boxes, part.sequence.boxes))


def losses(ious: Floats) -> list[int]:
    """Return each frame from which the overlap stays at or below 0.1 for 10 judged frames, or for 3 up to the end."""
    judged = np.flatnonzero(np.isfinite(ious))
    low = np.concatenate([[False], ious[judged] <= LOST_OVERLAP, [False]])
    begins, ends = np.flatnonzero(low[1:] & ~low[:-1]), np.flatnonzero(low[:-1] & ~low[1:])
    return [
        int(judged[begin])
        for begin, end in zip(begins, ends, strict=True)
        if end - begin >= LOST_FRAMES or (end == len(judged) and end - begin >= 3)
    ]


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else math.nan


def _percentile(values: Floats, percent: float) -> float:
    return float(np.percentile(values, percent)) if values.size else math.nan


def _latency(runs: list[Run]) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = {}
    for name, column in STAGES.items():
        times = np.concatenate([run.milliseconds(column) for run in runs])
        if times.size:
            stages[name] = {f"p{p}": _percentile(times, p) for p in PERCENTILES}
    starts = np.concatenate([run.rows[run.states == results.STARTED, 5] for run in runs])
    stages["init"] = {f"p{p}": _percentile(starts[np.isfinite(starts)], p) for p in PERCENTILES}
    return stages


def _confidence(every: list[tuple[Part, Run]]) -> float:
    ious = np.concatenate([metrics.iou(run.boxes, part.sequence.boxes)[1:] for part, run in every])
    return metrics.confidence_auc(np.concatenate([run.scores[1:] for _, run in every]), ious)


def _long_term(every: list[tuple[Part, Run]]) -> vot.LongTermScore:
    return vot.long_term(
        [run.boxes for _, run in every],
        [run.scores for _, run in every],
        [part.sequence.boxes for part, _ in every],
        [part.sequence.size() for part, _ in every],
    )


def _vot(runs: Runs, protocol: Protocol, interval: tuple[int, int] | None) -> vot.VotScore | None:
    groups = list(runs.by_sequence.values())
    if protocol not in ("supervised", "anchors"):
        return None
    sizes = [parts[0][0].sequence.size() for parts in groups]
    truths = [[part.sequence.boxes for part, _ in parts] for parts in groups]
    boxes = [[run.boxes for _, run in parts] for parts in groups]
    if protocol == "supervised":
        states = [parts[0][1].states for parts in groups]
        return vot.supervised([b[0] for b in boxes], states, [t[0] for t in truths], sizes, interval)
    return vot.anchors(boxes, truths, sizes, [parts[0][0].length for parts in groups], interval)
