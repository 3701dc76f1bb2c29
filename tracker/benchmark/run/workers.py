"""Processes that run jobs, one thread each: a tracker that hangs or dies is stopped, named, and costs its run alone."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tracker.benchmark import results
from tracker.benchmark.peers.peers import load_tracker
from tracker.benchmark.protocols import Part, Protocol
from tracker.benchmark.results import Run
from tracker.benchmark.run.runner import Rows, Step, run_part, warm_up
from tracker.errors import DataError

LOADING_SECONDS = 300.0  # a tracker may take this long to load and warm up


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
            "latency": self.part.latency,
            "fingerprint": self.part.sequence.fingerprint(),
        }


def run_job(tracker: Any, job: Job, rows: Rows | None, step: Step) -> Run:
    """Run a job with a loaded tracker in this process; a frame that cannot be read fails the run."""
    rows = results.new_rows(len(job.part.sequence)) if rows is None else rows
    try:
        return run_part(tracker, job.part, job.protocol, rows, step)
    except DataError as error:
        return Run(rows, str(error))


def _work(channel: Connection, memory: Any, frame: Any) -> None:
    """Serve jobs until the channel closes; rows and frame number go through shared memory, so a kill loses nothing."""
    begin_worker()
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
            channel.send((f"{type(failure).__name__}: {failure}", ""))
            continue

        def step(index: int) -> None:
            frame.value = index

        rows = everything[: len(job.part.sequence)]
        run = run_job(loaded[1], job, rows, step)
        rows[:] = run.rows  # result files come as a whole
        channel.send((run.error, run.note))


def begin_worker() -> None:
    """Make this process a worker of one thread: deaf to Ctrl-C, and gone when its parent is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which stops the workers
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # with it go the programs that it starts
        threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    """End this process and all that it started when its parent was killed, so that nothing goes on unseen."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()  # returns at once if it was killed before this process had begun
    os.killpg(0, signal.SIGKILL)


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

    def poll(self, timeout: float, bar: Any) -> Run | None:
        """Return what the job came to once it is done, failed, died or hung, else None; mutates bar."""
        assert self.job is not None
        answered = self.channel.poll()  # before the frame number, which is then the last
        now = self.frame.value
        if now != self.last:
            bar.update(max(now - self.last, 0))
            self.last, self.moved = now, time.monotonic()
        broken = True
        try:
            error, note = self.channel.recv() if answered else ("", "")
            broken = not answered
        except EOFError:
            error = note = ""
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
        run = Run(rows[: len(self.job.part.sequence)].copy(), error, note)
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


def run_workers(jobs: list[Job], count: int, timeout: float, bar: Any) -> Iterator[tuple[Job, Run]]:
    """Run jobs in processes of one thread each and yield each with its run as it is done; mutates bar."""
    if not jobs:
        return
    one_thread()
    waiting = list(reversed(jobs))
    workers = [Worker(max(len(job.part.sequence) for job in jobs)) for _ in range(min(count, len(jobs)))]
    try:
        while waiting or any(worker.job for worker in workers):
            for worker in workers:
                if job := worker.job:
                    run = worker.poll(timeout, bar)
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
