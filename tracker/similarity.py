"""The Siamese family: do two images show the same thing?

A network is three parts: branches turn an image into features, and a reader compares the features of two images.
`embed` runs a branch, `join` runs the reader, so that references are embedded once and compared many times.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from tracker.backbones import MobileNetV2
from tracker.config import ConfigError, Logistic, Range, check_ranges
from tracker.crop import Image
from tracker.footage.files import IMAGE_SUFFIXES, SourceError, natural_key, read_image
from tracker.footage.video import SourceWarning
from tracker.network import check_shapes, fill_weights, read_safetensors

DISTANCES = ("euclidean", "manhattan", "cosine")


@dataclass(frozen=True)
class SimilarityConfig:
    """A network of the family.

    pairing: siamese (one branch, called twice), pseudo-siamese (a branch for each image), two-channel (one branch sees
    both images as channels of one input; Zagoruyko & Komodakis 2015).
    trunk: conv (two 3x3 convolutions with batch-norm, then a pooling by 2, for each width), koch (Koch et al. 2015:
    10x10, 7x7, 4x4, 4x4, sigmoid at the end), mlp (fully connected), mobilenet (`backbones.MobileNetV2`, which can
    begin with ImageNet weights, and a mean over its cells). widths: channels, or units of each hidden layer; [] for
    mobilenet.
    two_stream: one stream for the centre at full resolution, one for the whole at half of it.
    pyramid: levels of the spatial pyramid pooling (He et al. 2014); with it, images of any size go in. [] for none.
    size: side of the images, px. channels: 1 (grey) or 3 (BGR). standardise: each image to mean 0 and deviation 1.
    embedding: length of the features of a branch. normalise: to length 1.
    reader: a distance of the features; logistic, w |f(a) - f(b)| + b (Koch et al. 2015); network, fully-connected
    layers on |f(a) - f(b)| and f(a) f(b) (on the features alone for two-channel).
    dropout: share of the hidden units of an mlp that are dropped in training.
    context_amount: of patches cut from frames, see `geometry.context_side`.
    link: how a distance becomes the log-odds of being the same, see `DistanceReader`; None: the raw score of a distance
    is minus that distance.
    threshold: raw score from which two images count as the same; calibration: from raw score to the probability of
    being the same, where half of all pairs are. None before they are fitted on validation data.
    seen, held_out: names of the groups (alphabets, clips, classes of a folder) that the weights were fitted on or
    chosen by, and of those kept for the test; data_print: fingerprint of the images seen. A recipe leaves them out.
    """

    pairing: Literal["siamese", "pseudo-siamese", "two-channel"]
    trunk: Literal["conv", "koch", "mlp", "mobilenet"]
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
    threshold: float | None = None
    calibration: Logistic | None = None
    seen: tuple[str, ...] | None = None
    held_out: tuple[str, ...] | None = None
    data_print: str | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.pairing == "two-channel" and (self.reader != "network" or self.normalise):
            raise ConfigError("pairing two-channel has no embeddings to compare: reader network, normalise false")
        if self.link and self.reader not in DISTANCES:
            raise ConfigError(f"link makes odds of a distance ({', '.join(DISTANCES)}), not of reader {self.reader}")
        if self.trunk != "conv" and (self.two_stream or self.pyramid):
            raise ConfigError(f"two_stream and pyramid need trunk conv, not {self.trunk}")
        together = self.pairing == "two-channel"
        if self.trunk == "mobilenet" and (self.widths or self.channels != 3 or self.standardise or together):
            raise ConfigError(
                "trunk mobilenet sees one colour image as it is and has its own widths: widths [], channels 3,"
                " standardise false, and not two-channel"
            )
        if self.trunk == "koch" and len(self.widths) != len(KOCH_KERNELS):
            raise ConfigError(f"widths: trunk koch has {len(KOCH_KERNELS)} convolutions, got {len(self.widths)} widths")
        if not self.widths and self.trunk != "mobilenet":
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
    def bare_distance(self) -> bool:
        """Whether raw scores are minus a distance; else they are logits."""
        return self.reader in DISTANCES and not self.link

    @property
    def smallest(self) -> int:
        """Side of the smallest image that goes in, px."""
        if self.trunk == "mlp":
            return 1
        if self.trunk == "mobilenet":
            return MobileNetV2.STRIDE
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
    """MobileNetV2 for BGR images in [0, 1], and a mean in which the middle counts most: (N, 3, H, W) -> (N, 96)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MobileNetV2()

    def forward(self, x: Tensor) -> Tensor:
        return centre_mean(self.backbone(255 * x.flip(1))[-1])


