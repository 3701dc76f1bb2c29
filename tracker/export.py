"""`siamtrack export`: a network as a folder of graphs, which tracks without PyTorch."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import tracker as package
from tracker.backends import Part, exported, folded, parts_of
from tracker.checkpoints import load_network
from tracker.config import to_dict
from tracker.errors import InputError
from tracker.extras import how_to_get
from tracker.footage.output import named, only_run, swap_folder
from tracker.graphs import GRAPHS, KEY, About, digest, open_network
from tracker.loading import weight_file
from tracker.network import SiameseNet, Swift

MOST_OFF = 1e-3  # of the largest value of an output: what a graph may be off from PyTorch
LICENCES = {"siamfc": "MIT", "swift": "MIT", "swift-nano": "Apache-2.0"}  # of what each began from, see NOTICE


class Written(NamedTuple):
    """What an export wrote.

    folder: with a file for each graph. size: bytes. off: the most that an output differs from PyTorch's, as a share of
    its largest value.
    """

    folder: Path
    size: int
    off: float


def export(weights: Path, folder: Path, licence: str | None = None, force: bool = False) -> Written:
    """Write the graphs of a tracker's network to a folder: whole, or not at all.

    weights: as for `load_network`. licence: of the weights; None: that of what the network began from. force: graphs
    that are there go, other files stay.
    Raises FileExistsError: there is something in the folder, without force; ValueError: an output
    that is off from PyTorch's by more than `MOST_OFF`, ONNX Runtime or onnx is not installed.
    """
    folder = folder.resolve()
    if not all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx")):
        raise InputError(f"an export wants onnxruntime and onnx: {how_to_get('fast')}")
    if folder == Path.cwd() or folder.is_mount():
        raise InputError(f"{folder} cannot be replaced as a whole; name a folder in it")
    net = load_network(weights)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not force:
        raise FileExistsError(f"{folder} is there already; --force overwrites it")
    about = About(
        package.__version__, licence or LICENCES[net.config.network], digest(weights), net.config, net.grid.cells,
        net.grid.stride, net.grid.first,
    )  # fmt: skip
    part = folder.with_name(f".{folder.name}.part")
    made, parts = part / folder.name, parts_of(folded(net))
    with only_run(part):
        shutil.rmtree(made, ignore_errors=True)  # of a run that was killed
        try:
            _keep_others(folder, made)
            _write(made, parts, about)
            off = _compare(net, made)
            if off > MOST_OFF:
                raise InputError(
                    f"{weights}: a graph is off from PyTorch by {off:.1e} of its largest output; not written"
                )
            swap_folder(made, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Written(folder, sum((folder / f"{name}.onnx").stat().st_size for name in parts), off)


def _keep_others(folder: Path, made: Path) -> None:
    """What is no graph of ours in a folder, to that which takes its place: linked where the disk can, not copied."""
    ours = [f"{name}.onnx" for name in GRAPHS]

    def link(source: str, to: str) -> None:
        try:
            os.link(source, to)
        except OSError:
            shutil.copy2(source, to)

    def graphs(at: str, _: list[str]) -> list[str]:
        return ours if Path(at) == folder else []

    if folder.is_dir():
        shutil.copytree(folder, made, symlinks=True, ignore=graphs, copy_function=link)
    else:
        made.mkdir()


def _write(folder: Path, parts: dict[str, Part], about: About) -> None:
    for name, part in parts.items():
        file = folder / f"{name}.onnx"
        with named(file):
            file.write_bytes(_described(exported(GRAPHS[name], part), about))


def _described(graph: bytes, about: About) -> bytes:
    """A graph that says what it is, in half the bytes: numbers that half precision holds exactly are kept in it."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load_from_string(graph)
    casts = []
    for number in model.graph.initializer:
        values = numpy_helper.to_array(number)
        if values.dtype == np.float32 and values.size > 64:
            with np.errstate(over="ignore"):
                half = values.astype(np.float16)
            if np.array_equal(half.astype(np.float32), values):
                name = number.name
                number.CopyFrom(numpy_helper.from_array(half, f"{name} half"))
                casts.append(helper.make_node("Cast", [f"{name} half"], [name], to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(to_dict(about))
    model.producer_name, model.producer_version = "siamtrack", about.version
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _compare(net: SiameseNet, folder: Path, engine: str = "onnxruntime") -> float:
    """The most that an output of the graphs in a folder differs from PyTorch's, as a share of its largest value."""
    rng, cfg = np.random.default_rng(0), net.config
    runner = open_network(folder, 1, engine).runner
    off = 0.0

    def note(got: NDArray[np.float32], expected: torch.Tensor) -> None:
        nonlocal off
        true = expected.numpy()
        off = max(off, float(np.abs(got - true).max() / np.abs(true).max()))

    def planes(crops: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(crops).permute(0, 3, 1, 2).float()

    exemplars, crops = (
        rng.integers(0, 256, (2, side, side, 3), dtype=np.uint8) for side in (cfg.exemplar_size, cfg.search_size)
    )
    extents = np.array([[0.5, 0.6], [0.7, 0.4]], np.float32)
    boxes = rng.uniform(60, 120, (2, 4)).astype(np.float32)
    with torch.inference_mode():
        template = net.embed(planes(exemplars), torch.from_numpy(extents))
        features, patches = runner.embed(exemplars, extents)
        note(np.concatenate(features), template.features)
        maps, answer = net(template, planes(crops)), runner.compare(features, crops)
        note(answer.logits, maps.logits)
        if maps.box_map is not None and answer.box_map is not None:
            note(answer.box_map, maps.box_map)
        if isinstance(net, Swift):
            given = torch.from_numpy(boxes)
            seen = net.patches(maps.levels, given)
            looked = runner.patches(answer.levels, [0, 1], boxes)
            note(patches, template.patch)
            note(looked, seen)
            note(runner.refine(patches, looked, boxes), net.refine(template.patch, seen, given))
    return off


# --- siamtrack export ------------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `export_command`."""
    parser.add_argument("weights", metavar="NAME|FILE", help="shipped weights (swift, swift-nano, siamfc) or a file")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the graphs; `--weights DIR` tracks with it"
    )
    parser.add_argument("--format", default="onnx", choices=["onnx"], help="of the graphs [onnx]")
    parser.add_argument("--licence", metavar="TEXT", help="of the weights [that of what the network began from]")
    parser.add_argument("--force", action="store_true", help="overwrite what an export wrote there")


def export_command(args: argparse.Namespace) -> int:
    """Write a network as graphs, compare them with PyTorch, and say what there is."""
    written = export(weight_file(args.weights), Path(args.out), args.licence, args.force)
    print(f"wrote {written.folder}: {written.size / 1e6:.1f} MB, off from PyTorch by at most {written.off:.0e}")
    return 0
