"""Run trackers over sequences: in this process, or one process a core with time-outs, resumable."""

import contextlib
import itertools
import math
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tracker.benchmark import metrics, results
from tracker.benchmark.peers import file_fingerprints, load_tracker, tracker_name
from tracker.benchmark.protocols import Part, Protocol, plan
from tracker.benchmark.results import FAILED, STARTED, TRACKED, Run
from tracker.benchmark.sequences import DataError, Sequence

RESTART_AFTER = 5  # frames skipped after a failure in the supervised protocol
LOADING_SECONDS = 300.0  # a tracker may take this long to load and warm up
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


def evaluate(tracker: Any, sequences: Iterable[Sequence], rule: metrics.Rule = "inclusive") -> dict[str, EvalResult]:
    """Run one pass from the first box of each sequence, in this process, and return the scores by sequence name.

    tracker: has init(frame, box) and update(frame) -> a Result or a box.
    rule: of the success curve, see `tracker.benchmark.metrics`.
    A tracker that raises is scored as failed from that frame on; its message is in `error`. Nothing is written.
    """
    scores: dict[str, EvalResult] = {}
    for sequence in sequences:
        run = run_ope(tracker, sequence)
        times = run.milliseconds()
        scores[sequence.name] = EvalResult(
            metrics.success_auc(metrics.iou(run.boxes, sequence.boxes), rule),
            metrics.precision_20(metrics.center_error(run.boxes, sequence.boxes)),
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
    rows = results.new_rows(len(part.sequence)) if rows is None else rows
    step = step or (lambda index: None)
    walk = {"realtime": _walk_realtime, "supervised": _walk_supervised}.get(protocol, _walk_once)
    errors: list[str] = []
    try:
        if hasattr(tracker, "start_sequence"):  # result files need to know which sequence comes
            tracker.start_sequence(part.sequence)
        walk(tracker, part, rows, step, errors)
    except _Stop:
        pass
    except DataError:
        raise
    except Exception as failure:
        errors.append(f"start: {type(failure).__name__}: {failure}")
    return Run(rows, errors[0] if errors else "")


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
        row[9] = TRACKED
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


def _walk_once(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str]) -> None:
    for index in range(len(part.sequence)):
        image = part.sequence.image(index)
        step(index)
        if index == 0:
            _start(tracker, image, part.box, rows[0])
        else:
            _follow(tracker, image, rows[index], index, errors)


def _walk_realtime(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str]) -> None:
    """Frame i arrives at i / fps and is judged when frame i + 1 arrives; the clock counts the tracker's time alone."""
    rate = part.sequence.fps
    now, index, count = 0.0, 0, len(part.sequence)
    finished: list[tuple[float, int]] = []  # when each answer was there, and on which frame
    try:
        while index < count:
            image = part.sequence.image(index)
            step(index)
            if index == 0:
                _start(tracker, image, part.box, rows[0])
            else:
                _follow(tracker, image, rows[index], index, errors)
            now += rows[index, 5] / 1e3
            finished.append((now, index))
            index = max(index + 1, math.floor(now * rate + 1e-9))
            now = max(now, index / rate)
    finally:  # a tracker that died has no box in force from there on
        answers = rows[:, :5].copy()
        force = 0
        for frame in range(min(index, count) if finished else 0):
            while force + 1 < len(finished) and finished[force + 1][0] <= (frame + 1) / rate + 1e-12:
                force += 1
            rows[frame, :5] = answers[finished[force][1]]


def _walk_supervised(tracker: Any, part: Part, rows: Rows, step: Step, errors: list[str]) -> None:
    truth = part.sequence.boxes
    there = metrics.present(truth)
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
        if there[index] and not metrics.iou(rows[index : index + 1, :4], truth[index : index + 1])[0] > 0:
            rows[index, 9] = FAILED
            fresh, resume = True, index + RESTART_AFTER


