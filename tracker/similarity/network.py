"""The networks of the Siamese family.

A network is three parts: branches turn an image into features, and a reader compares the features of two images.
`embed` runs a branch, `join` runs the reader, so that references are embedded once and compared many times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from tracker.backbones import MobileNetV2, WholeMobileNetV2
from tracker.checkpoints import check_shapes, fill_weights, read_safetensors
from tracker.config import Logistic, Range, check_ranges
from tracker.errors import ConfigError, InputError
from tracker.similarity.letters import ALPHABET, letters
from tracker.similarity.strokes import strokes

DISTANCES = ("euclidean", "manhattan", "cosine")
SHIPPED = ("photos", "drawings", "verifier")  # names of the weights in tracker/weights/similarity
FITTED = ("threshold", "calibration", "far_thresholds", "about", "seen", "held_out", "data_print")  # not of a recipe
IMAGENET = {"mobilenet": MobileNetV2, "whole-mobilenet": WholeMobileNetV2}  # trunks that begin with ImageNet weights
WORDS = {"word-lstm": "lstm", "word-gru": "gru"}  # trunks that read letters, with what they are made of
SEQUENCES = ("lstm", "gru", *WORDS)  # trunks that read points or letters, not pixels
SHARPNESS = (
    7.0  # of attention; learnt by cross-entropy on Omniglot it is 5.6, and a matrix before the product gains nothing
)
PAIRS = 1024  # joined at once, where there is no matrix product
FARS = (0.1, 0.01, 0.001)  # false accept rates for which weights know thresholds


@dataclass(frozen=True)
class SecondBranch:
    """The branch for the second images of a pseudo-siamese network, where it is of another kind.

    trunk, widths, size: as of `SimilarityConfig`, for which this branch has no second stream and no pyramid.
    word-lstm, word-gru: the layers read a word of at most `size` letters, see `letters.letters`.
    """

    trunk: Literal["conv", "mlp", "lstm", "gru", "word-lstm", "word-gru"]
    widths: tuple[int, ...]
    size: Annotated[int, Range(1, 2000)]


@dataclass(frozen=True)
class SimilarityConfig:
    """A network of the family.

    pairing: siamese (one branch, called twice), pseudo-siamese (a branch for each image, of one kind or, with `second`,
    of two), two-channel (one branch sees both images as channels of one input; Zagoruyko & Komodakis 2015).
    trunk: conv (two 3x3 convolutions with batch-norm, then a pooling by 2, for each width), koch (Koch et al. 2015:
    10x10, 7x7, 4x4, 4x4, sigmoid at the end), mlp (fully connected), mobilenet (`backbones.MobileNetV2`, which can
    begin with ImageNet weights, and a mean over its cells), whole-mobilenet (`backbones.WholeMobileNetV2`, the same),
    lstm, gru (recurrent layers that read a drawing forward and back as `size` points of a pen, see `strokes.strokes`),
    word-lstm, word-gru (the same for letters of words; of second branches).
    widths: channels, or units of each hidden layer; [] for the mobilenets.
    two_stream: one stream for the centre at full resolution, one for the whole at half of it.
    pyramid: levels of the spatial pyramid pooling (He et al. 2014); with it, images of any size go in. [] for none.
    size: side of the images, px. channels: 1 (grey) or 3 (BGR). standardise: each image to mean 0 and deviation 1.
    embedding: length of the features of a branch. normalise: to length 1.
    reader: a distance of the features; logistic, w |f(a) - f(b)| + b (Koch et al. 2015); network, fully-connected
    layers on |f(a) - f(b)| and f(a) f(b) (on the features alone for two-channel).
    dropout: share of the hidden units of an mlp that are dropped in training.
    context_amount: of patches cut from frames, see `geometry.context_side`.
    about: what images the weights are for, in words.
    link: how a distance becomes the log-odds of being the same, see `DistanceReader`; None: the raw score of a distance
    is minus that distance.
    threshold: raw score from which two images count as the same; calibration: from raw score to the probability of
    being the same, where half of all pairs are; far_thresholds: raw scores that no more than a share of 0.1, 0.01,
    0.001 (`FARS`) of the different pairs reach, as far as there were pairs enough to tell. None before they are fitted
    on validation data.
    seen, held_out: names of the groups (alphabets, clips, classes of a folder) that the weights were fitted on or
    chosen by, and of those kept for the test; data_print: fingerprint of the images seen. A recipe leaves them out.
    """

    pairing: Literal["siamese", "pseudo-siamese", "two-channel"]
    trunk: Literal["conv", "koch", "mlp", "mobilenet", "whole-mobilenet", "lstm", "gru", "word-lstm", "word-gru"]
    widths: tuple[int, ...]
    two_stream: bool
    pyramid: tuple[int, ...]
    size: Annotated[int, Range(1, 2000)]
    channels: Literal[1, 3]
    standardise: bool
    embedding: Annotated[int, Range(1, 100_000)]
    normalise: bool
    reader: Literal["euclidean", "manhattan", "cosine", "logistic", "network"]
    dropout: float = 0.0
    context_amount: Annotated[float, Range(0, 10)] = 0.0
    link: Literal["sigmoid", "exp"] | None = None
    second: SecondBranch | None = None
    threshold: float | None = None
    calibration: Logistic | None = None
    far_thresholds: tuple[float, ...] | None = None
    about: str | None = None
    seen: tuple[str, ...] | None = None
    held_out: tuple[str, ...] | None = None
    data_print: str | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.second:
            if self.pairing != "pseudo-siamese":
                raise ConfigError(f"second is the second branch of pairing pseudo-siamese, not of {self.pairing}")
            self.side(True)  # which must be possible, too
        if self.trunk in SEQUENCES and (self.channels != 3 or self.standardise or self.pairing == "two-channel"):
            raise ConfigError(
                f"trunk {self.trunk} reads x, y and begin of a point: channels 3, standardise false, no two-channel"
            )
        if self.pairing == "two-channel" and (self.reader != "network" or self.normalise):
            raise ConfigError("pairing two-channel has no embeddings to compare: reader network, normalise false")
        if self.link and self.reader not in DISTANCES:
            raise ConfigError(f"link makes odds of a distance ({', '.join(DISTANCES)}), not of reader {self.reader}")
        if self.trunk != "conv" and (self.two_stream or self.pyramid):
            raise ConfigError(f"two_stream and pyramid need trunk conv, not {self.trunk}")
        together = self.pairing == "two-channel"
        if self.trunk in IMAGENET and (self.widths or self.channels != 3 or self.standardise or together):
            raise ConfigError(
                f"trunk {self.trunk} sees one colour image as it is and has its own widths: widths [], channels 3,"
                " standardise false, and not two-channel"
            )
        if self.trunk == "koch" and len(self.widths) != len(KOCH_KERNELS):
            raise ConfigError(f"widths: trunk koch has {len(KOCH_KERNELS)} convolutions, got {len(self.widths)} widths")
        if not self.widths and self.trunk not in IMAGENET:
            raise ConfigError(f"widths: trunk {self.trunk} needs at least one")
        if min((*self.widths, *self.pyramid, self.embedding)) < 1:
            raise ConfigError("widths, pyramid levels and embedding must be >= 1")
        if max((*self.widths, *self.pyramid, 0)) > 100_000 or len(self.widths) > 10 or len(self.pyramid) > 10:
            raise ConfigError("widths and pyramid levels: ten at most, none above 100000")
        if not 0 <= self.dropout < 1 or (self.dropout and self.trunk != "mlp"):
            raise ConfigError(f"dropout: in [0, 1), and 0 unless trunk is mlp; got {self.dropout:g}")
        least = self.smallest
        if self.size < least:
            raise ConfigError(f"size: these layers need at least {least} px, got {self.size}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what the first branch reads: pixels, points or letters."""
        if self.trunk in SEQUENCES:
            return (self.size, len(ALPHABET) if self.trunk in WORDS else 3)
        return (self.channels, self.size, self.size)

    @property
    def bare_distance(self) -> bool:
        """Whether raw scores are minus a distance; else they are logits."""
        return self.reader in DISTANCES and not self.link

    def side(self, second: bool) -> SimilarityConfig:
        """The config of the branch for the first or the second images."""
        if not second or not self.second:
            return self
        other, points = self.second, self.second.trunk in SEQUENCES
        return replace(
            self,
            trunk=other.trunk,
            widths=other.widths,
            size=other.size,
            channels=3 if points else self.channels,
            standardise=self.standardise and not points,
            two_stream=False,
            pyramid=(),
            dropout=0.0,
            second=None,
        )

    @property
    def smallest(self) -> int:
        """Side of the smallest image that goes in, px."""
        if self.trunk == "mlp" or self.trunk in SEQUENCES:
            return 1
        if self.trunk in IMAGENET:
            return IMAGENET[self.trunk].STRIDE
        if self.trunk == "koch":
            side = 1
            for i, kernel in reversed(list(enumerate(KOCH_KERNELS))):
                side = side * (2 if i < len(KOCH_KERNELS) - 1 else 1) + kernel - 1
            return side
        return 2 ** (len(self.widths) + self.two_stream)


