"""Weights of networks in files: read, written, averaged. No code in a file is run."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tracker.config import SIAMFC, ModelConfig, from_dict, parse_json, to_dict
from tracker.errors import CheckpointError, ConfigError
from tracker.footage.output import write_whole
from tracker.network import SiameseNet, build_network

T = TypeVar("T")
SCALE = ":scale"  # after the name of weights in 8 bits: the value of one step of each output


def save_network(net: nn.Module, file: str | Path, half: bool = True, eight: bool = False) -> None:
    """Write the weights and `net.config` (a dataclass) as one safetensors file, whole or not at all.

    half: fp16. eight: matrices and kernels in 8 bits a number, with a scale for each output; kernels of one channel are
    few, and lose most by it: they are not.
    """
    state = {k: v.detach().cpu() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    if eight:
        for name, value in [(k, v) for k, v in state.items() if v.ndim > 1 and v.shape[1] > 1]:
            scale = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
            over = scale.view(-1, *[1] * (value.ndim - 1))
            state |= {name: (value / over).round().to(torch.int8), name + SCALE: scale}
    state = {
        k: (v.half() if half and v.is_floating_point() and not k.endswith(SCALE) else v).contiguous()
        for k, v in state.items()
    }
    write_whole(Path(file), save(state, metadata={"config": json.dumps(to_dict(net.config))}))


def load_network(file: str | Path) -> SiameseNet:
    """Read a network in evaluation mode: our safetensors, or a PyTorch state dict in the siamfc-pytorch layout.

    No code in the file is run. Raises FileNotFoundError; CheckpointError (truncated, foreign, wrong shapes).
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    if path.suffix == ".safetensors":
        config, state = read_safetensors(path, ModelConfig)
    else:
        config, state = SIAMFC, _read_siamfc_pytorch(path)
    net = build_network(config)
    fill_weights(net, state, f"{path}: not the weights of a {config.network}")
    return net.eval()


def average(nets: Sequence[SiameseNet]) -> SiameseNet:
    """The mean of the weights of networks that began with the same ones (Wortsman et al. 2022), as the last of them.

    Raises CheckpointError: their weights differ in kind.
    """
    net = copy.deepcopy(nets[-1])
    states = [other.state_dict() for other in nets]
    if any({k: v.shape for k, v in s.items()} != {k: v.shape for k, v in states[-1].items()} for s in states):
        raise CheckpointError(
            f"only networks of one kind have an average; these are {', '.join(other.config.network for other in nets)}"
        )
    mean = {
        k: torch.stack([s[k] for s in states]).mean(0) if v.is_floating_point() else v for k, v in states[-1].items()
    }
    net.load_state_dict(mean)
    return net


def fill_weights(net: nn.Module, state: dict[str, Tensor], complaint: str) -> None:
    """Put the weights `state` into `net`. Raises CheckpointError, which begins with `complaint`, if they do not fit."""
    check_shapes(net, state, complaint)
    broken = [k for k, v in state.items() if not torch.isfinite(v).all()]
    if broken:
        raise CheckpointError(f"{complaint}: {broken[0]!r} holds values that are no numbers")
    net.float().load_state_dict({k: v.float() for k, v in state.items()}, strict=False)


def check_shapes(net: nn.Module, state: dict[str, Tensor], complaint: str) -> None:
    """Raise CheckpointError, which begins with `complaint`, if the weights `state` do not fit into `net`."""
    expected = {k: v.shape for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    found = {k: v.shape for k, v in state.items()}
    wrong = [k for k in expected if found.get(k) != expected[k]] + [k for k in found if k not in expected]
    if wrong:
        raise CheckpointError(f"{complaint}: {len(wrong)} entries differ, first {wrong[0]!r}")


def read_safetensors(path: Path, cls: type[T]) -> tuple[T, dict[str, Tensor]]:
    """Config (a `cls`) and weights of a file. Raises CheckpointError: truncated, foreign, another kind of network."""
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        if "config" not in meta:
            raise CheckpointError(f"{path}: a safetensors file without a siamtrack config")
        for name in [k for k, v in state.items() if k + SCALE in state and state[k + SCALE].shape == v.shape[:1]]:
            steps = state.pop(name + SCALE).float()
            state[name] = state[name].float() * steps.view(-1, *[1] * (state[name].ndim - 1))
        values = parse_json(meta["config"])
        if isinstance(values, dict) and not {field.name for field in fields(cls)} & set(values):  # type: ignore[arg-type]
            raise CheckpointError(
                f"{path}: weights of another kind of network; Tracker and `siamtrack track` take those of trackers,"
                " Similarity and `siamtrack similarity` those that tell same from different"
            )
        return from_dict(cls, values), state
    except (SafetensorError, ConfigError) as error:
        raise CheckpointError(f"{path}: truncated or foreign weight file: {error}") from None


def _read_siamfc_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):  # PyTorch's own thoughts on foreign files
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken file
        raise CheckpointError(f"{path}: truncated or foreign weight file ({type(error).__name__})") from None
    if not isinstance(state, dict) or "backbone.conv1.0.weight" not in state:
        raise CheckpointError(
            f"{path}: not a known layout; allowed: .safetensors of siamtrack, or a siamfc-pytorch state dict"
            " (backbone.conv1.0.weight ...)"
        )
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    # That layout keeps the response scale out of the file: 0.001, no shift.
    return {"head.scale": torch.tensor(1e-3), "head.bias": torch.zeros(()), **state}
