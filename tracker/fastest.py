"""Which engine of graphs is the fastest on this machine: measured once, and remembered."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from tracker.graphs import missing, open_graph, session
from tracker.machine import processor

FIRST, OTHER = "onnxruntime", "openvino"  # both compute in float32
WORTH = 0.9  # of the first one's time: the other is taken below it
PASSES = 15  # of each, in turns; the fastest pass counts, since other jobs only add


def fastest(search: bytes, threads: int | None) -> str:
    """The engine that "auto" stands for: ONNX Runtime, or OpenVINO where it is installed and clearly faster here.

    search: the graph of that name. threads: of the CPU. Where nothing can be remembered (`memory`), nothing is
    measured, and it is ONNX Runtime.
    """
    if missing(OTHER):
        return FIRST
    key = _key(search, threads)
    try:
        file = memory()
        known = _read(file)
        if key not in known:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(file.parent, os.W_OK):
                return FIRST
            times = _measure(search, threads)
            known = _read(file) | {key: times}  # others may have measured meanwhile
            with NamedTemporaryFile("w", dir=file.parent, suffix=".part", delete=False) as part:
                json.dump(known, part, indent=1)
            os.replace(part.name, file)
    except (OSError, RuntimeError):  # the latter where nobody has a home, see `Path.home`
        return FIRST
    return OTHER if known[key][OTHER] < WORTH * known[key][FIRST] else FIRST


def memory() -> Path:
    """The file of what was measured: siamtrack/engines.json in the user's cache folder. Remove it to measure anew."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(folder) / "siamtrack" / "engines.json"


def _key(search: bytes, threads: int | None) -> str:
    """What a time holds for: this network, these versions, this processor."""
    versions = [f"{name} {version(name)}" for name in (FIRST, OTHER)]
    return ", ".join([sha256(search).hexdigest()[:16], f"{threads} threads", *versions, processor()])


def _read(file: Path) -> dict[str, dict[str, float]]:
    """What was measured so far; nothing where the file is missing, cut, or holds something else."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return {key: {name: float(times[name]) for name in (FIRST, OTHER)} for key, times in known.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return {}


def _measure(search: bytes, threads: int | None) -> dict[str, float]:
    """Milliseconds of the fastest search pass by each engine."""
    inputs = _inputs(search)
    runs = {name: open_graph("search", search, threads, name) for name in (FIRST, OTHER)}
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(PASSES):
        for name, run in runs.items():
            begin = time.perf_counter()
            run(*inputs)
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begin))
    return best


def _inputs(search: bytes) -> Sequence[Any]:
    """One row of zeros for each input of a search, in the order of `GRAPHS`."""
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}
    found = {one.name: np.zeros([1, *one.shape[1:]], kinds[one.type]) for one in session(search, 1).get_inputs()}
    return [found[name] for name in ("features", "crops")]