def read_answer(answer: Any) -> tuple[NDArray[np.float64], float, tuple[float, float, float]]:
    """Split the answer of `update` into a (4,) box, a score and the milliseconds of crop, network and post (or NaN).

    TypeError: neither a Result (with .box) nor four numbers.
    """
    box = getattr(answer, "box", answer)
    try:
        values = np.asarray(box, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (4,):
        kind = type(answer).__name__
        raise TypeError(f"update must return a Result or a box of 4 numbers, got {kind} {answer!r:.80}")
    crop, network, post = (float(getattr(answer, name, "nan")) for name in ("crop_ms", "network_ms", "post_ms"))
    return values, float(getattr(answer, "score", "nan")), (crop, network, post)


class ContractError(AssertionError):
    """A tracker breaks the contract; the message lists every breach."""


def check_tracker(tracker: Any, sequence: Sequence) -> None:
    """Run a tracker on a few real frames and hold it to the contract of the benchmark.

    init(frame, box) and update(frame) leave the frame alone; update returns a finite box with an area, and a score in
    [0, 1] if any; the same frames give the same boxes again, unless the tracker has `deterministic` = False; a target
    that stands still is not lost.
    ContractError: with every breach.
    """
    images = [sequence.image(index) for index in range(min(len(sequence), 6))]
    still = [images[0]] * 6
    box = tuple(float(v) for v in sequence.boxes[0])
    breaches: list[str] = []

    def run(frames: list[NDArray[np.uint8]]) -> Rows:
        boxes = []
        for index, frame in enumerate(frames):
            given = frame.copy()
            answer = tracker.update(given) if index else tracker.init(given, box)
            if not np.array_equal(given, frame):
                breaches.append(f"{'update' if index else 'init'} changed the frame it was given")
            if not index:
                boxes.append(np.array(box))
                continue
            values, score, _ = read_answer(answer)
            boxes.append(values)
            if not metrics.present(values)[0]:
                breaches.append(f"update returned the box {values.tolist()}: not finite, or without area")
            if not (math.isnan(score) or 0 <= score <= 1):
                breaches.append(f"the score {score:g} is outside [0, 1]")
        return np.array(boxes)

    try:
        if hasattr(tracker, "start_sequence"):
            tracker.start_sequence(sequence)
        first, again = run(images), run(images)
        if getattr(tracker, "deterministic", True) and not np.array_equal(first, again):
            breaches.append("a second run over the same frames gave other boxes")
        stood = metrics.iou(run(still)[-1:], [box])[0]
        if not stood > 0.5:
            breaches.append(
                f"on a still picture the box left its target (IoU {stood:.2f} after {len(still) - 1} frames)"
            )
    except Exception as failure:
        breaches.append(f"{type(failure).__name__}: {failure}")
    if breaches:
        raise ContractError("; ".join(dict.fromkeys(breaches)))


# --- many trackers, many sequences -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One run to make: a tracker by its spec and files, one part of a protocol, and the file of its result."""

    spec: str
    files: dict[str, str]
    part: Part
    protocol: Protocol
    path: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the result file says of its making; a result that says otherwise is made again."""
        return {
            "tracker": self.spec,
            "files": self.files,
            "sequence": self.part.sequence.name,
            "part": self.part.label,
            "protocol": self.protocol,
            "fps": self.part.sequence.fps,
            "fingerprint": self.part.sequence.fingerprint(),
        }


def result_path(out: Path, protocol: str, tracker: str, sequence: str, label: str = "") -> Path:
    """Return where the result of one run lies: OUT/results/PROTOCOL/TRACKER/SEQUENCE[@PART].csv."""
    file = sequence + (f"@{label}" if label else "")
    return out / "results" / protocol / _file_name(tracker) / f"{_file_name(file)}.csv"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.@+-]", "_", text)


def run_all(
    specs: list[str],
    sequences: list[Sequence],
    protocol: Protocol,
    out: Path,
    workers: int = 1,
    timeout: float = 60.0,
    fresh: bool = False,
    quiet: bool = False,
    ray: str = "",
) -> list[str]:
    """Run every tracker on every sequence, write a result file each, and return one line for each that went wrong.

    specs: trackers as `peers.load_tracker` reads them. Results that exist and match are kept (resume).
    workers: processes, each one thread; 1 measures honest latency; 0 runs in this process, without time-outs.
    timeout: seconds without an answer after which a tracker is stopped and counts as failed from that frame on.
    fresh: make existing results again.
    ray: address of a Ray cluster that runs the workers, see `tracker.benchmark.cluster`; "" for this machine.
    ValueError: two trackers or two sequences of one name, a spec that cannot be read, or no such cluster.
    """
    names = [tracker_name(spec) for spec in specs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two trackers are called {', '.join(sorted(twice))}; give one another name: NAME:=SPEC")
    files = {spec: file_fingerprints(spec) for spec in specs}
    jobs = [
        Job(spec, files[spec], part, protocol, result_path(out, protocol, name, sequence.name, part.label))
        for sequence in sequences
        for part in plan(protocol, sequence)
        for spec, name in zip(specs, names, strict=True)
    ]
    if len({job.path for job in jobs}) != len(jobs):
        raise ValueError("two sequences have one name, or names that differ only in characters no file name can have")
    jobs.sort(key=lambda job: specs.index(job.spec))  # a worker loads each tracker once
    todo = jobs if fresh else [job for job in jobs if not _is_done(job)]
    total = sum(len(job.part.sequence) for job in todo)
    often = 0.1 if sys.stderr.isatty() else 30.0  # seconds between lines of progress
    with tqdm(total=total, unit="frame", disable=quiet, desc=protocol, mininterval=often) as bar:
        if ray:
            from tracker.benchmark.cluster import run_ray  # it imports this module

            finished = run_ray(todo, ray, workers, timeout, bar)
        else:
            finished = _run_here(todo, bar) if workers == 0 else _run_workers(todo, workers, timeout, bar)
        for job, run in finished:
            results.save(job.path, run, job.about)
    problems = []
    for job in jobs:
        error = results.load(job.path)[0].error
        if error:
            where = job.part.sequence.name + (f" @{job.part.label}" if job.part.label else "")
            problems.append(f"{tracker_name(job.spec)} on {where}: {error}")
    return problems


def _is_done(job: Job) -> bool:
    try:
        _, about = results.load(job.path)
    except (OSError, ValueError):
        return False
    return {key: about.get(key) for key in job.about} == job.about


def warm_up(tracker: Any, part: Part) -> None:
    """Run three frames unmeasured, so that compiling and caches are not charged to the first sequence."""
    try:
        if hasattr(tracker, "start_sequence"):
            tracker.start_sequence(part.sequence)
        tracker.init(part.sequence.image(0), part.box)
        for index in range(1, min(4, len(part.sequence))):
            tracker.update(part.sequence.image(index))
    except Exception:
        return  # the run itself reports it


def _run_here(jobs: list[Job], bar: Any) -> Iterator[tuple[Job, Run]]:
    for spec, group in itertools.groupby(jobs, key=lambda job: job.spec):
        tracker = None
        for job in group:
            if tracker is None:
                tracker = load_tracker(spec)
                warm_up(tracker, job.part)
            yield job, _careful(tracker, job, None, lambda index: bar.update(1))


def _careful(tracker: Any, job: Job, rows: Rows | None, step: Step) -> Run:
    rows = results.new_rows(len(job.part.sequence)) if rows is None else rows
    try:
        return run_part(tracker, job.part, job.protocol, rows, step)
    except DataError as error:
        return Run(rows, str(error))


def _work(channel: Connection, memory: Any, frame: Any) -> None:
    """Serve jobs until the channel closes; rows and frame number go through shared memory, so a kill loses nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops the workers
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # with it go the programs that it starts
    cv2.setNumThreads(1)
    everything = np.frombuffer(memory, dtype=np.float64).reshape(-1, len(results.COLUMNS))
    loaded: tuple[str, Any] = ("", None)
    while True:
        try:
            job: Job | None = channel.recv()
        except EOFError:
            return
        if job is None:
            return
        try:
            if loaded[0] != job.spec:
                loaded = (job.spec, load_tracker(job.spec))
                warm_up(loaded[1], job.part)
        except Exception as failure:
            channel.send(f"{type(failure).__name__}: {failure}")
            continue

        def step(index: int) -> None:
            frame.value = index

        channel.send(_careful(loaded[1], job, everything[: len(job.part.sequence)], step).error)


class Worker:
    """A process, the memory it shares and the job it is on; a process that dies or hangs is replaced by a new one."""

    def __init__(self, longest: int) -> None:
        self.context = multiprocessing.get_context("spawn")
        self.memory = self.context.RawArray("d", longest * len(results.COLUMNS))
        self.frame = self.context.RawValue("q", -1)
        self.job: Job | None = None
        self.moved = 0.0
        self.last = -1
        self.start()

    def start(self) -> None:
        self.channel, other = self.context.Pipe()
        self.process = self.context.Process(target=_work, args=(other, self.memory, self.frame), daemon=True)
        self.process.start()
        other.close()

    def give(self, job: Job) -> None:
        rows = np.frombuffer(self.memory, dtype=np.float64).reshape(-1, len(results.COLUMNS))
        rows[: len(job.part.sequence)] = results.new_rows(len(job.part.sequence))
        self.frame.value = self.last = -1
        self.job, self.moved = job, time.monotonic()
        self.channel.send(job)

    def look(self, timeout: float, bar: Any) -> Run | None:
        """Return what the job came to once it is done, failed, died or hung, else None; mutates bar."""
        assert self.job is not None
        answered = self.channel.poll()  # before the frame number, which is then the last
        now = self.frame.value
        if now != self.last:
            bar.update(max(now - self.last, 0))
            self.last, self.moved = now, time.monotonic()
        broken = True
        try:
            error = self.channel.recv() if answered else ""
            broken = not answered
        except EOFError:
            error = ""
        allowed = timeout if self.last >= 0 else max(timeout, LOADING_SECONDS)
        if broken and not self.process.is_alive():
            code = self.process.exitcode or 0
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
            error = f"frame {self.frame.value}: the process died ({how})"
        elif broken and time.monotonic() - self.moved > allowed:
            error = f"frame {self.frame.value}: no answer in {allowed:g} s, stopped"
        elif broken:
            return None
        rows = np.frombuffer(self.memory, dtype=np.float64).reshape(-1, len(results.COLUMNS))
        run = Run(rows[: len(self.job.part.sequence)].copy(), error)
        self.job = None
        if broken:
            self.stop()
            self.start()
        return run

    def stop(self) -> None:
        assert self.process.pid
        with contextlib.suppress(AttributeError, OSError):  # no groups on Windows; no group yet
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.channel.close()


def one_thread() -> None:
    """Have the processes that are started from here on use one thread each."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _run_workers(jobs: list[Job], count: int, timeout: float, bar: Any) -> Iterator[tuple[Job, Run]]:
    if not jobs:
        return
    one_thread()
    waiting = list(reversed(jobs))
    workers = [Worker(max(len(job.part.sequence) for job in jobs)) for _ in range(min(count, len(jobs)))]
    try:
        while waiting or any(worker.job for worker in workers):
            for worker in workers:
                if job := worker.job:
                    run = worker.look(timeout, bar)
                    if run is not None:
                        yield job, run
                if worker.job is None and waiting:
                    worker.give(waiting.pop())
            pause([worker for worker in workers if worker.job])
    finally:
        for worker in workers:
            worker.stop()


def pause(workers: list[Worker]) -> None:
    """Wait until one of them has news, at most 0.2 s."""
    if workers:
        wait([w.channel for w in workers] + [w.process.sentinel for w in workers], timeout=0.2)
