"""Scores of finished runs: a tracker over a data set, and over each of its sequences.

A sequence counts once: the frames of its runs (TRE, SRE, repeats) are pooled first, as in the toolkit of OTB. How a
frame is judged is the rule's (`rules`), how sure a mean is says `certainty`. AO, SR0.5 and SR0.75 pool the frames of
all sequences without the first, as GOT-10k does. Latency is the time of `update` without decoding.
"""

import math
from collections import defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark import results
from tracker.benchmark.judge import certainty, metrics, vot
from tracker.benchmark.judge.certainty import Difference, Interval, Measure, mean_of, ratio_of
from tracker.benchmark.judge.fates import said_lost
from tracker.benchmark.judge.rules import Judged, Rule, judge
from tracker.benchmark.protocols import Part, Protocol
from tracker.benchmark.results import Run, Runs
from tracker.footage.files import Floats, present

LOST_OVERLAP, LOST_FRAMES = 0.1, 10
PERCENTILES = (50, 95, 99)
STAGES = {"update": "ms", "crop": "crop_ms", "network": "network_ms", "post": "post_ms"}


@dataclass
class SequenceScore:
    """Scores of one tracker on one sequence, over all its runs.

    losses: how often it lost the target; lost_at: frame of the first loss of its first run, or None. no_box: frames
    with a target and no box for it. error: what went wrong, or ""; note: what was put right, or "". seen: share of the
    frames that it processed.
    """

    success_auc: float
    precision_20: float
    normalised_precision_20: float
    average_overlap: float
    ms_p50: float
    losses: int
    lost_at: int | None
    no_box: int
    seen: float
    error: str
    note: str


@dataclass
class TrackerScore:
    """Scores of one tracker over all sequences; NaN where a measure does not apply to the protocol.

    values: every measure by name. intervals: of those over sequences. difference: from the tracker it is held against,
    or None. curves: by name, points as `metrics` spaces them; success: the success curve of each sequence. judged:
    sequences with a truth. at_once: how many trackers ran at once when it was timed; load: the highest load a core
    then. best: measures on which it is distinguishable from every other tracker. measures: for any draw of the
    sequences, see `certainty`. tags: by name, what it did in the frames that have a tag (VOT, supervised).
    """

    name: str
    spec: str
    values: dict[str, float]
    intervals: dict[str, Interval]
    latency_ms: dict[str, dict[str, float]]
    judged: int
    at_once: list[str]
    load: float
    files: dict[str, str]
    sequences: dict[str, SequenceScore] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    success: dict[str, list[float]] = field(default_factory=dict)
    tags: dict[str, vot.Tagged] = field(default_factory=dict)
    difference: Difference | None = None
    best: set[str] = field(default_factory=set)
    measures: dict[str, Measure] = field(default_factory=dict, repr=False)

    def document(self) -> dict[str, Any]:
        """Return all of it but the measures, as plain values."""
        found = asdict(self)
        found.pop("measures")
        found |= found.pop("values")
        found["best"] = sorted(self.best)
        found["intervals"] = {name: list(interval) for name, interval in self.intervals.items()}
        found["tags"] = {name: tagged._asdict() for name, tagged in self.tags.items()}
        found["difference"] = self.difference._asdict() if self.difference else None
        return found


