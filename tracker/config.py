"""Frozen dataclasses <-> YAML, strict: an unknown key, a missing key or a wrong type is an error that names it.

The config of a network travels inside its checkpoint, so a weight file is all that `Tracker.load` needs.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import reprlib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import yaml

from tracker.errors import ConfigError
from tracker.geometry import Box, CropWindow, bounded, context_side, sigmoid

NetworkName = Literal["siamfc", "swift", "swift-nano"]


class Range(NamedTuple):
    """What a number of a config may be: a config travels in weight files, and those may come from anywhere."""

    least: float
    most: float


Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(0, 1000)]
Period = Annotated[int, Range(1, 1000)]
Chance = Annotated[float, Range(1e-6, 1 - 1e-6)]  # of something that does happen
LogOdds = Annotated[float, Range(-100, 100)]
CropSize = Annotated[int, Range(16, 2000)]  # px
Sides = Annotated[float, Range(0.1, 50)]  # of a window, in others
Strength = Annotated[float, Range(0, 10)]


def check_ranges(config: Any) -> None:
    """Raise ConfigError for a number of a dataclass that is not in the `Range` of its annotation."""
    for name, hint in typing.get_type_hints(type(config), include_extras=True).items():
        for allowed in getattr(hint, "__metadata__", ()):
            value = getattr(config, name)
            if not allowed.least <= value <= allowed.most:  # NaN is in no range
                raise ConfigError(f"{name}: {value} is not from {allowed.least:g} to {allowed.most:g}")


@dataclass(frozen=True)
class PyramidTracking:
    """How a score-only network tracks: it searches at several scales (Bertinetto et al. 2016, section 3.4)."""

    num_scales: Annotated[int, Range(1, 15)] = 3
    scale_step: Annotated[float, Range(1, 2)] = 1.0375  # ratio of neighbouring scales
    scale_penalty: Annotated[float, Range(0.01, 1)] = 0.9745  # factor on the score of every scale but the current one
    size_lr: Share = 0.59  # size <- (1 - size_lr) size + size_lr new
    window_influence: Share = 0.176  # score <- (1 - w) score + w window
    upsample: Annotated[int, Range(1, 64)] = 16  # bicubic up-sampling of the response

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class BoxTracking:
    """How a network with a box map tracks."""

    penalty_k: Strength = 0.06  # score <- score exp(-k (r s - 1)), r, s >= 1 the change of shape and size
    size_lr: Share = 0.45  # size <- (1 - a) size + a new, a = size_lr x penalised score
    window_influence: Share = 0.3
    refine: Share = 0.5  # how far the box of the peak moves towards what the refiner makes of it, [0, 1]; 0: not asked

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class Logistic:
    """Logistic regression: p = 1 / (1 + exp(-(weights . evidence + bias)))."""

    weights: tuple[float, ...]
    bias: float

    def probability(self, evidence: Iterable[float]) -> float:
        """Probability in [0, 1]."""
        z = sum(w * e for w, e in zip(self.weights, evidence, strict=True)) + self.bias
        return sigmoid(z)


@dataclass(frozen=True)
class Confidence:
    """From evidence to the probability that a box is right (IoU of at least 0.5); `siamtrack train calibrate` fits it.

    following: of the box that is followed, from `target.EVIDENCE`. verified: of one that is in doubt, or of a
    candidate for a lost target, from `target.VERIFIED`. rules: what is made of it; None: `LongTerm()`.
    """

    following: Logistic
    verified: Logistic
    rules: LongTerm | None = None


@dataclass(frozen=True)
class LongTerm:
    """When a target counts as uncertain and lost, and how it is found again; see `tracks.TrackPolicy`.

    Belief is log-odds; scores and probabilities lie in [0, 1]; logits are those of the score map; the rest counts.
    """

    leave: Chance = 0.005  # probability that the target, in view, is gone in the next frame
    back: Chance = 0.15  # probability that it, gone, is back in the next frame
    doubt: LogOdds = 3.0  # the most that one frame takes from the belief
    uncertain: LogOdds = -1.0  # belief at which the target is uncertain, and from which a candidate is followed
    lost: LogOdds = -4.0  # belief at which it is lost
    adopt: LogOdds = 3.5  # belief at which a candidate, seen at least twice, is the target
    sure: Share = 0.9  # score below which what is followed is verified
    likely: Strength = 0.3  # score from which what is followed forms its reference, and a frame is kept; above 1: never
    every: Period = 5  # frames between frames that are kept, in which distractors are searched once the target is lost
    stay: LogOdds = 2.0  # log-odds that a peak gains, by its IoU with the last box, where several may be the target
    candidate: LogOdds = -2.0  # least logit of what gets a closer look beside the best
    closer: Count = 3  # candidates that get one
    others: LogOdds = 2.0  # log-odds that a candidate loses for each logit by which it is more like a distractor

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def strongest(self) -> float:
        """The belief, in log-odds, that a certain frame leaves to the next one."""
        return math.log((1 - self.leave) / self.leave)


@dataclass(frozen=True)
class SquareCrops:
    """Square crops: the exemplar shows the target with its context, the search region has the same scale.

    context_amount: see `geometry.context_side`; 0.5 is SiamFC's (Bertinetto et al. 2016, section 3.4).
    """

    context_amount: Strength

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class BoxCrops:
    """Crops that are stretched with the box, so that every target is seen at one size and shape.

    exemplar, search: sides of the windows, in sides of the box (Borsuk et al., FEAR, 2022, have 1.4 and 5).
    """

    exemplar: Sides
    search: Sides

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True)
class ModelConfig:
    """A network and how it tracks.

    exemplar_size, search_size: crop px. crops: what of the frame they show. confidence: None before it was calibrated.
    """

    network: NetworkName
    exemplar_size: CropSize
    search_size: CropSize
    crops: SquareCrops | BoxCrops
    tracking: PyramidTracking | BoxTracking
    confidence: Confidence | None = None

    def __post_init__(self) -> None:
        check_ranges(self)
        wanted = PyramidTracking if self.network == "siamfc" else BoxTracking
        if not isinstance(self.tracking, wanted):
            raise ConfigError(f"tracking: network {self.network} takes {wanted.__name__}")
        if self.network == "swift-nano" and isinstance(self.tracking, BoxTracking) and self.tracking.refine:
            raise ConfigError(f"tracking.refine: swift-nano has no refiner, give 0; got {self.tracking.refine}")
        if self.exemplar_size >= self.search_size:
            raise ConfigError(f"exemplar_size < search_size; got {self.exemplar_size} and {self.search_size}")
        if self.network == "siamfc" and self.exemplar_size < 87:  # nothing is padded, and one cell must be left
            raise ConfigError(f"exemplar_size: siamfc needs 87 px at least; got {self.exemplar_size}")

    def exemplar_window(self, box: Box) -> CropWindow:
        """What the exemplar of a target in `box` (frame px) shows."""
        if isinstance(self.crops, BoxCrops):
            w, h = self.crops.exemplar * box.w, self.crops.exemplar * box.h
        else:
            w = h = context_side(box.w, box.h, self.crops.context_amount)
        return CropWindow.around(box.centre, w, h, self.exemplar_size)

    def search_window(self, box: Box, scale: float = 1.0, velocity: tuple[float, float] = (0.0, 0.0)) -> CropWindow:
        """Where a target that was last in `box` (frame px) is searched.

        scale: how much wider and higher than usual. velocity: frame px per frame; the window is centred where the
        target will be if it goes on like this, as far as its last place stays in view.
        """
        if isinstance(self.crops, BoxCrops):
            w, h = self.crops.search * box.w, self.crops.search * box.h
        else:
            ratio = self.search_size / self.exemplar_size
            w = h = ratio * context_side(box.w, box.h, self.crops.context_amount)
        (cx, cy), w, h = box.centre, scale * w, scale * h
        dx, dy = bounded(velocity[0], (w - box.w) / 2), bounded(velocity[1], (h - box.h) / 2)
        return CropWindow.around((cx + dx, cy + dy), w, h, self.search_size)


SIAMFC = ModelConfig("siamfc", 127, 255, SquareCrops(0.5), PyramidTracking())
SWIFT = ModelConfig("swift", 128, 193, BoxCrops(1.4, 3.7695), BoxTracking())
NANO = ModelConfig("swift-nano", 127, 207, SquareCrops(0.5), BoxTracking(0.138, 0.348, 0.455, refine=0.0))

T = TypeVar("T")
MOST = 2**53  # no number of a config is larger


def from_dict(cls: type[T], values: Any, path: str = "") -> T:
    """Build the dataclass `cls` from nested dicts; every field must be given, but those whose default is None.

    path: where `values` stands, for messages ("train.data"). Raises ConfigError.
    """
    where = path or "config"
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected a mapping, got {reprlib.repr(values)}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(known)}"
            raise ConfigError(f"{_join(path, key)}: unknown key; {hint}")
    optional = {f.name for f in dataclasses.fields(cls) if f.default is None}  # type: ignore[arg-type]
    missing = [name for name in known if name not in values and name not in optional]
    if missing:
        raise ConfigError(f"{where}: missing key {', '.join(map(repr, missing))}")
    given = [name for name in known if name in values]
    fields = {name: _convert(hints[name], values[name], _join(path, name)) for name in given}
    try:
        return cls(**fields)
    except ConfigError as error:  # of the dataclass, which does not know where it stands
        raise ConfigError(_join(path, error)) from None


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dicts of a config: the inverse of `from_dict`."""
    return {
        f.name: to_dict(v) if dataclasses.is_dataclass(v) else list(v) if isinstance(v, tuple) else v
        for f in dataclasses.fields(config)
        for v in [getattr(config, f.name)]
    }


