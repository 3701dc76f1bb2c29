"""A recorded run in the page: what a flight log says, over the video that it was made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from tracker.errors import InputError, LogError
from tracker.footage.boxes import Row
from tracker.footage.video import Frame
from tracker.geometry import Box
from tracker.recorder import Log, Step
from tracker.target import Result


class Played:
    """Stands where `Following` does, and finds what was found; nothing can be changed.

    Raises LogError: the run was of a live source, or has no frames.
    """

    live = False

    def __init__(self, log: Log) -> None:
        if log.head["live"]:
            raise LogError(
                f"{log.path}: a camera or stream cannot be played again; `siamtrack replay` shows what was found"
            )
        if log.film is None:
            raise LogError(f"{log.path}: there is no file {log.head['source']!r}, of which the run was")
        if not log.steps:
            raise LogError(f"{log.path}: there is no frame in it")
        self.source, self.start, self.stop = log.film, log.steps[0].frame, log.steps[-1].frame + 1
        self.given: dict[int, dict[int, Box]] = {number: {} for number in log.ids}
        self.rows: dict[int, dict[int, Row]] = {number: {} for number in log.ids}
        self._steps: dict[int, Step] = {step.frame: step for step in log.steps}
        for step in log.steps:
            for number, row in step.rows.items():
                self.rows[number][step.frame] = row
            for number, box in step.started.items():
                self.given[number][step.frame] = box
        self.at: int | None = None
        self.results: dict[int, Result] = {}

    @property
    def ids(self) -> list[int]:
        """Ids of the targets."""
        return list(self.rows)

    def step(self, frame: Frame) -> None:
        """Go on to a frame."""
        self.at, step = frame.index, self._steps.get(frame.index)
        rows = step.rows if step else {}
        ms = step.ms if step else (0.0, 0.0, 0.0)
        self.results = {n: Result(Box(*row.box), row.score, *ms, row.state) for n, row in rows.items()}  # type: ignore[arg-type]

    def go_to(self, index: int, read: Callable[[int], Frame | None]) -> None:
        """As `Following.go_to`; there is nothing to do."""

    def _refuse(self, *_: Any) -> NoReturn:
        raise InputError("this is a recorded run, which is only shown; open its video to follow something")

    add = redraw = remove = use = _refuse
