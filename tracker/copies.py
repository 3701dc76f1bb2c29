"""Frames that are kept while the caller writes on."""

from __future__ import annotations

import weakref

import numpy as np

from tracker.crop import Image


class Copies:
    """Copies of frames (the caller may write on), in memory that is used again once nobody holds a copy."""

    def __init__(self) -> None:
        self._made: list[tuple[Image, weakref.ref[Image]]] = []  # memory, and the copy that is in it

    def for_first(self, frame: Image) -> Image:
        """A copy of `frame` to begin with; targets that begin in one frame share it."""
        latest = self._made[-1][1]() if self._made else None
        return latest if latest is not None and np.array_equal(latest, frame) else self.of(frame)

    def of(self, frame: Image) -> Image:
        """A copy of `frame`; hold it, not a part of it."""
        free = [memory for memory, copy in self._made if copy() is None and memory.shape == frame.shape]
        self._made = [pair for pair in self._made if pair[1]() is not None]
        memory = free[0] if free else np.empty_like(frame)
        np.copyto(memory, frame)
        copy = memory.view()
        self._made.append((memory, weakref.ref(copy)))
        return copy
