"""Imports run one way, and heavy packages stay in their rooms."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # a module may import from earlier lines only
    {"config", "geometry"},
    {"crop", "correlation", "backbones", "kernels"},
    {"heads"},
    {"network"},
    {"backends"},
    {"loop"},
    {"evidence", "video", "draw", "scene"},
    {"similarity"},
    {"lost"},
    {"benchmark"},
    {"demo"},
    {"cli"},
]
ALLOWED = {  # package -> modules of tracker/ that may import it
    "torch": {
        "backbones",
        "correlation",
        "heads",
        "network",
        "backends",
        "similarity",
        "loop",
        "lost",
        "benchmark.peers",
        "benchmark.report",
    },
    "numba": {"kernels", "benchmark.report"},
    "train": set(),
}


def modules():
    for path in sorted((ROOT / "tracker").rglob("*.py")):
        yield ".".join(path.relative_to(ROOT / "tracker").with_suffix("").parts), path


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name):
    return next((i for i, names in enumerate(LAYERS) if name.split(".")[0] in names), None)


def test_every_module_has_a_layer():
    unknown = [name for name, _ in modules() if name != "__init__" and layer(name) is None]
    assert not unknown


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_run_one_way(name, path):
    if name == "__init__":
        return
    for target in imported(path):
        package, *rest = target.split(".")
        if package in ALLOWED:
            assert name in ALLOWED[package], f"{name} imports {target}"
        if package == "tracker" and rest and layer(rest[0]) is not None and rest[0] != name.split(".")[0]:
            assert layer(rest[0]) < layer(name), f"{name} imports {target}"


def test_reading_video_and_help_do_not_import_torch():
    code = "import sys, tracker.video, tracker.draw, tracker.geometry, tracker.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
