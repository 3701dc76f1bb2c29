"""From a name, a file or a folder to a network that is ready to track, with PyTorch or without it."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tracker import graphs
from tracker.errors import GraphError, InputError, MissingError
from tracker.extras import how_to_get
from tracker.fastest import FIRST, fastest

if TYPE_CHECKING:  # PyTorch is imported where it is used, which is not where graphs are
    from tracker.network import SiameseNet


def open_weights(
    weights: str | Path, device: str, threads: int | None, engine: str
) -> tuple[Path, SiameseNet | graphs.Opened]:
    """Where the weights lie, and the network; see `tracker.Tracker.load`.

    Graphs are taken where they can run: those of a folder, and those beside a file that were made of it.
    Raises InputError, CheckpointError, MissingError.
    """
    graphs.check_threads(threads)
    path = Path(weights)
    if graphs.is_network(path) and weights not in weight_names():  # a name is a str; a path is a path
        if device not in ("auto", "cpu"):
            raise InputError(f"{path}: graphs run on the cpu; got {device!r}")
        opened = _open_graphs(path, threads, engine)
        assert opened
        return path, opened
    path = weight_file(weights)
    opened = _graphs_of(path, threads, engine) if graphs.can_run(device, engine) else None
    if opened:
        return path, opened
    try:
        from tracker.checkpoints import load_network
    except ImportError as error:
        text = f"{weights}: {error}; without PyTorch only what `siamtrack export` wrote runs"
        if graphs.missing(FIRST):
            text += f", by {FIRST}: {how_to_get(graphs.ENGINES[FIRST])}"
        raise MissingError(text) from None
    return path, load_network(path)


def _open_graphs(folder: Path, threads: int | None, engine: str, made_of: str = "") -> graphs.Opened | None:
    """A network from its graphs. made_of: digest of the weights that it must have been made of; None: it was not."""
    opened = graphs.open_network(folder, threads or 1, FIRST if engine == "auto" else engine)
    if made_of and opened.weights != made_of:
        return None
    if engine == "auto" and (chosen := fastest((folder / "search.onnx").read_bytes(), threads or 1)) != FIRST:
        opened = graphs.open_network(folder, threads or 1, chosen)
    return opened


def _graphs_of(weights: Path, threads: int | None, engine: str) -> graphs.Opened | None:
    """The network from the graphs beside its weights, unless they are broken or were made of others."""
    folder = weights.with_suffix("")
    if not (weights.name.endswith(".safetensors") and graphs.is_network(folder)):
        return None
    try:
        return _open_graphs(folder, threads, engine, graphs.digest(weights))
    except GraphError:
        if not find_spec("torch"):
            raise
        return None


def weight_file(name: str | Path) -> Path:
    """The file of shipped weights (a name) or `name` itself. Raises ValueError: neither."""
    if name in weight_names():
        return Path(str(files("tracker") / "weights" / f"{name}.safetensors"))
    if not Path(name).is_file():
        raise InputError(f"no weights {str(name)!r}: neither a file nor one of {', '.join(weight_names())}")
    return Path(name)


def weight_names() -> list[str]:
    """Names of the trackers' weights that come with the package."""
    folder = files("tracker") / "weights"
    names = {f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors")}
    return sorted(names)