def score_tracker(runs: Runs, protocol: Protocol, rule: Rule, eao: tuple[int, int] | None = None) -> TrackerScore:
    """Score one tracker from its runs; eao: the interval of VOT's EAO, or None for `vot.eao_interval`."""
    curves: dict[str, list[Floats]] = defaultdict(list)
    pooled: list[Floats] = []
    devkit: list[metrics.TrackingNet] = []
    by_sequence: dict[str, SequenceScore] = {}
    runs = replace(runs, by_sequence={n: [_without_cut(*pair) for pair in p] for n, p in runs.by_sequence.items()})
    for name, parts in runs.by_sequence.items():
        judged = [_judge(part, run, protocol, rule) for part, run in parts]
        overlap, error, normalised = (np.concatenate(values) for values in zip(*judged, strict=True))
        curves["success"].append(rule.success_curve(overlap))
        curves["precision"].append(metrics.precision_curve(error))
        curves["normalised_precision"].append(metrics.normalised_precision_curve(normalised))
        clipped = np.concatenate([_got10k(part, run) for part, run in parts])
        pooled.append(clipped[np.isfinite(clipped)])
        devkit.append(_trackingnet(parts))
        lost = [find_losses(part, run, protocol) for part, run in parts]
        by_sequence[name] = SequenceScore(
            float(curves["success"][-1].mean()),
            float(curves["precision"][-1][20]),
            float(curves["normalised_precision"][-1][20]),
            _mean(pooled[-1]),
            _percentile(np.concatenate([run.milliseconds() for _, run in parts]), 50),
            sum(len(frames) for frames in lost),
            next(iter(lost[0]), None),
            int(sum((present(part.sequence.boxes) & ~present(run.boxes)).sum() for part, run in parts)),
            float(np.mean(np.concatenate([run.states != results.SKIPPED for _, run in parts]))),
            next((run.error for _, run in parts if run.error), ""),
            next((run.note for _, run in parts if run.note), ""),
        )
    every = [pair for parts in runs.by_sequence.values() for pair in parts]
    measures = _measures(runs, curves, pooled, devkit)
    values = {"score_auc": _confidence(every), "losses": float(sum(row.losses for row in by_sequence.values()))}
    measures["seen"] = mean_of([row.seen for row in by_sequence.values()])
    mean = {key: _mean_curve(rows) for key, rows in curves.items()}
    long = _long_term(every) if protocol == "longterm" else None
    if long:
        mean |= {"long_term_precision": long.precisions, "long_term_recall": long.recalls}
        measures |= {f"long_term_{name}": measure for name, measure in long.measures.items()} | _presence(runs)
        values["long_term_threshold"] = long.threshold
    challenge = _vot(runs, protocol, eao)
    if challenge:
        measures |= {f"vot_{name}": measure for name, measure in challenge.measures.items()}
        values["vot_failures"] = float(challenge.failures)
    count = len(by_sequence)
    return TrackerScore(
        runs.name,
        runs.spec,
        {name: float(measure(np.ones((1, count)))[0]) for name, measure in measures.items()} | values,
        {name: certainty.interval(measure, count) for name, measure in measures.items()},
        _latency([run for _, run in every]),
        sum(math.isfinite(row.success_auc) for row in by_sequence.values()),
        runs.at_once,
        runs.load,
        runs.files,
        by_sequence,
        {key: value.tolist() for key, value in mean.items()},
        {name: row.tolist() for name, row in zip(by_sequence, curves["success"], strict=True)},
        tags=_by_tag(runs) if protocol == "supervised" else {},
        measures=measures,
    )


def compare(one: TrackerScore, other: TrackerScore, measure: str, better: int = 1) -> Difference:
    """Compare two trackers of one run on a measure; better: 1 where more of it is better, -1 where less is."""
    return certainty.difference(one.measures[measure], other.measures[measure], len(one.sequences), better)


def add_measure(score: TrackerScore, name: str, measure: Measure) -> None:
    """Give a tracker one more measure over its sequences; mutates score."""
    score.measures[name] = measure
    score.values[name] = float(measure(np.ones((1, len(score.sequences))))[0])
    score.intervals[name] = certainty.interval(measure, len(score.sequences))


def rank(scores: list[TrackerScore], measure: str, better: int) -> None:
    """Give each tracker the mean of its ranks over the sequences, 1 for the best, ties shared; mutates scores."""
    alone = np.eye(len(scores[0].sequences))
    values = np.array([better * score.measures[measure](alone) for score in scores])  # (trackers, sequences)
    for score, row in zip(scores, values, strict=True):
        ranks = 1 + (values > row).sum(axis=0) + ((values == row).sum(axis=0) - 1) / 2
        add_measure(score, "mean_rank", mean_of(np.where(np.isfinite(row), ranks, np.nan)))


