"""What becomes of a tracker when something happens to its target: does it notice, does it come back, does it know?

Judges runs over the sequences of `events.py`. A tracker says that a target is lost by a `state` of "lost" in its
answer; one that never does so, by a score below 0.5.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.events import KINDS, Kind, Written
from tracker.benchmark.judge.metrics import iou
from tracker.benchmark.results import LOST, Run
from tracker.footage.files import present

RIGHT = 0.5  # IoU from which a box is right
BINS = 10


class Fate(NamedTuple):
    """What a tracker said of one event; counts of frames.

    absent: without the target; noticed: those called lost.
    present: with the target, before the event and after the tracker came back; alarms: those called lost.
    watched: from the start of the event on; wrong: those on which it followed something else: the copy, or after the
    event any place without overlap with the target.
    adopted: frames from the start of the event on with which a tracker that had called its target lost goes on;
    misled: those on which it took something else for it: the copy, or any place without overlap with the target.
    back: frames from the end of the event until it followed the target again (IoU >= 0.5); inf when it never did; NaN
    where the target was never absent.
    """

    absent: int
    noticed: int
    present: int
    alarms: int
    watched: int
    wrong: int
    adopted: int
    misled: int
    back: float


def fate(event: Written, boxes: NDArray[np.float64], lost: NDArray[np.bool_]) -> Fate:
    """Judge one run over a sequence with an event.

    boxes: (N, 4) of the tracker, px. lost: (N,) frames that it called lost; the first frame does not count.
    """
    truth, index = event.sequence.boxes, np.arange(len(event.sequence))
    there = present(truth)
    overlap = np.where(there, iou(boxes, np.where(there[:, None], truth, 0.0)), 0.0)
    followed = np.flatnonzero((index >= event.stop) & there & ~lost & (overlap >= 0.5))
    first = int(followed[0]) if len(followed) else len(index)
    gone = not there[event.start : event.stop].any()
    quiet = there & (index > 0) & ((index < event.start) | (index > first) | (not gone))
    copied = np.zeros(len(index), bool)
    if len(event.copies):
        on_copy = iou(boxes[event.start : event.stop], event.copies)
        copied[event.start : event.stop] = (on_copy >= 0.3) & (on_copy > overlap[event.start : event.stop])
    elsewhere = (index >= event.stop) & there & (overlap <= 0)
    watched = index >= event.start
    adopted = watched & ~lost & np.append(False, lost[:-1])
    return Fate(
        int((~there).sum()),
        int((~there & lost).sum()),
        int(quiet.sum()),
        int((quiet & lost).sum()),
        int(watched.sum()),
        int((watched & ~lost & (copied | elsewhere)).sum()),
        int(adopted.sum()),
        int((adopted & (copied | (overlap <= 0))).sum()),
        (float(first - event.stop) if len(followed) else float("inf")) if gone else float("nan"),
    )


def summarise(fates: list[Fate]) -> dict[str, float]:
    """Shares over all events, in [0, 1], and the median of the frames to come back (inf: most never)."""
    totals = np.array([f[:8] for f in fates], np.float64).sum(0)
    share = [float(totals[i + 1] / totals[i]) if totals[i] else float("nan") for i in (0, 2, 4, 6)]
    backs = [f.back for f in fates if not np.isnan(f.back)]
    return {
        "absent_called_lost": share[0],
        "false_alarms": share[1],
        "wrong": share[2],
        "wrong_adoptions": share[3],
        "frames_to_come_back": float(np.median(backs)) if backs else float("nan"),
        "came_back": float(np.mean(np.isfinite(backs))) if backs else float("nan"),
    }


def said_lost(runs: list[Run]) -> list[NDArray[np.bool_]]:
    """(N,) for each run of one tracker: the frames on which it said that its target was lost."""
    if any((run.states == LOST).any() for run in runs):
        return [run.states == LOST for run in runs]
    return [np.nan_to_num(run.scores, nan=1.0) < 0.5 for run in runs]


def calibration_error(p: NDArray[np.float64], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3): mean over `bins` equal bins of |mean p - share right|.

    p: (N,) in [0, 1]. right: (N,). Bins weigh as many rows as they hold.
    """
    place = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [abs(p[place == b].mean() - right[place == b].mean()) * (place == b).sum() for b in set(place.tolist())]
    return float(sum(gaps) / len(p))


def auroc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive scores higher than a negative, ties half. NaN without both."""
    good, bad = scores[positive], np.sort(scores[~positive])
    if not len(good) or not len(bad):
        return float("nan")
    below, upto = np.searchsorted(bad, good, "left"), np.searchsorted(bad, good, "right")
    return float((below + upto).sum() / 2 / len(good) / len(bad))


class Knowledge(NamedTuple):
    """How good the scores of a tracker are as probabilities, over all frames of all events but the first of each.

    scores, right, there: (N,) score, whether the box was right (IoU >= 0.5), whether the target was in view.
    """

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]
    there: NDArray[np.bool_]

    @property
    def summary(self) -> dict[str, float]:
        """Expected calibration error, and AUROC of present against absent and of right against wrong."""
        known = np.isfinite(self.scores)
        if not known.any():
            return {"ece": float("nan"), "auroc_present": float("nan"), "auroc_right": float("nan")}
        scores, right, there = self.scores[known], self.right[known], self.there[known]
        return {
            "ece": calibration_error(np.clip(scores, 0, 1), right),
            "auroc_present": auroc(scores, there),
            "auroc_right": auroc(scores, right),
        }


def knowledge(events: list[Written], runs: list[Run]) -> Knowledge:
    """Gather scores and truth of the runs of one tracker."""
    scores, right, there = [], [], []
    for event, run in zip(events, runs, strict=True):
        truth = event.sequence.boxes
        seen = present(truth)
        overlap = np.where(seen, iou(run.boxes, np.where(seen[:, None], truth, 0.0)), 0.0)
        scores.append(run.scores[1:])
        right.append(overlap[1:] >= RIGHT)
        there.append(seen[1:])
    return Knowledge(np.concatenate(scores), np.concatenate(right), np.concatenate(there))


def judge(events: list[Written], runs: list[Run]) -> dict[str, dict[str, float]]:
    """The measures of one tracker over all events ("all"), all but imposters, and those of each kind.

    A grey imposter differs from the target in no more than that it is mirrored and darker.
    """
    rows = [
        (event, run, fate(event, run.boxes, lost))
        for event, run, lost in zip(events, runs, said_lost(runs), strict=True)
    ]
    groups: dict[str, tuple[Kind, ...]] = {"all": KINDS, "all but imposter": tuple(k for k in KINDS if k != "imposter")}
    groups |= {kind: (kind,) for kind in KINDS}
    found = {}
    for name, kinds in groups.items():
        chosen = [row for row in rows if row[0].kind in kinds]
        if chosen:
            of_kind, their_runs, fates = (list(some) for some in zip(*chosen, strict=True))
            found[name] = {**summarise(fates), **knowledge(of_kind, their_runs).summary}
    return found