def centre_mean(x: Tensor) -> Tensor:
    """Mean over the cells of a map, with Gaussian weights whose deviation is a third of its side.

    (N, C, H, W) -> (N, C). What surrounds a target is no part of it.
    """
    weights = [torch.exp(-4.5 * ((torch.arange(n) + 0.5) / n - 0.5).square()) for n in x.shape[-2:]]
    both = torch.outer(*(w / w.sum() for w in weights))
    return (x * both.to(x)).sum((2, 3))


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
            elif config.trunk == "mobilenet":
                trunk = nn.Sequential(MobileTrunk())
            else:
                trunk = conv_trunk(channels, config.widths)
            if config.trunk != "mobilenet":
                trunk.append(Pyramid(config.pyramid) if config.pyramid else nn.Flatten())
            self.streams.append(trunk)
        with torch.no_grad():
            sample = self.eval()._flat(torch.zeros(1, channels, config.size, config.size))
        self.train()
        self.neck = nn.Linear(sample.shape[1], config.embedding)
        self.end = nn.Sigmoid() if config.trunk == "koch" else nn.Identity()

    def _flat(self, x: Tensor) -> Tensor:
        parts = centre_surround(x) if self.two_stream else (x,)
        return torch.cat([stream(part) for stream, part in zip(self.streams, parts, strict=True)], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, embedding)."""
        return self.end(self.neck(self._flat(x)))


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
        channels = config.channels * (2 if together else 1)
        self.branches = nn.ModuleList(Branch(config, channels) for _ in range(count))
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

        images: (N, channels, H, W) float in [0, 1]. second: they are the second of their pairs (pseudo-siamese).
        Returns (N, embedding). Raises ValueError for another shape.
        """
        cfg = self.config
        if images.ndim != 4 or images.shape[1] != cfg.channels or 0 in images.shape:
            raise ValueError(f"images must be (N, {cfg.channels}, H, W), N >= 1; got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        if not cfg.pyramid and (height, width) != (cfg.size, cfg.size):
            raise ValueError(
                f"this network takes images of {cfg.size}x{cfg.size} only, got {width}x{height}; one with spatial"
                " pyramid pooling (pyramid: [4, 2, 1]) takes any size"
            )
        if min(height, width) < cfg.smallest:
            raise ValueError(f"images must be at least {cfg.smallest}x{cfg.smallest}, got {width}x{height}")
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


def load_similarity(file: str | Path = "verifier") -> SimilarityNet:
    """Read a network that `network.save_network` wrote, in evaluation mode.

    file: a path, or verifier: the network for patches of targets that comes with the package.
    Raises FileNotFoundError; CheckpointError (truncated, foreign, another kind of network).
    """
    shipped = Path(str(files("tracker") / "weights" / "verifier.safetensors"))
    path = shipped if str(file) == "verifier" else Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"no weight file {path}")
    config, state = read_safetensors(path, SimilarityConfig)
    complaint = f"{path}: not the weights of a {config.pairing} {config.trunk} network"
    with torch.device("meta"):  # before there is memory for what the config asks for
        check_shapes(SimilarityNet(config), state, complaint)
    net = SimilarityNet(config)
    fill_weights(net, state, complaint)
    return net.eval()


# --- images ----------------------------------------------------------------------------------------------------------


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


class Gallery:
    """References that are embedded once; a query is then compared with all of them by one pass through its branch.

    images: (1, channels, H, W) float in [0, 1] each. names: one for each. Raises ValueError when it would be empty.
    A two-channel network has nothing to embed: each comparison is a pass.
    """

    def __init__(self, net: SimilarityNet, images: Sequence[Tensor], names: Sequence[str]) -> None:
        if not images or len(images) != len(names):
            raise ValueError(f"a gallery needs images and a name for each; got {len(images)} and {len(names)}")
        self.net, self.names = net, tuple(names)
        with torch.inference_mode():
            self._features = [net.embed(image, second=True) for image in images]
        if net.config.pairing != "two-channel":
            self._features = [torch.cat(self._features)]

    def scores(self, query: Tensor) -> NDArray[np.float32]:
        """Raw scores (N,) of one query, (1, channels, H, W) float in [0, 1], with the references."""
        with torch.inference_mode():
            features = self.net.embed(query)
            rows = [self.net.join(features.expand(len(f), *features.shape[1:]), f) for f in self._features]
        return torch.cat(rows).numpy()


