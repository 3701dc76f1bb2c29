"""The tests with other versions: the oldest, the newest, headless OpenCV, other Pythons, Numba without its compiler.

python tests/bench/versions.py FOLDER [--only oldest,newest] [--tests tests/test_tracker.py ...]: makes a virtual
environment for each in FOLDER, or takes the one that is there, and prints a Markdown table: what was installed, what
`pip check` says, how the tests ended. A Python that is not on this machine is said to be missing.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHOWN = ("opencv-python", "opencv-python-headless", "numpy", "numba", "torch", "onnxruntime", "av")
DEV = ("-e", ".[dev]")


@dataclass(frozen=True)
class Variant:
    """What pip is asked for, by which Python, and what the tests find in their environment."""

    wanted: tuple[str, ...] = DEV
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)


VARIANTS = {
    "oldest": Variant(("-c", "configs/oldest.txt", *DEV)),
    "newest": Variant(),
    "headless": Variant(("./configs/headless", *DEV)),
    "no-compiler": Variant(environment={"NUMBA_DISABLE_JIT": "1"}),
    "3.12": Variant(python="python3.12"),
    "3.13": Variant(python="python3.13"),
}


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    known = os.environ | environment
    return subprocess.run(words, cwd=ROOT, env=known, capture_output=True, text=True, check=False)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ([*done.stderr.splitlines(), *done.stdout.splitlines()] or [""])[-1].strip()


def tried(variant: Variant, folder: Path, tests: list[str]) -> list[str]:
    """What is installed, what `pip check` says, and how the tests ended."""
    python = str(folder / "bin" / "python")
    if not folder.exists():
        try:
            subprocess.run([variant.python, "-m", "venv", str(folder)], check=True)
        except FileNotFoundError:
            return ["missing", "-", "not run"]
        done = run([python, "-m", "pip", "install", *variant.wanted])
        if done.returncode:
            return ["cannot be installed", last_line(done), "not run"]
    listed = run([python, "-m", "pip", "list", "--format", "freeze"]).stdout.splitlines()
    versions = dict(line.split("==") for line in listed if "==" in line)
    shown = [f"{name} {versions[name]}" for name in SHOWN if name in versions]
    check = last_line(run([python, "-m", "pip", "check"]))
    words = [python, "-m", "pytest", "-n", "0", "-o", "faulthandler_timeout=0", *tests]
    ended = run(words, OMP_NUM_THREADS="1", **variant.environment)
    (folder / "tests.log").write_text(ended.stdout + ended.stderr)
    return [", ".join([last_line(run([python, "--version"])), *shown]), check, ended.stdout.splitlines()[-1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default=",".join(VARIANTS))
    parser.add_argument("--tests", nargs="+", default=["tests"])
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    print("| | versions | `pip check` | tests |\n|---|---|---|---|", flush=True)
    for name in args.only.split(","):
        cells = tried(VARIANTS[name], args.folder.resolve() / name, args.tests)
        print("|".join(["", f" {name} ", *(f" {cell} " for cell in cells), ""]), flush=True)


if __name__ == "__main__":
    main()
