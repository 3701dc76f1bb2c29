"""The runner on a Ray cluster: an actor a CPU, each with a worker process of its own, so that results and time-outs
are those of a run on one machine. Data sets, weight files and this package must have the same paths on every machine.
"""

import importlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracker.benchmark.results import Run, new_rows
from tracker.benchmark.run.workers import Job, Worker, one_thread, pause
from tracker.errors import InputError
from tracker.extras import how_to_get

TRIES = 3  # machines that a job may lose


def run_ray(jobs: list[Job], address: str, count: int, timeout: float, bar: Any) -> Iterator[tuple[Job, Run]]:
    """Run jobs on a Ray cluster and yield each with its run as it is done; mutates bar.

    A job whose actor or machine is lost is given to another one, three times.

    address: auto (the cluster of this machine), HOST:PORT or ray://HOST:PORT; local starts one for this run.
    count: actors, 0 for one a CPU of the cluster.
    timeout: as in `jobs.run_all`.
    ValueError: Ray is missing, or there is no such cluster.
    """
    if not jobs:
        return
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise InputError(f"--ray needs Ray: {how_to_get('ray')} ({error})") from error
    one_thread()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # no warning on machines without a GPU
    owner = not ray.is_initialized()
    if owner:
        more = {"num_cpus": count or None, "include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", **more)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"--ray {address}: no Ray cluster there: {error}") from error
    longest = max(len(job.part.sequence) for job in jobs)
    seats = min(count or max(int(ray.cluster_resources().get("CPU", 1)), 1), len(jobs))
    seat = ray.remote(num_cpus=1)(_Seat)
    free = [seat.remote(longest) for _ in range(seats)]
    waiting, lost = list(reversed(jobs)), Counter[Path]()
    running: dict[Any, tuple[Any, Job]] = {}
    try:
        while waiting or running:
            while waiting and free:
                actor, job = free.pop(), waiting.pop()
                running[actor.run.remote(job, timeout)] = (actor, job)
            (answer, *_), _ = ray.wait(list(running), num_returns=1)
            actor, job = running.pop(answer)
            try:
                run = ray.get(answer)
            except ray.exceptions.RayActorError as error:
                actor, run = (
                    seat.remote(longest),
                    Run(new_rows(len(job.part.sequence)), f"lost with its actor: {error}"),
                )
                lost[job.path] += 1
                if lost[job.path] < TRIES:
                    free.append(actor)
                    waiting.append(job)
                    continue
            free.append(actor)
            bar.update(len(job.part.sequence))
            yield job, run
    finally:
        for actor in [*free, *(actor for actor, _ in running.values())]:
            ray.kill(actor)
        if owner:
            ray.shutdown()


class _Silent:
    def update(self, count: int) -> None:
        """Frames pass unreported; the driver counts whole jobs."""


class _Seat:
    """The actor: one worker process, one job at a time."""

    def __init__(self, longest: int) -> None:
        one_thread()
        self.worker = Worker(longest)

    def run(self, job: Job, timeout: float) -> Run:
        """Run a job to its end, its failure or its time-out."""
        self.worker.give(job)
        while (run := self.worker.poll(timeout, _Silent())) is None:
            pause([self.worker])
        return run
