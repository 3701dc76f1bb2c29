"""A slow tracker that is better than each of its members: they share one box and vote on the next one, frame by frame.

A member is a network with the rule by which its authors read it. It can be asked alone, too: what it says of a search,
cell by cell, is a soft target for training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tracker.backends import make_runner
from tracker.benchmark.peers.answer import Answer
from tracker.benchmark.peers.peers import Fear, NanoTrack, load_tracker, tracker_name
from tracker.checkpoints import load_network
from tracker.config import BoxTracking
from tracker.crop import Image
from tracker.engine import Appearance, Engine, keep_inside
from tracker.errors import InputError
from tracker.geometry import Box, CropWindow, Grid, check_box, iou
from tracker.loading import weight_file
from tracker.plain import PeakPolicy
from tracker.target import Target, Track

Float = NDArray[np.float64]
F32 = NDArray[np.float32]
AGREE = 0.5  # IoU with the medoid from which a box has its part in the vote


class Said(NamedTuple):
    """What a member says of one search, in frame px.

    box: x, y, w, h of its choice. score: of the choice, [0, 1]. x: (W,), y: (H,) centres of the cells of its map,
    evenly spaced. scores: (H, W) in [0, 1]. boxes: (H, W, 4) x, y, w, h.
    """

    box: Box
    score: float
    x: Float
    y: Float
    scores: Float
    boxes: Float


class Member(Protocol):
    """A network that knows a target by what `embed` returned, and looks for it wherever it is told to."""

    @property
    def name(self) -> str:
        """For tables."""

    def embed(self, frame: Image, box: Box) -> Any:
        """What it remembers of the target in `box`. frame: (H, W, 3) uint8 BGR. box: frame px."""

    def look(self, frame: Image, known: Any, around: Box) -> Said:
        """Search around a place for a target of that size and shape. known: what `embed` returned. around: frame px."""


class OurMember:
    """A network of ours with a box head, read as weights without calibration are, but around the last place.

    spec: name or file of weights.
    """

    def __init__(self, spec: str) -> None:
        self.name = Path(spec).stem
        net = load_network(weight_file(spec))
        if not isinstance(net.config.tracking, BoxTracking):
            raise InputError(f"teacher {spec!r} has no say in a vote: {net.config.network} has no box head")
        self._engine = Engine(make_runner(net, "cpu"), net.config)
        self._policy = PeakPolicy(self._engine, net.config.tracking)

    def embed(self, frame: Image, box: Box) -> Appearance:
        """See `Member`."""
        return self._engine.appearance(frame, box)

    def look(self, frame: Image, known: Any, around: Box) -> Said:
        """See `Member`."""
        target = Target(around, known, Track(around), (frame.shape[1], frame.shape[0]))
        window = self._engine.config.search_window(around)
        view = self._engine.look_once(frame, known, window)
        (result,) = self._policy.update(frame, [target], [[view]])
        assert view.box_map is not None
        (left, top, right, bottom), centres = view.box_map.astype(np.float64), self._engine.grid.centres
        across, down = window.scale
        x, y = window.x + centres / across, window.y + centres / down
        boxes = [x - left / across, y[:, None] - top / down, (left + right) / across, (top + bottom) / down]
        scores = (1 + np.tanh(view.logits.astype(np.float64) / 2)) / 2
        return Said(result.box, result.score, x, y, scores, np.stack(boxes, axis=-1))


class PeerMember:
    """A published tracker, read as by its authors. spec: fear=DIR, nanotrack-v3=DIR and so on; ValueError: another."""

    def __init__(self, spec: str) -> None:
        self.name = tracker_name(spec)
        peer = load_tracker(spec)
        if not isinstance(peer, Fear | NanoTrack):
            raise InputError(f"teacher {spec!r} has no say in a vote: only fear, nanotrack-v1, -v2, -v3 and ours have")
        self._peer = peer

    def embed(self, frame: Image, box: Box) -> Any:
        """See `Member`."""
        self._peer.init(frame, box)
        return self._peer.template, self._peer.fill

    def look(self, frame: Image, known: Any, around: Box) -> Said:
        """See `Member`."""
        self._peer.template, self._peer.fill = known
        self._peer.place(frame, around)
        answer = self._peer.update(frame)
        return Said(Box(*answer.box), answer.score, *self._peer.cells())


@dataclass(frozen=True)
class Mirrored:
    """A member that sees everything mirrored, left to right."""

    member: Member

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.member.name} mirrored"

    def embed(self, frame: Image, box: Box) -> Any:
        """See `Member`."""
        return self.member.embed(_mirror(frame), _mirror_box(box, frame.shape[1]))

    def look(self, frame: Image, known: Any, around: Box) -> Said:
        """See `Member`."""
        width = frame.shape[1]
        said = self.member.look(_mirror(frame), known, _mirror_box(around, width))
        boxes = said.boxes[:, ::-1].copy()
        boxes[..., 0] = width - boxes[..., 0] - boxes[..., 2]
        box, x = _mirror_box(said.box, width), width - said.x[::-1]
        return said._replace(box=box, x=x, scores=said.scores[:, ::-1], boxes=boxes)


def _mirror(frame: Image) -> Image:
    return np.ascontiguousarray(frame[:, ::-1])


def _mirror_box(box: Box, width: int) -> Box:
    return Box(width - box.x - box.w, *box[1:])


class Vote(NamedTuple):
    """What members agree on. box: x, y, w, h. agreement: [0, 1], mean IoU with the medoid. score: [0, 1]."""

    box: Box
    agreement: float
    score: float


def vote(boxes: Float, scores: Float, weights: Float) -> Vote:
    """The mean of those boxes that overlap their medoid, the box with the most overlap with all others.

    boxes: (M, 4) x, y, w, h. scores: (M,) in [0, 1]. weights: (M,) of the members; one of weight 0 has no say.
    The score is the agreement times the weighted median of the members' scores: of three members of which one holds on
    to anything, it follows the other two.
    """
    overlap = iou(boxes[:, None], boxes[None])
    support = np.where(weights > 0, overlap @ weights, -1.0)
    medoid = int(np.argmax(support))
    heard = weights * (overlap[medoid] >= AGREE)
    heard[medoid] = weights[medoid]  # also if its box is broken and overlaps not even itself
    agreement = float(support[medoid] / weights.sum())
    order = np.argsort(scores)
    middle = order[np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)]
    return Vote(Box(*(heard @ boxes / heard.sum()).tolist()), agreement, agreement * float(scores[middle]))


class Teacher:
    """Follows one target by the vote of its members. weights: of the members' votes, equal if not given."""

    def __init__(self, members: Sequence[Member], weights: Sequence[float] | None = None) -> None:
        self.members = list(members)
        self.weights = np.ones(len(self.members)) if weights is None else np.array(weights, np.float64)
        if self.weights.shape != (len(self.members),) or self.weights.min() < 0 or self.weights.sum() == 0:
            raise InputError(f"weights {weights} must be {len(self.members)} numbers, none negative, not all 0")

    def init(self, frame: Image, box: Sequence[float]) -> None:
        """Begin to follow what is in `box` (x, y, w, h, frame px)."""
        self.box = check_box(box, frame.shape[1], frame.shape[0])
        self._known = self.embed(frame, self.box)

    def update(self, frame: Image) -> Answer:
        """Follow it into the next frame."""
        voted = self.vote(self.look(frame, self._known, self.box))
        self.box = keep_inside(voted.box, frame)
        return Answer(self.box, voted.score)

    def embed(self, frame: Image, box: Box) -> list[Any]:
        """What each member remembers of a target."""
        return [member.embed(frame, box) for member in self.members]

    def look(self, frame: Image, known: list[Any], around: Box) -> list[Said]:
        """What each member says of a search."""
        return [member.look(frame, one, around) for member, one in zip(self.members, known, strict=True)]

    def vote(self, said: Sequence[Said]) -> Vote:
        """What they agree on."""
        boxes, scores = np.array([s.box for s in said], np.float64), np.array([s.score for s in said], np.float64)
        return vote(boxes, scores, self.weights)


