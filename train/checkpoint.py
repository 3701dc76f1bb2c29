"""What the training loop does with its state: take it up, write it whole or not at all, stop when asked to."""

from __future__ import annotations

import contextlib
import io
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from tracker.checkpoints import save_network
from tracker.errors import CheckpointError
from tracker.footage.output import write_whole


def load_state(folder: Path) -> dict[str, Any] | None:
    """What `save_state` left in the folder of a run as last.pt, None if nothing; no code in it is run.

    Raises CheckpointError: the file is damaged.
    """
    path = folder / "last.pt"
    return _load(path, "; take it away to begin the run anew") if path.is_file() else None


def read_imagenet(path: Path) -> dict[str, Any]:
    """ImageNet weights of a trunk, a state dict; no code in it is run.

    Raises FileNotFoundError; CheckpointError: the file is damaged or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    return _load(path, "; wanted: the state dict of a MobileNetV2, as torch.save writes it")


def _load(path: Path, advice: str) -> dict[str, Any]:
    reason = "it holds no state dict"
    try:
        with warnings.catch_warnings(action="ignore"):  # PyTorch's own thoughts on foreign files
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file, and advises to run the code in it
        reason = str(error).partition(".")[0].partition("\n")[0] or type(error).__name__
    else:
        if isinstance(state, dict):
            return state
    raise CheckpointError(f"{path} is damaged ({reason}){advice}")


def save_state(folder: Path, state: dict[str, Any], net: nn.Module) -> None:
    """Write the state of a run as last.pt and the weights of `net` as last.safetensors, each whole or not at all.

    state: all that the run needs to go on; its "step" is named when that fails. Raises CheckpointError: they cannot be
    written (a full disk); what was saved before stays.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        write_whole(folder / "last.pt", buffer.getvalue())
        save_network(net, folder / "last.safetensors")
    except OSError as error:
        raise CheckpointError(
            f"{folder}: step {state['step']} was not saved ({error.strerror or error}); the checkpoint before it stays"
        ) from None


@contextlib.contextmanager
def only_warn() -> Iterator[None]:
    """Says that a checkpoint on the way could not be written, and goes on: it is tried again later."""
    try:
        yield
    except CheckpointError as error:
        tqdm.write(f"{error}; training goes on")


@contextlib.contextmanager
def saved_at_the_end(save: Callable[[], None], batches: Any) -> Iterator[None]:
    """However training ends, close the source of `batches` and `save`; not after a loss that is not finite.

    Then the checkpoint before it stays.
    """
    sane = True
    try:
        yield
    except FloatingPointError:
        sane = False
        raise
    finally:
        batches.close()
        if sane:
            save()


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Says whether Ctrl-C, SIGTERM or SIGHUP came, instead of ending the process within a step."""
    asked = False

    def note(*_: object) -> None:
        nonlocal asked
        asked = True

    ending = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        ending.append(signal.SIGHUP)
    before = {s: signal.signal(s, note) for s in ending}
    try:
        yield lambda: asked
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