def mark_best(scores: list[TrackerScore], measure: str, better: int) -> None:
    """Mark the tracker that reads best on a measure, if it is distinguishable from every other one; mutates scores."""
    known = [score for score in scores if math.isfinite(score.values.get(measure, math.nan))]
    if len(known) < 2 or measure not in known[0].measures:
        return
    top = max(known, key=lambda score: better * score.values[measure])
    if all(compare(top, other, measure).distinguishable for other in known if other is not top):
        top.best.add(measure)


def _measures(
    runs: Runs, curves: dict[str, list[Floats]], pooled: list[Floats], devkit: list[metrics.TrackingNet]
) -> dict[str, Measure]:
    """Return the measures over sequences by name; curves, pooled, devkit: of each sequence."""
    success, precision, normalised = (np.array(curves[key]) for key in ("success", "precision", "normalised_precision"))
    frames = np.array([len(values) for values in pooled], float)
    classes = np.array([parts[0][0].sequence.category for parts in runs.by_sequence.values()])
    return {
        "success_auc": mean_of(success.mean(axis=1)),
        "success_rate_50": mean_of(success[:, 10]),
        "precision_20": mean_of(precision[:, 20]),
        "normalised_precision_20": mean_of(normalised[:, 20]),
        "average_overlap": ratio_of([values.sum() for values in pooled], frames),
        "got10k_sr50": ratio_of([(values > 0.5).sum() for values in pooled], frames),
        "got10k_sr75": ratio_of([(values > 0.75).sum() for values in pooled], frames),
        "class_balanced_overlap": _class_balanced([_mean(values) for values in pooled], classes),
        **{f"trackingnet_{key}": mean_of([getattr(found, key) for found in devkit]) for key in devkit[0]._fields},
    }


def _class_balanced(overlaps: list[float], classes: NDArray[np.str_]) -> Measure:
    """Return GOT-10k's mAO: the mean over classes of the mean over their sequences; NaN where classes are not known."""
    values = np.array(overlaps)
    there = np.isfinite(values)
    members = np.array([classes == name for name in np.unique(classes)], float)  # (classes, sequences)
    known = bool((classes != "").all())

    def measure(drawn: Floats) -> Floats:
        number = (drawn * there) @ members.T
        means = ((drawn * np.where(there, values, 0.0)) @ members.T) / np.maximum(number, 1)
        seen = (number > 0).sum(axis=1)
        return np.where(known & (seen > 0), means.sum(axis=1) / np.maximum(seen, 1), np.nan)

    return measure


def _without_cut(part: Part, run: Run) -> tuple[Part, Run]:
    """Leave out the frame behind the end of a result file, as the toolkits do."""
    count = int((run.states != results.CUT).sum())
    if count == len(run.rows):
        return part, run
    return replace(part, sequence=part.sequence.part(0, count)), replace(run, rows=run.rows[:count])


def _mean_curve(rows: list[Floats]) -> Floats:
    kept = [row for row in rows if np.isfinite(row).all()]
    return np.mean(kept, axis=0) if kept else np.full(len(rows[0]), np.nan)


def _boxes(part: Part, run: Run, given: bool) -> Floats:
    """Return the boxes of a run; given: with the truth for the first one, where the tracker was started on it."""
    boxes = run.boxes.copy()
    if given and run.states[0] == results.STARTED:
        boxes[0] = part.sequence.boxes[0]
    return boxes


def _judge(part: Part, run: Run, protocol: Protocol, rule: Rule) -> Judged:
    boxes = run.boxes.copy()
    if protocol == "sre":
        boxes = undo_start(boxes, part.label, whole=rule.matlab)
    if rule.given and run.states[0] == results.STARTED:
        boxes[0] = part.sequence.boxes[0]
    return judge(boxes, part.sequence.boxes, rule, run.states == results.SKIPPED)


def undo_start(boxes: Floats, label: str, whole: bool) -> Floats:
    """Return the boxes of an SRE run with the scale of its start taken off around their centres, (N, 4) px.

    label: of the run, such as "scale-0.8"; other starts have scale 1. whole: round to whole pixels counted from 1, as
    the toolkit of OTB does to all of its SRE runs (calcSeqErrRobust.m).
    """
    ratio = float(label.removeprefix("scale-")) if label.startswith("scale-") else 1.0
    size = boxes[:, 2:] / ratio
    corner = boxes[:, :2] + boxes[:, 2:] / 2 - size / 2
    if not whole:
        return np.hstack([corner, size])
    corner, size = corner + 0.5, size  # from 1, and its centre is x + (w - 1) / 2
    return np.hstack([_round(corner) - 1, _round(size)])