class SoftTargets(NamedTuple):
    """What the members of a teacher say of a pair, on the student's search crop.

    box: (4,) x, y, w, h of the vote, search px. agreement, score: of the vote, [0, 1], see `vote`. boxes: (M, 4) and
    scores: (M,) of the members' choices. score_map: (M, H, W) in [0, 1] on the student's grid, NaN where a member did
    not look. box_map: (M, 4, H, W) distances from the student's cells to the left, top, right and bottom edge, search
    px; NaN there, too. All float32.
    """

    box: F32
    agreement: float
    score: float
    boxes: F32
    scores: F32
    score_map: F32
    box_map: F32


def soft_targets(
    teacher: Teacher, exemplar: Image, box: Box, search: Image, window: CropWindow, grid: Grid, around: Box
) -> SoftTargets:
    """Ask a teacher about a pair.

    exemplar: (H, W, 3) uint8 BGR with the target in `box` (its px). search: (H, W, 3) uint8 BGR, what is searched.
    window: which part of `search` the student's crop shows. grid: of the student's maps. around: where in `search`, and
    of what size, the target is expected, as a tracker would know it from the last frame (px of `search`).
    Augmented crops may be given as they are: then box and around are crop px and the window is (0, 0, size, size). The
    members look for a target at twice its side with context (FEAR-XS: at five times its sides), so that about as much
    is seen as by a student with 97 and 209 to 241 px crops.
    Between a member's cells scores are interpolated linearly, boxes too, with the scores as weights.
    """
    said = teacher.look(search, teacher.embed(exemplar, box), around)
    voted = teacher.vote(said)
    maps = [_on_grid(one, window, grid) for one in said]
    return SoftTargets(
        np.array(window.to_crop(voted.box), np.float32),
        voted.agreement,
        voted.score,
        np.array([window.to_crop(one.box) for one in said], np.float32),
        np.array([one.score for one in said], np.float32),
        np.stack([scores for scores, _ in maps]),
        np.stack([boxes for _, boxes in maps]),
    )


