"""What is open: a recording, of which any frame can be shown, or a live source, of which the newest one is."""

from __future__ import annotations

from collections import deque
from pathlib import Path

from tracker.errors import SourceError
from tracker.footage.decoder import Decoder
from tracker.footage.video import DEFAULT_FPS, CameraReader, Frame, Source, frames

HELD = 8  # newest frames of a live source that stay, for the box that is drawn on one of them


class Recording:
    """A video or a folder of images; any of its frames.

    start: index of its first frame. stop: index after the last one; None until the end was met, where the file does not
    announce it. size: (width, height), px.
    """

    live = False

    def __init__(self, source: Source, path: str | Path, start: int = 0, stop: int | None = None) -> None:
        """source: opened, only asked what it is like, and closed. Raises SourceError: nothing can be decoded."""
        with source:
            self.size, self.fps = source.size, source.fps or DEFAULT_FPS
            length, first = source.length, next(source).index
        self.start = first
        self.stop = stop if length is None else start + length
        self._decoder = Decoder(path)

    def frame(self, index: int) -> Frame | None:
        """The frame at `index`, or the next one that can be decoded; None: there is none any more."""
        while self.stop is None or index < self.stop:
            try:
                return self._decoder.frame(index)
            except SourceError:
                if self.stop is None or self._decoder.next <= index:  # its end, announced or not
                    self.stop = index
                    return None
                index += 1  # damaged
        return None

    def close(self) -> None:
        """Release the file."""
        self._decoder.close()


class Live:
    """A camera or a stream: its newest frame."""

    live = True
    start, stop = 0, None

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size, self.fps = source.size, source.fps or DEFAULT_FPS
        self._newest: deque[Frame] = deque(maxlen=HELD)

    @property
    def dropped(self) -> int:
        """Frames that came while another one was worked on."""
        return self._source.dropped

    def next(self) -> Frame | None:
        """Wait for a frame that was not seen yet; None: the source has ended. Raises SourceError: it was lost."""
        frame = next(self._source, None)
        if frame is not None:
            self._newest.append(frame)
        return frame

    def frame(self, index: int) -> Frame | None:
        """One of the newest frames; None: it is gone."""
        return next((frame for frame in self._newest if frame.index == index), None)

    def close(self) -> None:
        """Release the camera."""
        self._source.close()


def open_reel(source: str | Path | int, start: int = 0, stop: int | None = None) -> Recording | Live:
    """Open what `frames` opens. Raises SourceError, ValueError: see there."""
    opened = frames(source, start, stop, patience=0)  # who watches is told at once, and opens it again
    if isinstance(opened, CameraReader):
        return Live(opened)
    return Recording(opened, str(source), start, stop)
