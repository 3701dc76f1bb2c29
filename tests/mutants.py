"""Break the tracker in one place at a time and see whether a test notices: python tests/mutants.py [--each 10]

A mutant is a copy of the repository in which one literal of tracks, evidence, engine or search is another, a comparison
or condition is turned round, or a minimum is a maximum. It is killed when a test of these modules fails. Prints each
mutant that survives, and the share that was killed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = ("tracks", "evidence", "engine", "search")
TESTS = ("test_evidence.py", "test_tracks.py", "test_tracker.py", "test_refiner.py")
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


def mutants(module: str) -> Iterator[tuple[str, str]]:
    """What is broken, and the source of the module with it."""
    source = (ROOT / "tracker" / f"{module}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    for index, node in enumerate(ast.walk(tree)):
        if not isinstance(node, ast.expr) or isinstance(node, ast.JoinedStr):
            continue
        other = copy.deepcopy(tree)
        same = next(n for k, n in enumerate(ast.walk(other)) if k == index)
        before = ast.unparse(same)
        if broken(same):
            yield f"{module}.py:{node.lineno}: {before} -> {ast.unparse(same)}", ast.unparse(other)


def survives(place: Path, module: str, source: str) -> bool:
    """Whether all tests pass with this source in the copy at `place`."""
    file = place / "tracker" / f"{module}.py"
    whole = file.read_text(encoding="utf-8")
    file.write_text(source, encoding="utf-8")
    tests = [f"tests/{name}" for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", *tests]
    env = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, cwd=place, env=env, capture_output=True, timeout=900)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        file.write_text(whole, encoding="utf-8")


def main() -> int:
    """Try the mutants; 1 when the tests fail with nothing broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=1, metavar="N", help="try every N-th mutant only")
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=MODULES)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("tracker", "train", "tests", "siamtrack"):
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", place)
        if not survives(place, "tracks", (ROOT / "tracker" / "tracks.py").read_text(encoding="utf-8")):
            print("the tests fail with nothing broken", file=sys.stderr)
            return 1
        tried = [(m, *mutant) for m in args.modules for mutant in mutants(m)][:: args.each]
        killed = 0
        for module, what, source in tried:
            if survives(place, module, source):
                print(f"survives: {what}", flush=True)
            else:
                killed += 1
        print(f"{killed} of {len(tried)} mutants killed ({killed / len(tried):.0%})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