# --- building blocks -------------------------------------------------------------------------------------------------

KOCH_KERNELS = (10, 7, 4, 4)


def conv_trunk(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """(N, channels, H, W) -> (N, widths[-1], H / 2^n, W / 2^n), n the number of widths, rounded down."""
    layers: list[nn.Module] = []
    for width in widths:
        for before in (channels, width):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
        channels = width
    return nn.Sequential(*layers)


def koch_trunk(channels: int, widths: Sequence[int]) -> nn.Sequential:
    """The convolutions of Koch et al. 2015, figure 4; a pooling by 2 after all but the last."""
    layers: list[nn.Module] = []
    for width, kernel in zip(widths, KOCH_KERNELS, strict=True):
        layers += [nn.Conv2d(channels, width, kernel), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers[:-1])


def mlp_trunk(inputs: int, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """(N, channels, H, W) -> (N, widths[-1])."""
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(dropout)]
        inputs = width
    return nn.Sequential(*layers)


class MobileTrunk(nn.Module):
    """MobileNetV2 for BGR images in [0, 1] (N, 3, H, W), and a mean in which the middle counts most: (N, channels)."""

    def __init__(self, kind: type[MobileNetV2]) -> None:
        super().__init__()
        self.backbone = kind()

    def forward(self, x: Tensor) -> Tensor:
        return centre_mean(self.backbone(255 * x.flip(1))[-1])


def centre_mean(x: Tensor) -> Tensor:
    """Mean over the cells of a map, with Gaussian weights whose deviation is a third of its side.

    (N, C, H, W) -> (N, C). What surrounds a target is no part of it.
    """
    weights = [torch.exp(-4.5 * ((torch.arange(n) + 0.5) / n - 0.5).square()) for n in x.shape[-2:]]
    both = torch.outer(*(w / w.sum() for w in weights))
    return (x * both.to(x)).sum((2, 3))


class Recurrent(nn.Module):
    """Recurrent layers that read a sequence forward and back, and the mean of what the last one says of each step."""

    def __init__(self, kind: str, inputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        layer = nn.LSTM if kind == "lstm" else nn.GRU
        sizes = [inputs, *(2 * width for width in widths[:-1])]
        self.layers = nn.ModuleList(
            layer(size, width, batch_first=True, bidirectional=True) for size, width in zip(sizes, widths, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, inputs) -> (N, 2 widths[-1])."""
        for layer in self.layers:
            x = layer(x)[0]
        return x.mean(1)


class Pyramid(nn.Module):
    """Maxima over the n x n parts of a map, for each level n: the same number of features for every size of map."""

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C sum(n^2))."""
        return torch.cat([F.adaptive_max_pool2d(x, level).flatten(1) for level in self.levels], 1)


def centre_surround(x: Tensor) -> tuple[Tensor, Tensor]:
    """The middle half at full resolution, and the whole at half of it: (N, C, H, W) -> twice (N, C, H // 2, W // 2)."""
    height, width = x.shape[-2] // 2, x.shape[-1] // 2
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width], F.avg_pool2d(x, 2)


def trunk_features(config: SimilarityConfig) -> int:
    """How many numbers the trunks of a branch make of an image (of `config.size`, where that matters)."""
    if config.trunk in IMAGENET:
        return IMAGENET[config.trunk].CHANNELS
    width = config.widths[-1]
    if config.trunk == "mlp":
        return width
    if config.trunk in SEQUENCES:
        return 2 * width  # forward and back
    side = config.size // 2 if config.two_stream else config.size
    if config.trunk == "koch":
        for kernel in KOCH_KERNELS[:-1]:
            side = (side - kernel + 1) // 2
        side -= KOCH_KERNELS[-1] - 1
    else:
        side //= 2 ** len(config.widths)
    cells = sum(level**2 for level in config.pyramid) or side**2
    return (2 if config.two_stream else 1) * width * cells


class Branch(nn.Module):
    """From images to features: one trunk, or one for each stream, then a fully-connected layer."""

    def __init__(self, config: SimilarityConfig, channels: int) -> None:
        super().__init__()
        self.two_stream = config.two_stream
        self.streams = nn.ModuleList()
        for _ in range(2 if config.two_stream else 1):
            if config.trunk == "mlp":
                trunk = mlp_trunk(channels * config.size**2, config.widths, config.dropout)
            elif config.trunk == "koch":
                trunk = koch_trunk(channels, config.widths)
            elif config.trunk in SEQUENCES:
                kind = WORDS.get(config.trunk, config.trunk)
                trunk = nn.Sequential(Recurrent(kind, config.shape[1], config.widths))
            elif config.trunk in IMAGENET:
                trunk = nn.Sequential(MobileTrunk(IMAGENET[config.trunk]))
            else:
                trunk = conv_trunk(channels, config.widths)
            if config.trunk not in IMAGENET and config.trunk not in SEQUENCES:
                trunk.append(Pyramid(config.pyramid) if config.pyramid else nn.Flatten())
            self.streams.append(trunk)
        self.neck = nn.Linear(trunk_features(config), config.embedding)
        self.end = nn.Sigmoid() if config.trunk == "koch" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, embedding)."""
        parts = centre_surround(x) if self.two_stream else (x,)
        features = torch.cat([stream(part) for stream, part in zip(self.streams, parts, strict=True)], 1)
        return self.end(self.neck(features))


def distance(a: Tensor, b: Tensor, kind: Literal["euclidean", "manhattan", "cosine"]) -> Tensor:
    """Distance of the rows: |a - b|_2, |a - b|_1, or 1 - cos(a, b). a, b: (N, D). Returns (N,), >= 0."""
    if kind == "cosine":
        return 1 - F.cosine_similarity(a, b, dim=1)
    return torch.linalg.vector_norm(a - b, ord=2 if kind == "euclidean" else 1, dim=1)


class DistanceReader(nn.Module):
    """The log-odds ln(p / (1 - p)) of being the same, from a distance d >= 0, with w > 0 and b learnt.

    sigmoid: p = 1 / (1 + exp(w d - b)). exp: p = exp(-w d), so that equal images are surely the same.
    """

    LEAST = 1e-6  # of w d under exp: the odds of equal images are infinite

    def __init__(self, link: Literal["sigmoid", "exp"]) -> None:
        super().__init__()
        self.log_w = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.ones(())) if link == "sigmoid" else None

    def forward(self, d: Tensor) -> Tensor:
        """(N,) -> (N,)."""
        scaled = self.log_w.exp() * d
        if self.b is not None:
            return self.b - scaled
        scaled = scaled.clamp(min=self.LEAST)
        return -scaled - torch.log(-torch.expm1(-scaled))


# --- the network -----------------------------------------------------------------------------------------------------


class SimilarityNet(nn.Module):
    """Any network of the family. Scores are raw: a logit, or minus a distance; higher means more alike.

    f(a, b) = f(b, a) holds for siamese pairing, not for pseudo-siamese and two-channel.
    """

    def __init__(self, config: SimilarityConfig) -> None:
        super().__init__()
        self.config = config
        together = config.pairing == "two-channel"
        count = 2 if config.pairing == "pseudo-siamese" else 1
        sides = [config.side(bool(k)) for k in range(count)]
        self.branches = nn.ModuleList(Branch(side, side.channels * (2 if together else 1)) for side in sides)
        width = config.embedding
        if together:
            self.reader: nn.Module = nn.Sequential(nn.ReLU(), nn.Linear(width, 1))
        elif config.reader == "network":
            self.reader = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, 1))
        elif config.reader == "logistic":
            self.reader = nn.Linear(width, 1)
        elif config.link:
            self.reader = DistanceReader(config.link)

    def embed(self, images: Tensor, second: bool = False) -> Tensor:
        """Features of images, to be joined. A two-channel network must see both, so its features are the images.

        images: (N, channels, H, W) float in [0, 1]; for lstm and gru (N, T, 3), see `strokes.strokes`; for words
        (N, T, 26), see `letters.letters`. second: they are the second of their pairs (pseudo-siamese).
        Returns (N, embedding). Raises ValueError for another shape.
        """
        cfg = self.config.side(second)
        if cfg.trunk in SEQUENCES:
            if images.ndim != 3 or images.shape[2] != cfg.shape[1] or 0 in images.shape:
                what = "words" if cfg.trunk in WORDS else "strokes"
                raise InputError(f"{what} must be (N, T, {cfg.shape[1]}), N and T >= 1; got {tuple(images.shape)}")
            features = self.branches[second and len(self.branches) > 1](images)
            return F.normalize(features, dim=1) if cfg.normalise else features
        if images.ndim != 4 or images.shape[1] != cfg.channels or 0 in images.shape:
            raise InputError(f"images must be (N, {cfg.channels}, H, W), N >= 1; got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        if not cfg.pyramid and (height, width) != (cfg.size, cfg.size):
            raise InputError(
                f"this network takes images of {cfg.size}x{cfg.size} only, got {width}x{height}; one with spatial"
                " pyramid pooling (pyramid: [4, 2, 1]) takes any size"
            )
        if min(height, width) < cfg.smallest:
            raise InputError(f"images must be at least {cfg.smallest}x{cfg.smallest}, got {width}x{height}")
        if cfg.standardise:
            images = images - images.mean((1, 2, 3), keepdim=True)
            images = images / (images.square().mean((1, 2, 3), keepdim=True).sqrt() + 1 / 255)
        if cfg.pairing == "two-channel":
            return images
        features = self.branches[second and len(self.branches) > 1](images)
        return F.normalize(features, dim=1) if cfg.normalise else features

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        """Raw scores (N,) of features a of the first images and b of the second ones, row by row."""
        reader = self.config.reader
        if reader in DISTANCES:
            apart = distance(a, b, reader)  # type: ignore[arg-type]
            return self.reader(apart) if self.config.link else -apart
        if self.config.pairing == "two-channel":
            size = [max(n, m) for n, m in zip(a.shape[-2:], b.shape[-2:], strict=True)]
            a, b = (F.interpolate(x, size, mode="bilinear") if list(x.shape[-2:]) != size else x for x in (a, b))
            return self.reader(self.branches[0](torch.cat([a, b], 1)))[:, 0]
        difference = (a - b).abs()
        return self.reader(difference if reader == "logistic" else torch.cat([difference, a * b], 1))[:, 0]

    def scores(self, a: Tensor, b: Tensor) -> Tensor:
        """Raw scores (Q, N) of features a of Q first images with features b of N second ones: `join` of every pair.

        Euclidean and cosine distances are one matrix product, so they may be off by 0.001 of the features' length.
        """
        reader = self.config.reader
        if reader in DISTANCES:
            if reader == "manhattan":
                apart = torch.cdist(a, b, p=1)
            elif reader == "cosine":
                apart = 1 - F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
            else:
                apart = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T
                apart = apart.clamp(min=0).sqrt()
            return self.reader(apart) if self.config.link else -apart
        rows = [self.join(one.expand(len(part), *one.shape), part) for one in a for part in b.split(PAIRS)]
        return torch.cat(rows).view(len(a), len(b))

    def pooled(self, queries: Tensor, references: Tensor, by: Literal["mean", "attention"] = "attention") -> Tensor:
        """The references of one class as one feature, to be joined with each query: (Q, D) for queries (Q, D).

        references: (k, D), features of second images. mean: the same for every query. attention: weighed by softmax of
        `SHARPNESS` cos(query, reference) (Vinyals et al. 2016, section 2.1.1), so that those count which show the class
        as the query does. Raises ValueError: a two-channel network, which has no features.
        """
        if self.config.pairing == "two-channel":
            raise InputError("a two-channel network has no features to pool")
        weights = queries.new_zeros(len(queries), len(references))
        if by == "attention":
            weights = SHARPNESS * F.normalize(queries, dim=1) @ F.normalize(references, dim=1).T
        joined = weights.softmax(1) @ references
        return F.normalize(joined, dim=1) if self.config.normalise else joined

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Raw scores (N,) of pairs of images, each (N, channels, H, W) float in [0, 1]."""
        return self.join(self.embed(a), self.embed(b, second=True))

    def similarity(self, score: ArrayLike) -> Any:
        """Raw scores for people, number by number: the calibrated probability of being the same; without calibration
        the probability of a logit, the cosine, or 1 / (1 + distance).
        """
        score, cfg = np.asarray(score, np.float64), self.config
        if cfg.calibration is None and cfg.bare_distance:
            return 1 + score if cfg.reader == "cosine" else 1 / (1 - score)
        logit = score if cfg.calibration is None else cfg.calibration.weights[0] * score + cfg.calibration.bias
        return (1 + np.tanh(logit / 2)) / 2


def load_similarity(file: str | Path) -> SimilarityNet:
    """Read a network that `checkpoints.save_network` wrote, in evaluation mode.

    file: a path, or one of `SHIPPED`. Raises FileNotFoundError, IsADirectoryError; CheckpointError (truncated, foreign,
    another kind of network).
    """
    path = Path(str(files("tracker") / "weights" / "similarity" / f"{file}.safetensors"))
    path = path if str(file) in SHIPPED else Path(file)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file of weights in it, as best.safetensors of a run")
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}, and no shipped weights of that name: {', '.join(SHIPPED)}")
    config, state = read_safetensors(path, SimilarityConfig)
    complaint = f"{path}: not the weights of a {config.pairing} {config.trunk} network"
    with torch.device("meta"):  # before there is memory for what the config asks for
        check_shapes(SimilarityNet(config), state, complaint)
    net = SimilarityNet(config)
    fill_weights(net, state, complaint)
    return net.eval()


