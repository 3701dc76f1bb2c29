"""Run a tracker over a sequence in this process, under each protocol."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark import results
from tracker.benchmark.judge import metrics, vot
from tracker.benchmark.judge.rules import RULES, judge
from tracker.benchmark.peers.answer import read_answer
from tracker.benchmark.protocols import Part, Protocol, plan
from tracker.benchmark.results import FAILED, LOST, SKIPPED, STARTED, TRACKED, Run
from tracker.errors import DataError
from tracker.footage.files import present
from tracker.footage.sequence import Sequence

RESTART_AFTER = 5  # frames skipped after a failure in the supervised protocol
Rows = NDArray[np.float64]
Step = Callable[[int], None]


@dataclass(frozen=True)
class EvalResult:
    """Scores of one sequence.

    success_auc, precision_20: in [0, 1], first frame counted.
    ms_median: median milliseconds of an update without decoding, NaN when there was none.
    error: what went wrong, or "".
    """

    success_auc: float
    precision_20: float
    ms_median: float
    error: str = ""


def evaluate(tracker: Any, sequences: Iterable[Sequence], rule: str = "inclusive") -> dict[str, EvalResult]:
    """Run one pass from the first box of each sequence, in this process, and return the scores by sequence name.

    tracker: has init(frame, box) and update(frame) -> a Result or a box.
    rule: how frames are judged, one of `tracker.benchmark.judge.rules`.
    A tracker that raises is scored as failed from that frame on; its message is in `error`. Nothing is written.
    """
    scores: dict[str, EvalResult] = {}
    for sequence in sequences:
        run = run_ope(tracker, sequence)
        times = run.milliseconds()
        judged = judge(run.boxes, sequence.boxes, RULES[rule], run.states == SKIPPED)
        scores[sequence.name] = EvalResult(
            float(RULES[rule].success_curve(judged.overlap).mean()),
            metrics.precision_20(judged.error),
            float(np.median(times)) if times.size else float("nan"),
            run.error,
        )
    return scores


def run_ope(tracker: Any, sequence: Sequence) -> Run:
    """Run one pass from the first box to the last frame; a tracker that raises fails from there on."""
    return run_part(tracker, plan("ope", sequence)[0], "ope")


def run_part(tracker: Any, part: Part, protocol: Protocol, rows: Rows | None = None, step: Step | None = None) -> Run:
    """Run one part of a protocol in this process.

    rows: (N, 10), filled as the frames pass (shared memory, so that a killed run keeps them), or None.
    step: called with the index of every frame before it is processed, or None.
    DataError: a frame of the sequence cannot be read.
    """
    if hasattr(tracker, "finished"):
        return _read_run(tracker, part, protocol)
    rows = results.new_rows(len(part.sequence)) if rows is None else rows
    step = step or (lambda index: None)
    walks = {"realtime": _walk_realtime, "streaming": _walk_streaming, "supervised": _walk_supervised}
    walk = walks.get(protocol, _walk_once)
    errors: list[str] = []
    try:
        if hasattr(tracker, "start_sequence"):
            tracker.start_sequence(part.sequence)
        walk(tracker, part, rows, step, errors)
    except _Stop:
        pass
    except DataError:
        raise
    except Exception as failure:
        errors.append(f"start: {type(failure).__name__}: {failure}")
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Run(rows, errors[0] + more if errors else "")


def _read_run(files: Any, part: Part, protocol: Protocol) -> Run:
    try:
        run: Run = files.finished(part, protocol)
        return run
    except ValueError as error:
        return Run(results.new_rows(len(part.sequence)), str(error))


class _Stop(Exception):
    """Ends a run whose error is already noted."""


def _start(tracker: Any, image: NDArray[np.uint8], box: tuple[float, ...], row: Rows) -> None:
    begin = time.perf_counter()
    tracker.init(image, box)
    row[5] = (time.perf_counter() - begin) * 1e3
    row[:4], row[9] = box, STARTED


def _follow(tracker: Any, image: NDArray[np.uint8], row: Rows, index: int, errors: list[str]) -> None:
    begin = time.perf_counter()
    try:
        answer = tracker.update(image)
        row[5] = (time.perf_counter() - begin) * 1e3
        row[9] = LOST if getattr(answer, "state", "") == "lost" else TRACKED
        if answer is None:
            errors.append(f"frame {index}: update returned nothing")
            return
        box, score, stages = read_answer(answer)
    except Exception as failure:
        errors.append(f"frame {index}: {type(failure).__name__}: {failure}")
        raise _Stop from failure
    row[4], row[6:9] = score, stages
    if np.isfinite(box).all():
        row[:4] = box
    else:
        errors.append(f"frame {index}: the box {box.tolist()} is not finite")


def _take(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str], index: int) -> None:
    """Show the tracker one frame and keep its answer; the first frame is shown with its box."""
    image = part.sequence.image(index)
    step(index)
    if index == 0:
        _start(tracker, image, part.box, rows[0])
    else:
        _follow(tracker, image, rows[index], index, errors)


def _walk_once(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str]) -> None:
    for index in range(len(part.sequence)):
        _take(tracker, part, rows, step, errors, index)


def _walk_realtime(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str]) -> None:
    """A frame is judged when the next one arrives, as in the real-time challenge of VOT 2018."""
    _walk_clock(tracker, part, rows, step, errors, later=1)


def _walk_streaming(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str]) -> None:
    """A frame is judged when it arrives, by an answer for an earlier one (Li, Wang, Ramanan, ECCV 2020)."""
    _walk_clock(tracker, part, rows, step, errors, later=0)


def _walk_clock(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str], later: int) -> None:
    """Frame i arrives at i / fps and is judged when frame i + later does; the clock counts the tracker's time alone.

    A tracker that is free takes the newest frame. The time of an answer is what was measured, or `part.latency`.
    """
    rate = part.sequence.fps
    now, index, count = 0.0, 0, len(part.sequence)
    finished: list[tuple[float, int]] = []  # when each answer was there, and on which frame
    try:
        while index < count:
            _take(tracker, part, rows, step, errors, index)
            taken = rows[index, 5] if part.latency is None else part.latency
            now += taken / 1e3
            finished.append((now, index))
            index = max(index + 1, math.floor(now * rate + 1e-9))
            now = max(now, index / rate)
    finally:  # a tracker that died has no box in force from there on
        answers = rows[:, :5].copy()
        force = 0
        for frame in range(min(index, count) if finished else 0):
            while force + 1 < len(finished) and finished[force + 1][0] <= (frame + later) / rate + 1e-12:
                force += 1
            rows[frame, :5] = answers[finished[force][1]]


def _walk_supervised(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str]) -> None:
    truth, regions = part.sequence.boxes, part.sequence.regions
    there = present(truth)
    fresh, resume = True, 0
    for index in range(len(part.sequence)):
        if index < resume or (fresh and not there[index]):
            continue
        image = part.sequence.image(index)
        step(index)
        if fresh:
            box = part.box if index == 0 else tuple(float(v) for v in truth[index])
            _start(tracker, image, box, rows[index])
            fresh = False
            continue
        _follow(tracker, image, rows[index], index, errors)
        size = (image.shape[1], image.shape[0])
        if there[index] and not vot.overlaps(rows[index, :4], regions[index : index + 1], size)[0] > 0:
            rows[index, 9] = FAILED
            fresh, resume = True, index + RESTART_AFTER


def warm_up(tracker: Any, part: Part) -> None:
    """Run three frames unmeasured, so that compiling and caches are not charged to the first sequence."""
    if hasattr(tracker, "finished"):
        return
    try:
        if hasattr(tracker, "start_sequence"):
            tracker.start_sequence(part.sequence)
        tracker.init(part.sequence.image(0), part.box)
        for index in range(1, min(4, len(part.sequence))):
            tracker.update(part.sequence.image(index))
    except Exception:
        return  # the run itself reports it
