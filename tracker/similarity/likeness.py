"""Images in, probabilities out: a network of the family with all that is needed to use it."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tracker.backends import Part, exported
from tracker.config import parse_json
from tracker.crop import Image
from tracker.errors import CheckpointError, InputError, SourceError
from tracker.extras import how_to_get
from tracker.footage.files import IMAGE_SUFFIXES, files_below, read_image
from tracker.footage.output import write_whole
from tracker.footage.video import SourceWarning
from tracker.graphs import check_threads, session
from tracker.similarity.network import FARS, WORDS, SimilarityNet, load_similarity, to_input

CHUNK = 32  # images embedded at once
KEY = "siamtrack gallery"  # of the metadata of a saved gallery


class Match(NamedTuple):
    """A reference: its name, the probability that it shows the same thing, and whether that reaches the threshold."""

    name: str
    probability: float
    same: bool


class Similarity:
    """Do two images show the same thing?

    net: any network of the family. threshold: probability from which they do; None: that of the weights. far: the
    threshold at which no more than this share of different pairs passes, one of `FARS`, in place of `threshold`.
    engine: "auto" takes ONNX Runtime where it is installed, else PyTorch. threads: of ONNX Runtime.
    Images are paths, or arrays, (H, W) grey or (H, W, 3) BGR uint8; they are scaled to the network's size. Where the
    second branch reads words, the second of a pair and what a gallery holds are words.
    Raises ValueError: no threshold, or two; no such false accept rate, an engine that is not there.
    """

    def __init__(
        self,
        net: SimilarityNet,
        threshold: float | None = None,
        far: float | None = None,
        engine: Literal["auto", "torch", "onnxruntime"] = "auto",
        threads: int = 1,
    ) -> None:
        self.net = net.eval()
        check_threads(threads)
        if engine not in ("auto", "torch", "onnxruntime"):
            raise InputError(f"no engine {engine!r}; there is auto, torch, onnxruntime")
        if threshold is not None and not math.isfinite(threshold):
            raise InputError(f"threshold must be a finite number; got {threshold}")
        if threshold is not None and far is not None:
            raise InputError("give a threshold or far, which stands for one, not both")
        self.threshold = _threshold(net, far) if threshold is None else threshold
        self._embed = [_runner(net, second, engine, threads) for second in (False, True)[: len(net.branches)]]

    @classmethod
    def load(
        cls,
        name: str | Path = "photos",
        threshold: float | None = None,
        far: float | None = None,
        engine: Literal["auto", "torch", "onnxruntime"] = "auto",
        threads: int = 1,
    ) -> Similarity:
        """With shipped weights (photos, drawings, verifier) or those in a file.

        Raises as `load_similarity` and `Similarity` do.
        """
        try:
            return cls(load_similarity(name), threshold, far, engine, threads)
        except ValueError as error:
            raise error if isinstance(error, CheckpointError) else InputError(f"{name}: {error}") from None

    def __call__(self, a: str | Path | Image, b: str | Path | Image) -> float:
        """Probability in [0, 1] that two images show the same thing, if it is as likely as not beforehand.

        Weights without calibration give what `SimilarityNet.similarity` does. Raises SourceError.
        """
        with torch.inference_mode():
            return float(self.net.similarity(self.net.join(self.embed([a]), self.embed([b], second=True))[0]))

    def same(self, a: str | Path | Image, b: str | Path | Image) -> bool:
        """Whether the probability reaches `threshold`."""
        return self(a, b) >= self.threshold

    def embed(self, images: Iterable[str | Path | Image], second: bool = False) -> Tensor:
        """Features of images, (N, embedding); never more than `CHUNK` images are in memory.

        second: of the second of pairs, for pseudo-siamese networks. Raises SourceError; ValueError: no image.
        """
        parts = [self._embed[second and len(self._embed) > 1](pixels) for pixels in self._inputs(images, second)]
        if not parts:
            raise InputError("there is no image to embed")
        return torch.cat(parts)

    def _inputs(self, images: Iterable[str | Path | Image], second: bool) -> Iterator[Tensor]:
        side, chunk = self.net.config.side(second), []
        for image in images:
            chunk.append(to_input(str(image) if side.trunk in WORDS else self._read(image, side.size), side))
            if len(chunk) == CHUNK:
                yield torch.cat(chunk)
                chunk = []
        if chunk:
            yield torch.cat(chunk)

    @staticmethod
    def _read(image: str | Path | Image, size: int) -> Image:
        seen = read_image(image, least=2 * size) if isinstance(image, str | Path) else image
        if not isinstance(seen, np.ndarray):  # those of PIL are RGB
            raise InputError(f"an image is a path or a NumPy array with channels B, G, R; got {type(image).__name__}")
        if seen.dtype != np.uint8 or seen.ndim not in (2, 3) or 0 in seen.shape or seen.shape[2:] not in ((), (3,)):
            raise InputError(f"an image is (H, W) or (H, W, 3) uint8, got {seen.shape} {seen.dtype}")
        return seen

    def gallery(self, source: str | Path | None = None) -> Gallery:
        """References to find images among: those in a folder, a gallery that was saved to a file, or none yet.

        Raises NotADirectoryError; ValueError: no image, or a gallery of other weights.
        """
        if source is None:
            return Gallery(self, [], None)
        path = Path(source)
        if path.is_file():
            return Gallery.open(self, path)
        made = Gallery(self, [], None)
        made.add(path)
        return made


class Gallery:
    """References that are embedded once; an image is then compared with all of them by one pass through its branch."""

    def __init__(self, similarity: Similarity, names: Sequence[str], features: Tensor | None) -> None:
        self.similarity, self.names = similarity, list(names)
        self._features = features

    def __len__(self) -> int:
        return len(self.names)

    def add(self, source: str | Path | Image, name: str | None = None) -> None:
        """Add an image, or all that a folder holds; files there that are none are left out, with a warning.

        name: of the image; that of an image in a file is its path. Raises SourceError; ValueError: no name, a name for
        a folder, no image.
        """
        if not isinstance(name, str | None):
            raise InputError(f"a name is text; got {type(name).__name__}")
        words = self.similarity.net.config.side(True).trunk in WORDS
        if isinstance(source, str | Path) and not words and not Path(source).is_file():
            if name is not None:
                raise InputError(f"a name is for one image; {source} is not one, and names its images itself")
            names, images = [], []
            for path, features in self._readable(image_files(source)):
                names.append(str(path))
                images.append(features)
            if not names:
                raise InputError(f"{source}: none of its images can be read")
            self._join(names, torch.cat(images))
            return
        if name is None and not isinstance(source, str | Path):
            raise InputError("an image that is no file needs a name")
        self._join([str(source) if name is None else name], self.similarity.embed([source], second=True))

    def _readable(self, paths: Sequence[Path]) -> Iterator[tuple[Path, Tensor]]:
        """What can be read, with its features, a chunk at a time."""
        good: list[Path] = []

        def images() -> Iterator[Image]:
            for path in paths:
                try:
                    image = read_image(path, least=2 * self.similarity.net.config.side(True).size)
                except SourceError as error:
                    warnings.warn(f"{error}, left out", SourceWarning, stacklevel=4)
                    continue
                good.append(path)
                yield image

        for pixels in self.similarity._inputs(images(), second=True):
            features = self.similarity._embed[-1](pixels)
            yield from zip(good[: len(features)], features.split(1), strict=True)
            del good[: len(features)]

    def _join(self, names: Sequence[str], features: Tensor) -> None:
        self._features = features if self._features is None else torch.cat([self._features, features])
        self.names += names

    def scores(self, images: Iterable[str | Path | Image]) -> NDArray[np.float32]:
        """Raw scores (Q, N) of images with the references. Raises ValueError: no image, or no reference."""
        return self._scores(self.similarity.embed(images)).numpy()

    def _scores(self, queries: Tensor) -> Tensor:
        if self._features is None:
            raise InputError("this gallery is empty: add images first")
        with torch.inference_mode():
            return self.similarity.net.scores(queries, self._features)

    def nearest(self, image: str | Path | Image, k: int = 5) -> list[Match]:
        """The k references that are most alike, the best first; fewer where there are fewer."""
        return self.nearest_of([image], k)[0]

    def nearest_of(self, images: Iterable[str | Path | Image], k: int = 5) -> list[list[Match]]:
        """`nearest` of each image, by one matrix product where the network compares distances."""
        if k < 1:
            raise InputError(f"k must be >= 1, got {k}")
        net, queries = self.similarity.net, self.similarity.embed(images)
        best = self._scores(queries).topk(min(k, len(self)), 1).indices
        assert self._features is not None
        found = []
        with torch.inference_mode():
            for query, rows in zip(queries, best, strict=True):
                scores = net.join(query.expand(len(rows), *query.shape), self._features[rows])  # without rounding
                order = scores.argsort(descending=True, stable=True)
                chances = net.similarity(scores[order].numpy())
                names = [self.names[i] for i in rows[order].tolist()]
                found.append(
                    [
                        Match(n, float(p), bool(p >= self.similarity.threshold))
                        for n, p in zip(names, chances, strict=True)
                    ]
                )
        return found

    def classify(self, image: str | Path | Image, k: int = 5) -> list[Match]:
        """The k classes that an image is most likely of, the best first.

        References whose names are alike before the last slash (images in one folder) are a class, and those of one name
        without a slash. They are joined by attention, see `SimilarityNet.pooled`. Raises ValueError: nothing added, a
        two-channel network.
        """
        if self._features is None or k < 1:
            raise InputError(f"k must be >= 1, got {k}" if k < 1 else "this gallery is empty: add images first")
        net, query = self.similarity.net, self.similarity.embed([image])
        rows: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            rows.setdefault(name.rpartition("/")[0] or name, []).append(number)
        with torch.inference_mode():
            scores = [float(net.join(query, net.pooled(query, self._features[own]))) for own in rows.values()]
        chances = net.similarity(scores).tolist()
        found = [Match(n, p, p >= self.similarity.threshold) for n, p in zip(rows, chances, strict=True)]
        return sorted(found, key=lambda match: -match.probability)[:k]

    def save(self, file: str | Path) -> None:
        """Write names and features to a file, whole or not at all; `Similarity.gallery` opens it.

        Raises OSError; ValueError: a file is there that is no gallery, or nothing was added.
        """
        if self._features is None:
            raise InputError("this gallery is empty: there is nothing to save")
        if Path(file).is_file() and not _is_gallery(file):
            raise InputError(f"{file} is there already, and no gallery: give another name")
        about = {"weights": weights_print(self.similarity.net), "names": self.names}
        write_whole(Path(file), save({"features": self._features.contiguous()}, metadata={KEY: json.dumps(about)}))

    @classmethod
    def open(cls, similarity: Similarity, file: str | Path) -> Gallery:
        """A gallery that was saved. Raises CheckpointError: truncated, foreign, or embedded by other weights."""
        try:
            with safe_open(file, framework="pt") as opened:
                about = parse_json((opened.metadata() or {})[KEY])
                made_by, names, features = about["weights"], about["names"], opened.get_tensor("features")
        except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{file}: truncated, or no gallery of siamtrack ({type(error).__name__})") from None
        if made_by != weights_print(similarity.net):
            raise CheckpointError(f"{file}: this gallery was embedded by other weights; make it anew from its images")
        side = similarity.net.config.side(True)
        anything = "a" if side.trunk in WORDS else 255 - 255 * np.eye(side.size, dtype=np.uint8)  # a stroke
        wanted = similarity.embed([anything], second=True)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not names:
            raise CheckpointError(f"{file}: a gallery without names")
        if features.dtype != wanted.dtype or features.shape != (len(names), *wanted.shape[1:]):
            shown = f"{tuple(features.shape)} {features.dtype}"
            raise CheckpointError(f"{file}: a gallery with {len(names)} names for features of {shown}")
        if not bool(features.isfinite().all()):
            raise CheckpointError(f"{file}: a gallery with features that are no numbers")
        return cls(similarity, names, features)


def _is_gallery(file: str | Path) -> bool:
    try:
        with safe_open(file, framework="pt") as opened:
            return KEY in (opened.metadata() or {})
    except (SafetensorError, OSError):
        return False


def weights_print(net: SimilarityNet) -> str:
    """A hash of the weights; 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def image_files(folder: str | Path) -> list[Path]:
    """The images in a folder and the folders in it, in natural order.

    Hidden files are passed over; of others that are no images, a warning tells. Raises NotADirectoryError; ValueError:
    no image.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    found, kinds = [], ", ".join(IMAGE_SUFFIXES)
    for path in files_below(folder):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            found.append(path)
        else:
            warnings.warn(f"{path} is not an image ({kinds}), left out", SourceWarning, stacklevel=2)
    if not found:
        raise InputError(f"{folder} holds no image ({kinds})")
    return found


def _threshold(net: SimilarityNet, far: float | None) -> float:
    cfg = net.config
    if far is None:
        if cfg.threshold is None:
            raise InputError("these weights have no threshold: fit with validation data, or give one")
        return float(net.similarity(cfg.threshold))
    known = dict(zip(FARS, cfg.far_thresholds or (), strict=False))
    if far not in known:
        raise InputError(f"these weights know no threshold for a false accept rate of {far}, only for {list(known)}")
    return float(net.similarity(known[far]))


# --- what runs a branch


class _Embed(nn.Module):
    def __init__(self, net: SimilarityNet, second: bool) -> None:
        super().__init__()
        self.net, self.second = net, second

    def forward(self, images: Tensor) -> Tensor:
        return self.net.embed(images, self.second)


def _runner(net: SimilarityNet, second: bool, engine: str, threads: int) -> Callable[[Tensor], Tensor]:
    """`net.embed` by PyTorch or ONNX Runtime."""
    graph = net.config.pairing != "two-channel" and not net.config.pyramid  # which have no fixed features to compute
    missing = [name for name in ("onnxruntime", "onnx") if not find_spec(name)]
    if engine == "onnxruntime" and (missing or not graph):
        why = (
            f"wants {' and '.join(missing)}: {how_to_get('fast')}" if missing else "cannot run two-channel and pyramid"
        )
        raise InputError(f'engine "onnxruntime" {why}')
    if engine == "torch" or missing or not graph:

        def by_torch(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return net.embed(images, second)

        return by_torch
    side = net.config.side(second)
    sample = torch.zeros(2, *side.shape)
    run = session(exported(["images"], Part(_Embed(net, second), (sample,), {"images": {0: "rows"}})), threads)
    return lambda images: torch.from_numpy(run.run(None, {"images": images.contiguous().numpy()})[0])
