"""The machine and the versions that a latency depends on."""

import importlib.metadata
import os
import platform
from pathlib import Path


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def load_a_core() -> float:
    """Return how many processes wanted each core in the last minute; NaN where the system does not say."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else float("nan")


def describe_machine() -> dict[str, str]:
    """Return processor, cores, load, system and versions."""
    about = {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "load before the report": ", ".join(f"{v:.2f}" for v in os.getloadavg()) if hasattr(os, "getloadavg") else "",
        "system": platform.platform(),
        "python": platform.python_version(),
    }
    for package in (
        "siamtrack", "numpy", "opencv-python", "opencv-contrib-python", "torch", "onnxruntime", "numba", "ray",
    ):  # fmt: skip
        try:
            about[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return about