def load_yaml(cls: type[T], file: str | Path) -> T:
    """Read the YAML `file` as a `cls`. Raises ConfigError (with the file's name) or OSError.

    With a key `base`, another YAML beside it, it says only what differs from that; mappings are joined key by key.
    """
    path = Path(file)
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and "base" in values:
            name = values.pop("base")
            if not isinstance(name, str):
                raise ConfigError(f"base: expected the name of a YAML, got {reprlib.repr(name)}")
            base = parse_yaml((path.parent / name).read_text(encoding="utf-8"))
            if not isinstance(base, dict) or "base" in base:
                raise ConfigError(f"base: {name} must be complete, without a base of its own")
            values = _over(base, values)
        return from_dict(cls, values)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not a text file") from None


def _over(base: Any, values: Any) -> Any:
    """`base` with the values in their place; mappings are joined key by key."""
    if not (isinstance(base, dict) and isinstance(values, dict)):
        return values
    return base | {key: _over(base.get(key), value) for key, value in values.items()}


def parse_json(text: str | bytes) -> Any:
    """What a JSON text holds. Raises ConfigError: not JSON, or nested too deep."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"not JSON: {_why(error)}") from None


def parse_yaml(text: str) -> Any:
    """What a YAML text holds. Raises ConfigError: not YAML, nested too deep, or with aliases, which can swell it."""
    try:
        return yaml.load(text, _Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"not YAML: {_why(error)}") from None


def _why(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error)[:500]


class _Plain(yaml.SafeLoader):
    """YAML as it is written: nothing stands for something else."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            said = f"an alias, *{event.anchor}; write it out"
            raise yaml.constructor.ConstructorError(None, None, said, event.start_mark)
        return super().compose_node(parent, index)


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _chosen(classes: tuple[type, ...], value: Any, path: str) -> type:
    """Which of the dataclasses `value` is to be: by its `kind`, where they have one, else by its keys."""
    given: dict[Any, Any] = value if isinstance(value, dict) else {}
    kinds = {kind: a for a in classes for kind in typing.get_args(typing.get_type_hints(a).get("kind"))}
    if kinds and "kind" in given:
        return kinds[_convert(Literal[tuple(kinds)], given["kind"], _join(path, "kind"))]
    return min(classes, key=lambda a: len(given.keys() ^ {f.name for f in dataclasses.fields(a)}))


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{path}: {reprlib.repr(value)} is not allowed; choose from {', '.join(map(repr, args))}")
        return value
    union = origin in (types.UnionType, typing.Union)  # Literal[...] | None is the latter
    if union and type(None) in args:
        return None if value is None else _convert(next(a for a in args if a is not type(None)), value, path)
    if union:
        return from_dict(_chosen(args, value, path), value, path)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, path)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path}: expected a list, got {reprlib.repr(value)}")
        return tuple(_convert(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: expected a mapping, got {reprlib.repr(value)}")
        return {_convert(args[0], k, path): _convert(args[1], v, _join(path, k)) for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST:
        value = float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError(f"{path}: expected {hint.__name__}, got {reprlib.repr(value)}")
    if isinstance(value, int | float) and not abs(value) < MOST:  # NaN neither
        raise ConfigError(f"{path}: {reprlib.repr(value)} is not a finite number of a sane size")
    return value
