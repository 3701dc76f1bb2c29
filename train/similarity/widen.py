"""Begin a network from the weights of another one: a copy, or a wider network that at first does the same."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tracker.config import to_dict
from tracker.errors import ConfigError
from tracker.similarity import FITTED, SimilarityNet, load_similarity

UNEVEN = 0.5  # deviation of the shares by which a weight is dealt out, relative to an even share


def begin_from(net: SimilarityNet, file: Path, seed: int = 0) -> None:
    """Give `net` the weights in `file`; mutates net.

    Those of a network of Koch et al. with fewer channels are widened (Chen et al. 2016, Net2WiderNet, section 2.2):
    each channel and feature becomes several copies, and what came from one comes in uneven shares from its copies, so
    that the answers stay the same and the copies learn different things. A narrow network trains many times faster.
    Raises FileNotFoundError, CheckpointError, ConfigError: widths that are no multiples, or another kind of network.
    """
    narrow = load_similarity(file)
    own, given = net.config, narrow.config
    free = (*FITTED, "widths", "embedding", "dropout")
    ours, theirs = to_dict(own), to_dict(given)
    if differ := [key for key in ours if key not in free and ours[key] != theirs[key]]:
        raise ConfigError(f"{file} holds another kind of network: its {', '.join(differ)} differ")
    wide, slim = (*own.widths, own.embedding), (*given.widths, given.embedding)
    if wide != slim and (own.trunk != "koch" or own.reader != "logistic"):
        raise ConfigError(f"{file}: only a koch network with a logistic reader is widened; it has {slim}, not {wide}")
    if any(w % s for w, s in zip(wide, slim, strict=True)):
        raise ConfigError(f"{file}: widths and embedding must be multiples of its {slim}, got {wide}")
    rng = torch.Generator().manual_seed(seed)
    state = narrow.state_dict()
    for name, value in net.state_dict().items():
        old = state[name]
        if value.shape != old.shape:
            old = _widened(old, value, given.widths[-1] if "neck" in name else None, rng)
        state[name] = old
    net.load_state_dict(state)


def _widened(old: Tensor, like: Tensor, channels: int | None, rng: torch.Generator) -> Tensor:
    """A weight or bias of the narrow network in the shape of that of the wide one.

    channels: of the maps that a fully-connected layer sees, all cells of one channel after the other; None: no maps.
    """
    new = old.repeat_interleave(like.shape[0] // old.shape[0], 0)
    if old.ndim == 1 or old.shape[1] == like.shape[1]:
        return new
    copies = like.shape[1] // old.shape[1]
    if channels:
        new = new.unflatten(1, (channels, -1))
    shares = torch.randn(*new.shape[:2], copies, *new.shape[2:], generator=rng) * UNEVEN
    shares = (1 + shares - shares.mean(2, keepdim=True)) / copies
    return (new.unsqueeze(2) * shares).reshape(like.shape)
