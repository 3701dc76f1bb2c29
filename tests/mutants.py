"""Break the tracker in one place at a time and see whether a test notices: python tests/mutants.py [--sample 60]

A mutant is a copy of the repository in which one literal of the tracking path is another, a comparison or condition is
turned round, or a minimum is a maximum. It is killed when a test of these modules fails, or does not end. Prints each
mutant that survives, and the share that was killed.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MODULES = ("tracks", "search", "exclusion", "evidence", "engine", "target", "tracker")
TESTS = ("test_evidence.py", "test_exclusion.py", "test_tracks.py", "test_tracker.py", "test_refiner.py")
MOST_SECONDS = 400  # of the processor, for the tests of one mutant
TURNED = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And, ast.Add: ast.Sub, ast.Sub: ast.Add,
    ast.Mult: ast.Div,
}  # fmt: skip


def broken(node: ast.AST) -> bool:
    """Break `node` in place; False where there is nothing to break."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        node.value = node.value + 1 if isinstance(node.value, int) else 2 * node.value + 0.5
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
        node.ops[0] = TURNED[type(node.ops[0])]()
    elif isinstance(node, ast.BoolOp | ast.BinOp) and type(node.op) in TURNED:
        node.op = TURNED[type(node.op)]()  # type: ignore[assignment]
    elif isinstance(node, ast.Name) and node.id in ("min", "max"):
        node.id = "max" if node.id == "min" else "min"
    else:
        return False
    return True


def places(module: str) -> list[int]:
    """Which expressions of a module can be broken, by their number in `ast.walk`."""
    nodes = ast.walk(ast.parse((ROOT / "tracker" / f"{module}.py").read_text(encoding="utf-8")))
    return [k for k, node in enumerate(nodes) if isinstance(node, ast.expr) and broken(node)]


def mutant(module: str, number: int) -> tuple[str, str]:
    """What is broken, and the source of the module with it."""
    tree = ast.parse((ROOT / "tracker" / f"{module}.py").read_text(encoding="utf-8"))
    node: Any = next(node for k, node in enumerate(ast.walk(tree)) if k == number)
    before = ast.unparse(node)
    broken(node)
    return f"{module}.py:{node.lineno}: {before} -> {ast.unparse(node)}", ast.unparse(tree)


def begin_tests(place: Path, module: str, source: str) -> int:
    """Begin all tests with this source in the copy at `place`, in a process of their own; its id.

    It is a fork of this one, which has imported what takes long to import.
    """
    file = place / "tracker" / f"{module}.py"
    file.write_text(source, encoding="utf-8")
    if process := os.fork():
        return process
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.chdir(place)
    sys.path.insert(0, str(place))
    os.environ["PYTHONPATH"] = str(place)
    import pytest

    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0"]
    os._exit(pytest.main([*options, *(f"tests/{name}" for name in TESTS)]))


def main() -> int:
    """Try the mutants; 1 when the tests fail with nothing broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="try N mutants only, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=MODULES)
    parser.add_argument("--workers", type=int, default=1, help="mutants that are tried at once")
    args = parser.parse_args()
    tried = [(module, number) for module in args.modules for number in places(module)]
    if args.sample and args.sample < len(tried):
        tried = random.Random(args.seed).sample(tried, args.sample)
    sys.dont_write_bytecode = True  # it would be taken for that of the next mutant
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    import cv2
    import hypothesis
    import numba
    import onnxruntime
    import pytest
    import torch

    assert cv2 and hypothesis and numba and onnxruntime and pytest and torch
    with tempfile.TemporaryDirectory() as folder:
        free, running = [Path(folder) / str(k) for k in range(args.workers)], dict[int, tuple[Path, str, str]]()
        for place in free:
            for name in ("tracker", "train", "tests", "siamtrack", "configs"):
                shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("*.pyc"))
            shutil.copy(ROOT / "pyproject.toml", place)

        def finish() -> bool:
            """Wait for the tests of a mutant; whether all of them passed."""
            process, status = os.wait()
            place, module, what = running.pop(process)
            shutil.copy(ROOT / "tracker" / f"{module}.py", place / "tracker")
            free.append(place)
            if what and not status:
                print(f"survives: {what}", flush=True)
            return not status

        whole = (ROOT / "tracker" / "tracks.py").read_text(encoding="utf-8")
        place = free.pop()
        running[begin_tests(place, "tracks", whole)] = (place, "tracks", "")
        if not finish():
            print("the tests fail with nothing broken", file=sys.stderr)
            return 1
        survived = 0
        for module, number in tried:
            if not free:
                survived += finish()
            place, (what, source) = free.pop(), mutant(module, number)
            running[begin_tests(place, module, source)] = (place, module, what)
        while running:
            survived += finish()
    killed = len(tried) - survived
    print(f"{killed} of {len(tried)} mutants killed ({killed / len(tried):.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
