"""Imports run one way, and heavy packages stay in their rooms."""

import ast
import graphlib
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DRAWING = runpy.run_path(str(ROOT / "docs" / "draw_imports.py"))
imported = DRAWING["imported"]
LAYERS = [  # a module may import from earlier lines only
    {"errors", "extras", "machine"},
    {"geometry", "kernels"},
    {"config", "runner"},
    {"crop", "correlation", "backbones", "graphs"},
    {"heads", "footage", "fastest", "copies"},
    {"network"},
    {"backends", "checkpoints"},
    {"similarity"},
    {"engine", "draw", "scene", "progress", "emit"},
    {"target", "loading"},
    {"evidence", "plain", "pyramid"},
    {"search", "exclusion"},
    {"tracks", "samples"},
    {"tracker"},
    {"benchmark", "export"},
    {"demo", "label", "detections", "recorder", "viewer"},
    {"web", "replay", "dataset", "dropins"},
    {"cli"},
]
WINGS = {  # the same inside a wing: rooms, and modules that several rooms use
    "similarity": [{"strokes", "letters"}, {"network"}, {"likeness"}, {"command"}],
    "footage": [
        {"containers", "files", "output", "pyav"},
        {"video"},
        {"decoder", "boxes"},
        {"dataset"},
        {"sequence"},
        {"clip"},
        {"masks"},
        {"single", "mot", "plain", "photos", "lists"},
        {"cvat"},
        {"layouts"},
        {"check"},
    ],
    "benchmark": [
        {"protocols", "events"},
        {"results"},
        {"judge"},
        {"peers"},
        {"run"},
        {"report"},
        {"command"},
    ],
    "web": [
        {"reel", "access", "overlay", "played"},
        {"following"},
        {"labelling"},
        {"session"},
        {"app"},
        {"command"},
    ],
}
ALLOWED = {  # package -> modules of tracker/ that may import it
    "torch": {
        "backbones",
        "correlation",
        "heads",
        "network",
        "checkpoints",
        "backends",
        "similarity.network",
        "similarity.likeness",
        "export",
    },
    "numba": {"kernels"},
    "fastapi": {"web.app"},
    "uvicorn": {"web.command"},
    "train": set(),
    "siamtrack": set(),
}


def modules():
    for path in sorted((ROOT / "tracker").rglob("*.py")):
        yield ".".join(path.relative_to(ROOT / "tracker").with_suffix("").parts), path


def place(layers, name):
    return next((i for i, names in enumerate(layers) if name in names), None)


def test_every_module_has_a_layer():
    for name, _ in modules():
        first, *rest = name.removesuffix("__init__").rstrip(".").split(".")
        assert not first or place(LAYERS, first) is not None, name
        assert not rest or first not in WINGS or place(WINGS[first], rest[0]) is not None, name


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_run_one_way(name, path):
    if name == "__init__":
        return
    own = name.split(".")
    for target in imported(path):
        package, *rest = target.split(".")
        if package in ALLOWED:
            assert name in ALLOWED[package], f"{name} imports {target}"
        if package != "tracker":
            continue
        layers = LAYERS
        if rest[:1] == own[:1] and own[0] in WINGS:  # both in one wing: its rooms count
            layers, rest, mine = (
                [*WINGS[own[0]], {"__init__"}],
                rest[1:],
                own[1],
            )  # the door of a wing is above its rooms
        else:
            mine = own[0]
        if rest and rest[0] != mine and place(layers, rest[0]) is not None:
            assert place(layers, rest[0]) < place(layers, mine), f"{name} imports {target}"


def test_no_two_modules_import_each_other():
    """Not even in functions, and not inside a room: sorted by their imports the modules stand in a line."""
    list(graphlib.TopologicalSorter(DRAWING["graph"]()).static_order())


def test_the_drawing_in_the_guide_is_that_of_the_code():
    assert DRAWING["drawing"]() in DRAWING["PAGE"].read_text(), "it is another by now: python docs/draw_imports.py"


def test_the_reading_path_stays_short():
    """What a newcomer reads to follow one frame, as the guide lists it; lower these numbers when it gets shorter."""
    listed = (ROOT / "docs" / "guide" / "house.md").read_text().split("## The reading path")[1].split("Half an hour")[0]
    names = re.findall(r"`(\w+)`", listed)
    texts = [(ROOT / "tracker" / f"{name}.py").read_text() for name in names]
    assert len(names) == 12 and names[-1] == "tracker"
    assert sum(len(text.splitlines()) for text in texts) <= 1790
    assert sum(len(text.split()) for text in texts) <= 10_900


def test_imports_are_absolute():
    for name, path in modules():
        assert not re.search(r"^\s*from \.", path.read_text(), re.M), name


def test_box_and_image_are_defined_once():
    homes = {"Box": [], "Image": []}
    for name, path in modules():
        for node in ast.parse(path.read_text()).body:
            named = node.targets if isinstance(node, ast.Assign) else [node]
            for one in named:
                homes.get(getattr(one, "id", getattr(one, "name", "")), []).append(name)
    assert homes == {"Box": ["geometry"], "Image": ["crop"]}


def test_reading_video_and_help_do_not_import_torch():
    modules = "tracker.footage.layouts, tracker.draw, tracker.geometry, tracker.cli"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
