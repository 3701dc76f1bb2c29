"""Boxes for every frame of a clip from a few that a person gave: each span between them is followed from both ends."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from tracker.errors import InputError
from tracker.footage.boxes import Row
from tracker.footage.video import DEFAULT_FPS, Frame
from tracker.geometry import Box, check_box, iou
from tracker.target import Result, State, Target
from tracker.tracker import Tracker

DOUBT = 0.6  # a score below it is shown to the person
AGREE = 0.5  # overlap from which on two boxes are one that was found twice; else the better one is taken
UNDONE = 200  # changes that can be taken back
Keys = dict[int, Box | None]
Reader = Callable[[int], Frame | None]


@dataclass(frozen=True)
class Proposal:
    """A box for one frame. score: [0, 1], how far it can be trusted. state: lost, where nothing was found."""

    box: Box
    score: float
    state: State


def blend(ahead: Result | None, back: Result | None, share: float, between: Box | None) -> Proposal | None:
    """One box from those of the two trackers that come from the ends of a span.

    ahead: from the earlier end, back: from the later one; None: that end was not given, or it is not there yet.
    share: [0, 1], how far along the span the frame is. between: the box between the two ends, on a straight line.
    The nearer end counts for more, and so does the surer tracker. Two boxes that agree are averaged, and are trusted as
    much as they agree; of two that do not the heavier one is taken, and is not trusted. Where both are lost the
    straight line is the guess. None: nothing is known.
    """
    found = [(one, weight) for one, weight in ((ahead, 1 - share), (back, share)) if one]
    known = [one for one in (ahead, back) if one is not None]
    if not found:
        guess = between or (known[0].box if known else None)
        return None if guess is None else Proposal(guess, 0.0, "lost")
    if len(found) == 1:
        (one, _), alone = found[0], ahead is None or back is None
        score = one.score if alone else one.score / 2  # the other one does not see it
        return Proposal(one.box, score, "tracking" if score >= DOUBT else "uncertain")
    weights = np.array([max(one.score, 1e-3) * max(weight, 1e-3) for one, weight in found])
    weights /= weights.sum()
    boxes = np.array([one.box for one, _ in found])
    overlap = float(iou(boxes[0], boxes[1]))
    trust = float(weights @ [one.score for one, _ in found])
    box = weights @ boxes if overlap >= AGREE else boxes[weights.argmax()]
    score = trust * (overlap if overlap >= AGREE else overlap / 2)
    return Proposal(Box(*box.tolist()), score, "tracking" if score >= DOUBT else "uncertain")


def interpolate(keys: Keys, index: int) -> Box | None:
    """The box at frame `index` on the straight line between the keys around it; None: there are not two."""
    frames = sorted(keys)
    place = bisect_right(frames, index)
    if place and frames[place - 1] == index:
        return keys[index]
    if not 0 < place < len(frames):
        return None
    before, after = frames[place - 1], frames[place]
    first, last = keys[before], keys[after]
    if first is None or last is None:
        return None
    share = (index - before) / (after - before)
    return Box(*((1 - share) * a + share * b for a, b in zip(first, last, strict=True)))


@dataclass
class Walk:
    """A tracker that goes from a key one way, as far as it is wanted. way: 1 or -1. found: frame -> result."""

    at: int
    way: int
    target: Target
    found: dict[int, Result] = field(default_factory=dict)
    ended: bool = False  # there is no next frame

    def go(self, tracker: Tracker, read: Reader) -> int | None:
        """One frame further; returns its index, None: there is none."""
        frame = read(self.at + self.way)
        if frame is None or frame.index != self.at + self.way:
            self.ended = True
            return None
        self.at = frame.index
        self.found[self.at] = tracker.update(frame.image, self.target)
        return self.at


@dataclass
class Labelled:
    """A target. name: what it is. keys: frame -> the box that a person gave, None: it is gone from there on."""

    name: str
    keys: Keys
    rows: dict[int, Row] = field(default_factory=dict)
    walks: dict[tuple[int, Box, int], Walk] = field(default_factory=dict)  # key frame, its box, way


class Labeller:
    """Targets of one clip, with what a person said of them and what follows from it.

    tracker: that proposes. read: gives a frame of the clip. start, stop: its frames, half-open; stop None: unknown.
    fps: gives the rows their times.
    """

    def __init__(self, tracker: Tracker, read: Reader, start: int, stop: int | None, fps: float = DEFAULT_FPS) -> None:
        self.tracker, self.read, self.start, self.stop, self.fps = tracker, read, start, stop, fps
        self.targets: dict[int, Labelled] = {}
        self._born = 0
        self._past: list[dict[int, tuple[str, Keys]]] = []

    # --- what a person says

    def add(self, frame: Frame, box: Sequence[float], name: str = "target") -> int:
        """A new target with its first key; returns its id. Raises ValueError: see `geometry.check_box`."""
        checked = check_box(box, frame.image.shape[1], frame.image.shape[0])
        self._remember()
        number, self._born = self._born, self._born + 1
        self.targets[number] = Labelled(name, {frame.index: checked})
        self.rewrite(number)
        return number

    def restore(self, number: int, name: str, keys: Keys) -> None:
        """A target as it was kept. Raises ValueError: it has no box."""
        if not any(keys.values()):
            raise InputError(f"target {number} has no box")
        self.targets[number] = Labelled(name, keys)
        self._born = max(self._born, number + 1)
        self.rewrite(number)

    def set_key(self, number: int, frame: Frame, box: Sequence[float] | None) -> None:
        """Say where a target is in a frame; None: it is gone from there on, until the next key.

        Raises ValueError: no such target, or see `add`.
        """
        target = self._find(number)
        checked = None if box is None else check_box(box, frame.image.shape[1], frame.image.shape[0])
        self._remember()
        target.keys[frame.index] = checked
        self.rewrite(number)

    def drop_key(self, number: int, index: int) -> None:
        """Take a key back. Raises ValueError: there is none, or it is the only box."""
        target = self._find(number)
        if index not in target.keys:
            raise InputError(f"frame {index} is not a key frame of target {number}")
        if not any(box for frame, box in target.keys.items() if frame != index):
            raise InputError("this is the only box of the target; remove the target instead")
        self._remember()
        del target.keys[index]
        self.rewrite(number)

    def rename(self, number: int, name: str) -> None:
        """Say what a target is. Raises ValueError: no such target, or no name."""
        target = self._find(number)
        if not name.strip() or not name.isprintable() or "," in name:
            raise InputError(f"{name!r} is no name; it must not be empty, and has no comma")
        self._remember()
        target.name = name.strip()[:60]

    def remove(self, number: int) -> None:
        """Forget a target. Raises ValueError: no such target."""
        self._find(number)
        self._remember()
        del self.targets[number]

    def undo(self) -> bool:
        """Take the last change back; False: there is none."""
        if not self._past:
            return False
        known, past = self.targets, self._past.pop()
        self.targets = {}
        for number, (name, keys) in past.items():
            old = known.get(number)
            self.targets[number] = Labelled(name, dict(keys), walks=old.walks if old else {})
            self.rewrite(number)
        return True

    def use(self, tracker: Tracker) -> None:
        """Propose with another network."""
        self.tracker = tracker
        for number, target in self.targets.items():
            target.walks.clear()
            self.rewrite(number)

    # --- what follows from it

    def work(self) -> list[tuple[int, int]] | None:
        """Track one frame more; returns (id, frame) of the rows that changed, None: all is done."""
        for number, target in self.targets.items():
            for walk, end in self._wanted(target):
                if walk.ended or abs(end - walk.at) <= 1:
                    continue
                index = walk.go(self.tracker, self.read)
                if index is None:
                    self.stop = walk.at + 1 if walk.way > 0 and self.stop is None else self.stop
                    return []
                return [(number, index)] if self._write(target, number, index) else []
        return None

    def finish(self) -> None:
        """Track all that is still to be tracked."""
        while self.work() is not None:
            pass

    def rewrite(self, number: int) -> None:
        """Make all rows of a target anew from its keys and from what was tracked."""
        target = self.targets[number]
        target.rows = {}
        frames = set(target.keys) | {f for walk in target.walks.values() for f in walk.found}
        frames |= {f for a, b in pairwise(sorted(target.keys)) for f in range(a, b)}
        for index in frames:
            self._write(target, number, index)

    def spans(self, number: int) -> list[tuple[int, int]]:
        """First and last frame of each stretch between two keys, of that before the first and after the last key."""
        target = self._find(number)
        keys = sorted(target.keys)
        edges = [self.start - 1, *keys, (self.stop if self.stop is not None else max(target.rows, default=0) + 1)]
        return [(a + 1, b - 1) for a, b in pairwise(edges) if b - a > 1]

    def doubts(self, number: int) -> list[tuple[int, int]]:
        """First and last frame of each stretch whose boxes are in doubt."""
        rows = self._find(number).rows
        found: list[tuple[int, int]] = []
        for index in sorted(rows):
            if rows[index].score >= DOUBT:
                continue
            if found and found[-1][1] == index - 1:
                found[-1] = (found[-1][0], index)
            else:
                found.append((index, index))
        return found

    def worst(self, number: int, span: tuple[int, int]) -> int:
        """The frame of a span that most needs a person: the middle of what scores least."""
        rows = self._find(number).rows
        scores = {f: rows[f].score if f in rows else 0.0 for f in range(span[0], span[1] + 1)}
        least = min(scores.values())
        low = [f for f, score in scores.items() if score <= least + 0.05]
        return low[len(low) // 2]

    def rows(self) -> list[Row]:
        """All rows, by frame and id."""
        found = [row for target in self.targets.values() for row in target.rows.values()]
        return sorted(found, key=lambda row: (row.frame, row.id))

    def _wanted(self, target: Labelled) -> list[tuple[Walk, int]]:
        """The walks that the keys ask for, and the frame before which each stops; begins those that are new."""
        keys = sorted(target.keys)
        wanted = []
        for place, index in enumerate(keys):
            box = target.keys[index]
            if box is None:
                continue
            after = keys[place + 1] if place + 1 < len(keys) else self.stop if self.stop is not None else 2**31
            before = keys[place - 1] if place else self.start - 1
            ways = [(1, after)]
            if not place or target.keys[before] is not None:
                ways.append((-1, before))
            for way, end in ways:
                if abs(end - index) > 1:
                    walk = self._walk(target, index, box, way)
                    if walk:
                        wanted.append((walk, end))
        return wanted

    def _walk(self, target: Labelled, index: int, box: Box, way: int) -> Walk | None:
        key = index, box, way
        if key not in target.walks:
            frame = self.read(index)
            if frame is None:
                return None
            target.walks[key] = Walk(index, way, self.tracker.init(frame.image, box))
        return target.walks[key]

    def _write(self, target: Labelled, number: int, index: int) -> bool:
        """Make the row of a frame; False: there is none."""
        proposal = self._proposal(target, index)
        if proposal is None:
            return False
        x, y, w, h = map(float, proposal.box)
        target.rows[index] = Row(index, index / self.fps, number, x, y, w, h, float(proposal.score), proposal.state)
        return True

    def _proposal(self, target: Labelled, index: int) -> Proposal | None:
        if index in target.keys:
            box = target.keys[index]
            return None if box is None else Proposal(box, 1.0, "tracking")
        frames = sorted(target.keys)
        place = bisect_left(frames, index)
        before = frames[place - 1] if place else None
        after = frames[place] if place < len(frames) else None
        first = target.keys[before] if before is not None else None
        last = target.keys[after] if after is not None else None
        if before is not None and first is None:  # gone
            return None
        ahead = self._result(target, before, first, 1, index)
        back = self._result(target, after, last, -1, index)
        share = 0.0 if after is None else 1.0 if before is None else (index - before) / (after - before)
        return blend(ahead, back, share, interpolate(target.keys, index))

    def _result(self, target: Labelled, key: int | None, box: Box | None, way: int, index: int) -> Result | None:
        if key is None or box is None or (key, box, way) not in target.walks:
            return None
        return target.walks[key, box, way].found.get(index)

    def _find(self, number: int) -> Labelled:
        if number not in self.targets:
            known = ", ".join(map(str, self.targets)) or "none"
            raise InputError(f"there is no target {number}; there are: {known}")
        return self.targets[number]

    def _remember(self) -> None:
        self._past.append({n: (t.name, dict(t.keys)) for n, t in self.targets.items()})
        del self._past[:-UNDONE]
