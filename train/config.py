"""The config of a training run: one complete YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tracker.config import ConfigError, ModelConfig


@dataclass(frozen=True)
class PairConfig:
    """How pairs are drawn. Probabilities in [0, 1]; px are search-crop px."""

    mix: dict[str, float]  # weight of each source of the store; a source that is not named is not used
    max_gap: int  # frames between exemplar and search
    max_shift: float  # the target lies up to this far from the centre of the search crop, along each axis
    scale_jitter: float  # log of the largest error in size of the search crop
    exemplar_jitter: float  # share of the target's size by which the exemplar may miss it
    absent: float  # the search crop does not show the target, but another place of its frame or one of its kind
    cutout: float  # the target is cut out by its mask and pasted onto other footage
    distractor: float  # other cut-outs are pasted beside (or, in part, over) the target
    flip: float  # both crops are mirrored
    grey: float  # both crops are grey
    colour: float  # strength of the independent change of light, contrast and colour of each crop
    blur: float  # motion blur, defocus, or loss of resolution of a crop
    noise: float  # sensor noise or JPEG artefacts in a crop


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule, over `steps` steps (or over the minutes given on the command line)."""

    optimiser: Literal["sgd", "adamw"]
    lr: float
    lr_end: float
    schedule: Literal["geometric", "cosine"]
    warmup: float  # share of the run
    weight_decay: float
    momentum: float  # SGD's
    trunk_lr: float  # factor on the trunk's learning rate
    frozen_stages: int  # first stages of the trunk that keep their weights; the trunk's batch-norm is frozen with them
    steps: int
    batch: int  # pairs a step
    micro_batch: int  # pairs a forward pass; gradients add up to `batch`
    clip: float  # largest gradient norm
    ema: float  # decay of the averaged weights that are kept in the end


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss; see train/losses.py."""

    radius: float  # siamfc: positives lie within this many search px of the target's centre
    box: float  # swift: weight of the GIoU loss
    hard: float  # weight of the hardest negatives
    swapped: float  # weight of pairs with another target's exemplar, taken from the same batch


@dataclass(frozen=True)
class TrainConfig:
    """A complete run."""

    seed: int
    model: ModelConfig
    search_size: int  # of the training crops; a network without padding may train on smaller ones than it tracks with
    pairs: PairConfig
    loss: LossConfig
    optim: OptimConfig

    def __post_init__(self) -> None:
        if self.optim.batch % self.optim.micro_batch:
            raise ConfigError(f"optim.batch ({self.optim.batch}) must be a multiple of optim.micro_batch")
        if self.model.network == "swift" and self.search_size != self.model.search_size:
            raise ConfigError("search_size: a padded network trains on the size it tracks with (model.search_size)")