# --- images ----------------------------------------------------------------------------------------------------------


def to_input(image: NDArray[np.uint8] | str, config: SimilarityConfig, size: int | None = None) -> Tensor:
    """An image as a branch wants it, a batch of one: pixels at the branch's size (or `size`), or the points of strokes.
    Where the branch reads words, a word as its letters.

    config: of the branch, see `SimilarityConfig.side`. image: as for `to_pixels`. Raises ValueError: a word for a
    branch that reads images, an image for one that reads words, a word that `letters.letters` does not take.
    """
    if isinstance(image, str) != (config.trunk in WORDS):
        raise InputError(f"trunk {config.trunk} reads {'words' if config.trunk in WORDS else 'images'}")
    if isinstance(image, str):
        return torch.from_numpy(letters(image, config.size))[None]
    if config.trunk in SEQUENCES:
        return torch.from_numpy(strokes(image, config.size))[None]
    return to_pixels(image, config, config.size if size is None else size)


def to_pixels(image: NDArray[np.uint8], config: SimilarityConfig, size: int | None = None) -> Tensor:
    """An image as a batch of one.

    image: (H, W) grey or (H, W, 3) BGR uint8. size: side to scale it to, px; None keeps the size.
    Returns (1, channels, size, size) float32 in [0, 1].
    """
    if image.ndim == 3 and config.channels == 1:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
    elif image.ndim == 2 and config.channels == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    if size is not None and image.shape[:2] != (size, size):
        shrinks = max(image.shape[:2]) > size
        way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, (size, size), interpolation=way), np.uint8)
    pixels = torch.from_numpy(np.ascontiguousarray(image)).float() / 255
    return pixels.reshape(1, *image.shape[:2], -1).permute(0, 3, 1, 2)