def _round(values: Floats) -> Floats:
    return np.copysign(np.floor(np.abs(values) + 0.5), values)  # halves away from zero, as Matlab does


def _got10k(part: Part, run: Run) -> Floats:
    """Return GOT-10k's overlaps, of the frames after the first."""
    return metrics.iou(_boxes(part, run, True), part.sequence.boxes, bound=part.sequence.bound)[1:]


def _trackingnet(parts: list[tuple[Part, Run]]) -> metrics.TrackingNet:
    found = [
        metrics.trackingnet(_boxes(part, run, True), part.sequence.boxes)
        for part, run in parts
        if part.sequence.has_truth
    ]
    return metrics.TrackingNet(*(np.mean(found, axis=0).tolist() if found else [math.nan] * 3))


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


def _presence(runs: Runs) -> dict[str, Measure]:
    """Return OxUvA's rates (Valmadre et al., ECCV 2018): tpr, tnr and their geometric mean at its best.

    A frame with the target is right where the tracker does not say that it is lost and overlaps it by at least 0.5; one
    without it where the tracker says so. The mean is the best over coins that call frames lost: max over p of
    sqrt((1 - p) TPR ((1 - p) TNR + p)).
    """
    every = [pair for parts in runs.by_sequence.values() for pair in parts]
    lost = iter(said_lost([run for _, run in every]))
    counts = []
    for parts in runs.by_sequence.values():
        row = np.zeros(4)  # frames with the target, those that are right, frames without it, those that are right
        for part, run in parts:
            said, truth = next(lost), part.sequence.boxes
            there = present(truth)
            gone = ~there
            if part.sequence.absent is not None:
                gone = np.isin(np.arange(len(truth)), list(part.sequence.absent))
            right = np.nan_to_num(metrics.iou(run.boxes, truth)) >= 0.5
            after = np.arange(len(truth)) > 0
            there, gone = there & after, gone & after
            row += [there.sum(), (there & right & ~said).sum(), gone.sum(), (gone & said).sum()]
        counts.append(row)
    present_frames, found, absent_frames, noticed = np.array(counts).T
    tpr, tnr = ratio_of(found, present_frames), ratio_of(noticed, absent_frames)

    def best_mean(drawn: Floats) -> Floats:
        share = np.linspace(0, 1, 101)[:, None]
        positive, negative = tpr(drawn), tnr(drawn)
        return np.sqrt((1 - share) * positive * ((1 - share) * negative + share)).max(axis=0)

    return {"tpr": tpr, "tnr": tnr, "max_gm": best_mean}


def _by_tag(runs: Runs) -> dict[str, vot.Tagged]:
    pairs = [parts[0] for parts in runs.by_sequence.values() if parts[0][0].sequence.tags]
    films = [part.sequence for part, _ in pairs]
    return vot.by_tag(
        [run.boxes for _, run in pairs],
        [run.states for _, run in pairs],
        [film.regions for film in films],
        [film.size() for film in films],
        [film.tags for film in films],
    )


def _vot(runs: Runs, protocol: Protocol, interval: tuple[int, int] | None) -> vot.VotScore | None:
    groups = list(runs.by_sequence.values())
    if protocol not in ("supervised", "anchors"):
        return None
    sizes = [parts[0][0].sequence.size() for parts in groups]
    truths = [[part.sequence.regions for part, _ in parts] for parts in groups]
    boxes = [[run.boxes for _, run in parts] for parts in groups]
    if protocol == "supervised":
        states = [parts[0][1].states for parts in groups]
        return vot.supervised([b[0] for b in boxes], states, [t[0] for t in truths], sizes, interval)
    return vot.anchors(boxes, truths, sizes, [parts[0][0].length for parts in groups], interval)