def _on_grid(said: Said, window: CropWindow, grid: Grid) -> tuple[F32, F32]:
    """The member's maps on the student's grid: scores (H, W) and box map (4, H, W), search px."""
    per_x, per_y = window.scale
    x, y = window.x + grid.centres / per_x, window.y + grid.centres / per_y
    across, down = _between(said.x, x), _between(said.y, y)
    scores = down @ said.scores @ across.T
    edges = np.concatenate([said.boxes[..., :2], said.boxes[..., :2] + said.boxes[..., 2:]], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        x0, y0, x1, y1 = (down @ (said.scores * edges[..., k]) @ across.T / scores for k in range(4))
    rows = y[:, None]
    distances = np.stack([(x - x0) * per_x, (rows - y0) * per_y, (x1 - x) * per_x, (y1 - rows) * per_y])
    return scores.astype(np.float32), distances.astype(np.float32)


def _between(known: Float, wanted: Float) -> Float:
    """(wanted, known) weights of linear interpolation between evenly spaced points; NaN half a step outside of them."""
    at = (wanted - known[0]) / (known[1] - known[0])
    inside = (at >= -0.5) & (at <= len(known) - 0.5)
    at = np.clip(at, 0, len(known) - 1)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(len(known))), 0)
    weights[~inside] = np.nan
    return weights


def load_teacher(specs: Sequence[str]) -> Any:
    """The tracker of several members, or, of a single spec, any tracker there is.

    specs: fear=DIR, nanotrack-v1=DIR, -v2, -v3, or the name or file of weights of ours; see `peers`. Raises ValueError.
    """
    return load_tracker(specs[0]) if len(specs) == 1 else Teacher([load_member(spec) for spec in specs])


def load_member(spec: str) -> Member:
    """The member that a spec names, see `load_teacher`. Raises ValueError."""
    if "=" in spec:
        return PeerMember(spec)
    return OurMember(spec)
