"""The window of `siamtrack track --show`: it plays at the pace of its source, and takes orders by keys."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from tracker.crop import Image
from tracker.draw import Picture, Window, draw_heat, draw_lines, draw_results, select_box
from tracker.footage.boxes import Row
from tracker.footage.video import Frame
from tracker.geometry import Box
from tracker.target import Target
from tracker.tracker import Tracker

HELP = (
    "space: pause   n: next frame   f: as fast as it goes   q: end",
    "0-9: choose a target   r: draw it anew   d: delete it   a: add one",
    "m: response map   w: write the picture   h: hide this",
)
PAUSED_MS = 50  # that the keyboard is waited for, again and again
SAID = 4.0  # seconds for which a note stays


@dataclass
class Edits:
    """What the user wants changed in the frame that is shown.

    given: boxes drawn anew, by the id of the target. added: boxes of new targets. dropped: ids. ended: no more frames.
    """

    given: dict[int, Box] = field(default_factory=dict)
    added: list[Box] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    ended: bool = False

    def __bool__(self) -> bool:
        return bool(self.given or self.added or self.dropped)


class Viewer:
    """Shows one frame after another with what was found in it; needs `draw.check_display` first.

    tracker: is asked for the response map. paced: a recording, which plays by its time stamps. most:
    targets that there may be; None: any number. folder: for pictures that are written.
    """

    def __init__(self, tracker: Tracker, paced: bool, most: int | None = None, folder: Path | None = None) -> None:
        self._tracker, self._most, self._folder = tracker, most, folder or Path()
        self._window = Window()
        self._paced, self._fast, self._paused = paced, False, False
        self._help, self._map, self._chosen = True, False, 0
        self._note, self._noted = "", 0.0
        self._begun: tuple[float, float] | None = None  # clock and time stamp since which it plays

    def show(
        self, frame: Frame, rows: Sequence[Row], trails: Mapping[int, ArrayLike], targets: Mapping[int, Target]
    ) -> Edits:
        """Show a frame until the next one is due; while it stands still, until the user lets it go on.

        rows: what was found. trails: (N, 2) centres of each target. targets: by id, as they are after this frame.
        """
        edits, now = Edits(), time.monotonic()
        if self._begun is None:
            self._begun = now, frame.time
        picture = self._draw(frame, rows, trails, targets, edits)
        while True:
            wait = PAUSED_MS if self._paused else max(1, min(PAUSED_MS, round(1e3 * self._due(frame))))
            if not self._window.show(picture, wait):
                edits.ended = True
                return edits
            step = self._obey(self._window.key, frame, targets, edits, picture)
            if step or (not self._paused and self._due(frame) <= 0):
                return edits
            if self._window.key >= 0:
                picture = self._draw(frame, rows, trails, targets, edits)

    def _due(self, frame: Frame) -> float:
        """Seconds for which the frame still has to be shown."""
        if not self._paced or self._fast or self._begun is None:
            return 0.0
        clock, stamp = self._begun
        return clock + frame.time - stamp - time.monotonic()

    def _obey(self, key: int, frame: Frame, targets: Mapping[int, Target], edits: Edits, picture: Image) -> bool:
        """Do what a key stands for; True: go on to the next frame."""
        word = chr(key) if 0 <= key < 128 else ""
        known = [n for n in targets if n not in edits.dropped]
        if word == " ":
            self._paused = not self._paused
        elif word == "n":
            self._paused = True
            return True
        elif word == "f":
            self._fast = not self._fast
            self._say("as fast as it goes" if self._fast else "by its time stamps")
        elif word == "h":
            self._help = not self._help
        elif word == "m":
            self._map = not self._map
        elif word == "w":
            self._write(frame, picture)
        elif word and word in "0123456789":
            if int(word) in known:
                self._chosen = int(word)
                self._say(f"target {word}")
            else:
                self._say(f"there is no target {word}")
        elif word in ("r", "d", "a"):
            self._edit(word, frame, known, edits)
        if word in (" ", "f", "r", "a", "w"):  # the clock of the source went on meanwhile
            self._begun = time.monotonic(), frame.time
        return False

    def _edit(self, word: str, frame: Frame, known: list[int], edits: Edits) -> None:
        if self._chosen not in known and known:
            self._chosen = known[0]
        if word != "a" and not known:
            self._say("there is no target; a adds one")
        elif word == "d":
            edits.dropped.add(self._chosen)
            edits.given.pop(self._chosen, None)
            self._say(f"target {self._chosen} is deleted")
        elif word == "a" and self._most is not None and len(known) + len(edits.added) >= self._most:
            self._say("boxes in .txt are those of one target; .csv, .json and .mot.txt take more")
        else:
            try:
                box = Box(*select_box(frame.image))
            except ValueError as error:  # given up
                self._say(str(error))
                return
            if word == "a":
                edits.added.append(box)
            else:
                edits.given[self._chosen] = box

    def _write(self, frame: Frame, picture: Image) -> None:
        path = self._folder / f"siamtrack-{frame.index:06d}.png"
        if path.exists():
            self._say(f"{path} exists already")
            return
        try:
            Picture(picture).save(path)
        except OSError as error:
            self._say(f"{path}: {error.strerror or error}")
        else:
            self._say(f"wrote {path}")

    def _say(self, text: str) -> None:
        self._note, self._noted = text, time.monotonic()

    def _draw(
        self,
        frame: Frame,
        rows: Sequence[Row],
        trails: Mapping[int, ArrayLike],
        targets: Mapping[int, Target],
        edits: Edits,
    ) -> Image:
        picture = frame.image
        chosen = self._chosen if self._chosen in targets else next(iter(targets), None)
        if self._map and chosen is not None:
            picture = self._with_map(picture, frame, targets[chosen])
        shown = [row for row in rows if row.id not in edits.dropped and row.id not in edits.given]
        numbers = [*(row.id for row in shown), *edits.given]
        drawn = [*shown, *(Row.of(frame, n, box) for n, box in edits.given.items())]
        picture = draw_results(picture, drawn, [trails.get(n, ()) for n in numbers], numbers)
        if edits.added:
            picture = draw_results(picture, [Row.of(frame, 0, box) for box in edits.added])
        lines = [*HELP] if self._help else []
        if time.monotonic() - self._noted < SAID:
            lines.append(self._note)
        if self._paused:
            lines.append("paused")
        return draw_lines(picture, lines)

    def _with_map(self, picture: Image, frame: Frame, target: Target) -> Image:
        """The score map of a target where it is, seen once more: that changes nothing."""
        engine = self._tracker.engine
        window = self._tracker.config.search_window(target.followed.box)
        view, grid = engine.look_once(frame.image, target.appearance, window), engine.grid
        edge, side = grid.first - grid.stride / 2, float(grid.cells * grid.stride)
        return draw_heat(picture, 1 / (1 + np.exp(-view.logits)), window.to_frame((edge, edge, side, side)))
