"""The config of a training run: one complete YAML."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Literal

from tracker.config import ModelConfig, Range, check_ranges
from tracker.errors import ConfigError


@dataclass(frozen=True)
class PairConfig:
    """How pairs are drawn. Probabilities in [0, 1]; px are search-crop px."""

    mix: dict[str, float]  # weight of each source of the store; a source that is not named is not used
    max_gap: int  # frames between exemplar and search
    max_shift: float  # the target lies up to this far from the centre of the search crop, along each axis
    scale_jitter: float  # log of the largest error in size of the search crop
    shape_jitter: float  # log of the largest error of its sides against each other
    turn: float  # radians by which search crops of real footage are turned at most; stretched by a quarter
    exemplar_jitter: float  # share of the target's size by which the exemplar may miss it
    part: float  # the target is a part of the object, or more than it: a box drawn otherwise, alike in both crops
    absent: float  # the search crop does not show the target, but another place of its frame or one of its kind
    cutout: float  # the target is cut out by its mask and pasted onto other footage
    deform: float  # strength of the bending of pasted targets; 1 moves their parts by a twelfth of their size
    motion_blur: float  # a pasted target is smeared along its way to the search crop's centre
    distractor: float  # other cut-outs are pasted beside (or, in part, over) the target
    look_alike: float  # the target's own cut-out is pasted beside it in other colours, mirrored or turned
    imposter: float  # where the target is not in view, its cut-out in other colours, mirrored or not, is in its place
    occluder: float  # a piece of other footage or a bar hides up to half of the target
    flip: float  # both crops are mirrored
    grey: float  # both crops are grey
    colour: float  # strength of the independent change of light, contrast and colour of each crop
    blur: float  # a crop is blurred: by a camera that shakes, defocus, or loss of resolution
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
    train: Literal["all", "head", "refiner"]  # every weight; the head (and swift's refiner); swift's refiner alone
    frozen_stages: int  # first stages of the trunk that keep their weights; the trunk's batch-norm is frozen with them
    frozen_norm: bool  # batch-norm uses the statistics it came with, and keeps them
    start_share: float  # of the weights that the run began with in those that are kept (Wortsman et al. 2022)
    steps: int
    batch: int  # pairs a step
    micro_batch: int  # pairs a forward pass; gradients add up to `batch`
    clip: float  # largest gradient norm
    ema: float  # decay of the averaged weights that are kept in the end


@dataclass(frozen=True)
class ScoreLoss:
    """The loss of a network with a score map only (siamfc), and its weights; see train/losses.py."""

    radius: float  # positives lie within this many search px of the target's centre
    hard: float  # weight of the hardest negatives
    swapped: float  # weight of pairs with another target's exemplar, taken from the same batch


@dataclass(frozen=True)
class BoxLoss:
    """The loss of a network with a box map (swift, swift-nano), and its weights; see train/losses.py."""

    score: Literal["bce", "focal"]  # loss of the score map
    overlap: Literal["giou", "diou"]  # loss of the box map
    box: float  # weight of the loss of the box map
    hard: float  # weight of the hardest negatives
    swapped: float  # weight of pairs with another target's exemplar, taken from the same batch
    refine: float  # weight of the loss of refined boxes; 0 leaves the refiner as it came


@dataclass(frozen=True)
class RefinerLoss:
    """The loss of swift's refiner alone (`optim.train: refiner`), and its weight; see train/tasks/refiner.py."""

    refine: float


@dataclass(frozen=True)
class TrainConfig:
    """A complete run."""

    seed: Annotated[int, Range(0, 2**32 - 1)]
    model: ModelConfig
    precision: Literal["fp32", "bf16"]  # of the forward and backward pass; the weights are fp32
    search_size: int  # of the training crops; a network without padding may train on smaller ones than it tracks with
    pairs: PairConfig
    loss: ScoreLoss | BoxLoss | RefinerLoss
    optim: OptimConfig

    def __post_init__(self) -> None:
        check_ranges(self)
        low = min(self.optim.batch, self.optim.micro_batch, self.optim.steps)
        if low < 1:
            raise ConfigError(f"optim.batch, optim.micro_batch and optim.steps must be at least 1; got {low}")
        if not self.pairs.mix or min(self.pairs.mix.values()) < 0 or sum(self.pairs.mix.values()) == 0:
            raise ConfigError("pairs.mix: give the sources weights of at least 0, one of them above 0")
        parts = {"siamfc": ["all"], "swift-nano": ["all", "head"], "swift": ["all", "head", "refiner"]}
        if self.optim.train not in parts[self.model.network]:
            allowed = " or ".join(parts[self.model.network])
            raise ConfigError(f"optim.train: of {self.model.network} train {allowed}; got {self.optim.train!r}")
        alone = self.optim.train == "refiner"
        wanted = ScoreLoss if self.model.network == "siamfc" else RefinerLoss if alone else BoxLoss
        if not isinstance(self.loss, wanted):
            keys = ", ".join(field.name for field in fields(wanted))
            raise ConfigError(f"loss: {self.model.network} with optim.train {self.optim.train} takes the keys {keys}")
        if isinstance(self.loss, RefinerLoss) and self.loss.refine <= 0:
            raise ConfigError("optim.train: to train the refiner takes loss.refine above 0")
        if not 0 <= self.optim.start_share < 1:
            raise ConfigError(f"optim.start_share must be in [0, 1); got {self.optim.start_share}")
        if self.optim.batch % self.optim.micro_batch:
            raise ConfigError(f"optim.batch ({self.optim.batch}) must be a multiple of optim.micro_batch")
        if isinstance(self.loss, BoxLoss) and self.loss.refine and self.model.network == "swift-nano":
            raise ConfigError(f"loss.refine: swift-nano has no refiner, give 0; got {self.loss.refine}")
        if self.model.network != "siamfc" and self.search_size != self.model.search_size:
            raise ConfigError("search_size: a padded network trains on the size it tracks with (model.search_size)")
