"""Frames of a video file by their index: decoded in order, once where that can be."""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from tracker.crop import Image
from tracker.errors import SourceError
from tracker.footage import video

KEPT_BYTES = 256 * 2**20  # of decoded frames: all of a short clip, so that its targets share one decoding
BEHIND = 64  # frames decoded at once for who goes backwards


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame of a video: the file and the 0-based index of the frame in it."""

    clip: Path
    index: int

    @property
    def name(self) -> str:
        """The file of the video and the index."""
        return f"{self.clip.name} frame {self.index}"


class Decoder:
    """The frames of one source, in any order; going on is free, going back decodes again what is no longer kept.

    path: what `video.frames` takes, but nothing live.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.kept: OrderedDict[int, video.Frame] = OrderedDict()
        self.bytes = 0
        self.source: video.Source | None = None
        self.next = 0

    def read(self, index: int) -> Image:
        """Return frame `index`, (H, W, 3) uint8 BGR, the caller's own; SourceError: there is none or it is damaged."""
        return self.frame(index).image.copy()

    def frame(self, index: int) -> video.Frame:
        """Return frame `index` with its time, not to be written on; SourceError as `read`."""
        if index not in self.kept:
            self._decode(index)
        return self.kept[index]

    def _decode(self, index: int) -> None:
        if self.source is None or index < self.next:
            start = max(index - BEHIND + 1, 0) if self.source else index
            self.close()
            self.source, self.next = video.frames(self.path, start), start
        for frame in self.source:
            self._keep(frame)
            self.next = frame.index + 1
            if frame.index == index:
                return
            if frame.index > index:
                break
        raise SourceError(f"{self.path}: frame {index} cannot be decoded")

    def _keep(self, frame: video.Frame) -> None:
        if frame.index in self.kept:
            self.bytes -= self.kept.pop(frame.index).image.nbytes
        self.kept[frame.index] = frame
        self.bytes += frame.image.nbytes
        while self.bytes > KEPT_BYTES and len(self.kept) > 1:
            self.bytes -= self.kept.popitem(last=False)[1].image.nbytes

    def close(self) -> None:
        """Release the video; what was decoded stays."""
        if self.source is not None:
            self.source.close()


_latest: list[Decoder] = []  # of this process: one clip at a time is worked on


def read_clip_frame(frame: ClipFrame) -> Image:
    """Return the image of a frame, (H, W, 3) uint8 BGR; SourceError names a video or frame that cannot be read."""
    if not _latest or _latest[0].path != frame.clip:
        for old in _latest:
            old.close()
        _latest[:] = [Decoder(frame.clip)]
    return _latest[0].read(frame.index)
