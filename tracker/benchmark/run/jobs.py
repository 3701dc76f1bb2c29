"""Many trackers on many sequences: what is to be run, what is done already, one result file a run."""

import itertools
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tracker.benchmark import results
from tracker.benchmark.peers.peers import file_fingerprints, load_tracker, tracker_name
from tracker.benchmark.protocols import Part, Protocol, plan, runs_of
from tracker.benchmark.results import Run, Runs
from tracker.benchmark.run.cluster import run_ray
from tracker.benchmark.run.runner import warm_up
from tracker.benchmark.run.workers import Job, run_job, run_workers
from tracker.errors import InputError
from tracker.footage.output import only_run
from tracker.footage.sequence import Sequence
from tracker.machine import load_a_core, processor


def result_path(out: Path, protocol: str, tracker: str, sequence: str, label: str = "") -> Path:
    """Return where the result of one run lies: OUT/results/PROTOCOL/TRACKER/SEQUENCE[@PART].csv."""
    file = sequence + (f"@{label}" if label else "")
    return out / "results" / protocol / _file_name(tracker) / f"{_file_name(file)}.csv"


def _file_name(text: str) -> str:
    return re.sub(r"^\.+|[^\w.@+-]", "_", text)  # no hidden file, nor the folder above


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
    repeats: int = 1,
    latency: dict[str, float] | None = None,
) -> list[str]:
    """Run every tracker on every sequence, write a result file each, and return one line for each that went wrong.

    specs: trackers as `peers.load_tracker` reads them. Results that exist and match are kept (resume).
    workers: processes, each one thread; 1 measures honest latency; 0 runs in this process, without time-outs.
    timeout: seconds without an answer after which a tracker is stopped and counts as failed from that frame on.
    fresh: make existing results again.
    ray: address of a Ray cluster that runs the workers, see `tracker.benchmark.run.cluster`; "" for this machine.
    repeats: how often each run is made. latency: milliseconds of an answer under a clock by the name of the tracker;
        those that are not named are measured.
    ValueError: two trackers or two sequences of one name, a spec that cannot be read, or no such cluster.
    """
    names = [tracker_name(spec) for spec in specs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"two trackers are called {', '.join(sorted(twice))}; give one another name: NAME:=SPEC")
    files = {spec: file_fingerprints(spec) for spec in specs}
    protocol = runs_of(protocol)
    jobs = [
        Job(
            spec,
            files[spec],
            replace(part, latency=(latency or {}).get(name)),
            protocol,
            result_path(out, protocol, name, sequence.name, part.label),
        )
        for sequence in sequences
        for part in plan(protocol, sequence, repeats)
        for spec, name in zip(specs, names, strict=True)
    ]
    if len({job.path for job in jobs}) != len(jobs):
        raise InputError("two sequences have one name, or names that differ only in characters no file name can have")
    jobs.sort(key=lambda job: specs.index(job.spec))  # a worker loads each tracker once
    todo = jobs if fresh else [job for job in jobs if not _is_done(job)]
    total = sum(len(job.part.sequence) for job in todo)
    often = 0.1 if sys.stderr.isatty() else 30.0  # seconds between lines of progress
    how = {"processor": processor(), "at once": _at_once(workers, len(todo), ray)}  # what its latency depends on
    shown = tqdm(total=total, unit="frame", disable=quiet, desc=protocol, mininterval=often)
    with only_run(out), shown as bar:
        if ray:
            finished = run_ray(todo, ray, workers, timeout, bar)
        else:
            finished = _run_here(todo, bar) if workers == 0 else run_workers(todo, workers, timeout, bar)
        for job, run in finished:
            results.save(job.path, run, {**job.about, **how, "load a core": round(load_a_core(), 2)})
    problems = []
    for job in jobs:
        error = results.load(job.path)[0].error
        if error:
            where = job.part.sequence.name + (f" @{job.part.label}" if job.part.label else "")
            problems.append(f"{tracker_name(job.spec)} on {where}: {error}")
    return problems


def load_runs(out: Path, protocol: Protocol, spec: str, sequences: list[Sequence], repeats: int = 1) -> Runs:
    """Read the results of one tracker; FileNotFoundError names the first that is not there."""
    runs: dict[str, list[tuple[Part, Run]]] = {}
    at_once, loads = set(), []
    for sequence in sequences:
        runs[sequence.name] = []
        for part in plan(protocol, sequence, repeats):
            path = result_path(out, runs_of(protocol), tracker_name(spec), sequence.name, part.label)
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no result; run the benchmark to its end first")
            run, about = results.load(path)
            at_once.add(str(about.get("at once", "unknown")))
            loads.append(float(about.get("load a core", math.nan)))
            runs[sequence.name].append((part, run))
    known = [load for load in loads if math.isfinite(load)]
    load = max(known, default=math.nan)
    return Runs(tracker_name(spec), spec, file_fingerprints(spec), runs, sorted(at_once), load)


def _at_once(workers: int, jobs: int, ray: str) -> str:
    if ray:
        return "many, on a Ray cluster"
    return "one" if workers <= 1 else str(min(workers, max(jobs, 1)))


def _is_done(job: Job) -> bool:
    try:
        _, about = results.load(job.path)
    except (OSError, ValueError):
        return False
    return {key: about.get(key) for key in job.about} == job.about


def _run_here(jobs: list[Job], bar: Any) -> Iterator[tuple[Job, Run]]:
    for spec, group in itertools.groupby(jobs, key=lambda job: job.spec):
        tracker = None
        for job in group:
            if tracker is None:
                tracker = load_tracker(spec)
                warm_up(tracker, job.part)
            yield job, run_job(tracker, job, None, lambda index: bar.update(1))
