"""Targets that are followed through frames in any order of the person who watches: on, back, from a new box on."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Callable, Sequence

from tracker.errors import InputError
from tracker.footage.boxes import Row
from tracker.footage.video import Frame
from tracker.geometry import Box, check_box
from tracker.target import Result, Target
from tracker.tracker import Tracker

EVERY = 10  # frames between two states of the targets that are kept to go back to
KEPT_BYTES = 256 * 2**20  # of them
TARGET_BYTES = 2**19  # of one target in a state, roughly: its patches; its kept frame comes on top
MAX_ROWS = 500_000  # of a live source; then the older half goes

Reader = Callable[[int], Frame | None]


class Following:
    """The targets, what was found of them in each frame, and the way back.

    Going back to a frame puts the targets into the state that they had there, so that the same boxes are found again. A
    target is followed from the frame in which its first box was given; where a further box was given, it begins anew.
    """

    def __init__(self, tracker: Tracker, live: bool = False) -> None:
        """live: there is no way back, and no end."""
        self.tracker, self.live = tracker, live
        self.given: dict[int, dict[int, Box]] = {}  # id -> frame -> box
        self.rows: dict[int, dict[int, Row]] = {}  # id -> frame -> row
        self.at: int | None = None  # the frame to which the states belong
        self.results: dict[int, Result] = {}  # of the last step
        self._targets: dict[int, Target] = {}
        self._states: dict[int, dict[int, Target]] = {}  # frame -> id -> target
        self._born = 0

    @property
    def ids(self) -> list[int]:
        """Ids of the targets."""
        return list(self.given)

    def add(self, frame: Frame, box: Sequence[float]) -> int:
        """Begin to follow what is in `box`; returns the id of the target, which no other one will have.

        Raises ValueError: see `geometry.check_box`; then nothing has changed.
        """
        checked = check_box(box, frame.image.shape[1], frame.image.shape[0])
        number, self._born = self._born, self._born + 1
        self.given[number], self.rows[number] = {}, {}
        self._give(frame, number, checked)
        return number

    def redraw(self, frame: Frame, number: int, box: Sequence[float]) -> None:
        """Correct where a target is; what was found after this frame, up to the next given box, is dropped.

        Raises ValueError: no such target, or see `add`.
        """
        self._check(number)
        self._give(frame, number, check_box(box, frame.image.shape[1], frame.image.shape[0]))

    def remove(self, number: int) -> None:
        """Forget a target and all its boxes. Raises ValueError: no such target."""
        self._check(number)
        for known in (self.given, self.rows, self._targets, self.results):
            known.pop(number, None)
        for state in self._states.values():
            state.pop(number, None)

    def step(self, frame: Frame) -> None:
        """Follow all targets into a frame, the one after `at` or a later one."""
        begun = [n for n, boxes in self.given.items() if frame.index in boxes]
        others = [n for n in self._targets if n not in begun]
        results = self.tracker.update_all(frame.image, [self._targets[n] for n in others])
        self.results = dict(zip(others, results, strict=True))
        for number, result in self.results.items():
            self._write(frame, number, result.box, result.score, result.state)
        for number in begun:
            self._targets[number] = self.tracker.init(frame.image, self.given[number][frame.index])
        self.at = frame.index
        if not self.live and frame.index % EVERY == 0:
            self._keep(frame)

    def go_to(self, index: int, read: Reader) -> None:
        """Put the targets into the state they had in frame `index`, or in the last one before it that was looked at."""
        if self.at == index or self.live:
            return
        seen = sorted({f for rows in self.rows.values() for f in rows if f <= index})
        if seen and self.at == seen[-1]:
            return
        before = [f for f in self._states if f <= index]
        start = max(before, default=-1)
        self._targets = {n: copy.copy(t) for n, t in self._states.get(start, {}).items()}
        self.at, self.results = start, {}
        for f in seen[bisect_right(seen, start) :]:
            frame = read(f)
            if frame is not None:
                self.step(frame)

    def use(self, tracker: Tracker, frame: Frame) -> None:
        """Go on with another network, from the boxes that are known in a frame; what came before stays."""
        boxes = {n: rows[frame.index].box for n, rows in self.rows.items() if frame.index in rows}
        inside = {n: _inside(box, frame) for n, box in boxes.items()}
        targets = {n: tracker.init(frame.image, box) for n, box in inside.items() if box}
        self.tracker, self._targets, self._states, self.at = tracker, targets, {}, frame.index
        for number, target in targets.items():
            self.given[number][frame.index] = target.box
        self._keep(frame)

    def _give(self, frame: Frame, number: int, box: Box) -> None:
        target = self.tracker.init(frame.image, box)
        self.given[number][frame.index] = box
        later = min((f for f in self.given[number] if f > frame.index), default=None)
        for f in [f for f in self.rows[number] if f > frame.index and (later is None or f < later)]:
            del self.rows[number][f]
        for f in [f for f in self._states if f > frame.index]:
            del self._states[f]
        self._targets[number] = target
        self.results.pop(number, None)
        self._write(frame, number, box, 1.0, "tracking")
        self.at = frame.index
        self._keep(frame)

    def _write(self, frame: Frame, number: int, box: Box, score: float, state: str) -> None:
        rows = self.rows[number]
        rows[frame.index] = Row.of(frame, number, box, score, state)
        if self.live and len(rows) > MAX_ROWS:
            for f in list(rows)[: MAX_ROWS // 2]:
                del rows[f]

    def _keep(self, frame: Frame) -> None:
        if self.live:
            return
        self._states[frame.index] = {n: copy.copy(t) for n, t in self._targets.items()}  # whose parts never change
        most = max(4, KEPT_BYTES // ((TARGET_BYTES + frame.image.nbytes) * max(1, len(self._targets))))
        if len(self._states) > most:
            for f in sorted(self._states)[1:-1:2]:
                del self._states[f]

    def _check(self, number: int) -> None:
        if number not in self.given:
            known = ", ".join(map(str, self.given)) or "none"
            raise InputError(f"there is no target {number}; there are: {known}")


def _inside(box: Sequence[float], frame: Frame) -> Box | None:
    try:
        return check_box(box, frame.image.shape[1], frame.image.shape[0])
    except ValueError:
        return None