def image_files(folder: str | Path) -> list[Path]:
    """The images in a folder and the folders in it. Hidden files are passed over; others must be images.

    Raises NotADirectoryError; ValueError: no image, or a file that is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    inside = [p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    files = sorted((p for p in inside if p.is_file()), key=natural_key)
    for path in files:
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise ValueError(f"{path} is not an image; allowed: {', '.join(IMAGE_SUFFIXES)}")
    if not files:
        raise ValueError(f"{folder} is empty: it holds no image ({', '.join(IMAGE_SUFFIXES)})")
    return files


# --- siamtrack compare -----------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `compare_command`."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="two images, or queries for the gallery")
    parser.add_argument(
        "--weights", default="verifier", metavar="FILE", help="of `siamtrack train similarity` [shipped]"
    )
    parser.add_argument("--gallery", metavar="DIR", help="rank the images in this folder by likeness to each IMAGE")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="lines for each query [5]")
    parser.add_argument(
        "--threshold", type=float, metavar="S", help="similarity from which it is the same [of the weights]"
    )
    parser.add_argument("--resize", action="store_true", help="scale images of different sizes to the network's size")


def compare_command(args: argparse.Namespace) -> int:
    """Print the similarity of two images (or of queries with a gallery), the threshold and the decision."""
    if not args.gallery and len(args.images) != 2:
        raise ValueError(f"give two images, or --gallery DIR; got {len(args.images)} image(s)")
    if args.top < 1:
        raise ValueError(f"--top must be >= 1, got {args.top}")
    if args.threshold is not None and not -1 <= args.threshold <= 1:
        raise ValueError(f"--threshold is a similarity, at most 1; got {args.threshold:g}")
    net = load_similarity(args.weights)
    threshold = args.threshold
    if threshold is None:
        if net.config.threshold is None:
            raise ValueError(f"{args.weights} has no threshold: fit with validation data, or give --threshold")
        threshold = net.similarity(net.config.threshold)
    names = list(args.images)
    read, references = [read_image(path) for path in names], []
    for path in image_files(args.gallery) if args.gallery else []:
        try:
            read.append(read_image(path))
            references.append(path)
        except SourceError as error:
            warnings.warn(f"{error}, left out", SourceWarning, stacklevel=2)
    if args.gallery and not references:
        raise ValueError(f"{args.gallery}: none of its images can be read")
    images = _same_size(read, net.config, args.resize)
    print(f"threshold {threshold:.4f}")

    def say(left: object, right: object, score: float) -> None:
        value = net.similarity(score)
        print(f"{value:.4f}  {'same' if value >= threshold else 'different':9s}  {left}  {right}")

    if not args.gallery:
        with torch.inference_mode():
            say(names[0], names[1], float(net(images[0], images[1])))
    if args.gallery:
        gallery = Gallery(net, images[len(names) :], [str(path) for path in references])
        for name, query in zip(names, images, strict=False):
            scores = gallery.scores(query)
            for i in np.argsort(-scores, kind="stable")[: args.top]:
                say(name, gallery.names[i], float(scores[i]))
    return 0


def _same_size(images: list[Image], config: SimilarityConfig, resize: bool) -> list[Tensor]:
    if config.pyramid and not resize:
        return [to_pixels(image, config) for image in images]
    sizes = sorted({(image.shape[1], image.shape[0]) for image in images})
    if len(sizes) > 1 and not resize:
        found = ", ".join(f"{w}x{h}" for w, h in sizes[:4])
        raise ValueError(
            f"the images have different sizes ({found}) and this network takes one size, {config.size}x{config.size}:"
            " --resize scales them; a network with spatial pyramid pooling takes any size"
        )
    return [to_pixels(image, config, config.size) for image in images]
