"""The video with its boxes, drawn beside the tracker's work by a thread of its own."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tracker.draw import draw_results
from tracker.footage.boxes import Row
from tracker.footage.video import DEFAULT_FPS, VideoWriter, frames

TRAIL = 30  # centres drawn behind a box


class Overlay:
    """A video that is being drawn.

    source: arguments of `frames`. rows: the boxes; the video goes from the first to the last frame that has one.
    """

    def __init__(self, source: dict[str, Any], rows: Sequence[Row], path: Path) -> None:
        self.path, self.done, self.problem = path, False, ""
        self._source, self._rows = source, list(rows)
        self._first, self._last = rows[0].frame, rows[-1].frame
        self._drawn, self._closing = 0, False
        self._thread = threading.Thread(target=self._run, name="siamtrack overlay", daemon=True)
        self._thread.start()

    def is_of(self, rows: Sequence[Row]) -> bool:
        """Whether these boxes are drawn, and that has not failed."""
        return self._rows == list(rows) and not self.problem

    def progress(self) -> dict[str, Any]:
        """How far it is: share in [0, 1], done, problem."""
        return {
            "share": self._drawn / (self._last - self._first + 1),
            "done": self.done,
            "problem": self.problem,
        }

    def close(self) -> None:
        """Stop, and wait for the thread."""
        self._closing = True
        self._thread.join()

    def _run(self) -> None:
        by_frame: dict[int, list[Row]] = defaultdict(list)
        for row in self._rows:
            by_frame[row.frame].append(row)
        trails: dict[int, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=TRAIL))
        try:
            with (
                frames(self._source["source"], self._first, self._last + 1) as source,
                VideoWriter(self.path, source.fps or DEFAULT_FPS, source.size, force=True) as writer,
            ):
                for frame in source:
                    if self._closing:
                        return
                    rows = by_frame[frame.index]
                    for row in rows:
                        trail = trails[row.id]
                        trail.clear() if row.state == "lost" else trail.append((row.x + row.w / 2, row.y + row.h / 2))
                    writer.write(draw_results(frame.image, rows, [trails[row.id] for row in rows]))
                    self._drawn = frame.index - self._first + 1
            self.done = True
        except (OSError, ValueError) as error:
            self.problem = str(error)
