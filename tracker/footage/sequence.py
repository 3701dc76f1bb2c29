"""One sequence of a single-object tracking data set, and the reading of its files: images, numbers, boxes."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError
from tracker.footage.decoder import ClipFrame, read_clip_frame
from tracker.footage.files import frame_number, present, read_image

Bound = tuple[float, float, float, float]  # left, top, right, bottom, px
Entry = tuple[str, "Callable[[], Sequence]"]  # the name of a sequence, and what reads it


@dataclass(frozen=True)
class Sequence:
    """One video with the boxes of one target.

    name: unique in its data set.
    frames: (N,) image files or frames of a video, in order, read when asked for.
    boxes: (N, 4) float64 x, y, w, h, 0-based continuous px; a row of NaN is a frame where the target is absent.
    attributes: names such as "IV" or "OCC", for tables by attribute.
    fps: rate of the video in frames a second, for the latency-aware protocol.
    bound: left, top, right, bottom px to which the data set's own measure clips boxes (GOT-10k), or None.
    anchors: frames from which VOT's anchor runs start, those of backward runs as -1 - frame; () where none are given.
    omitted: frames from which no TRE run starts, because the target is hidden (OTB).
    category: what the target is, for means by class (GOT-10k), or "".
    polygons: (N, K, 2) corners of a rotated truth (VOT), 0-based px, NaN where it is absent; None where boxes are all.
    absent: frames that are labelled as without the target, where others have no label at all (OxUvA); None: those
        without a box.
    tags: (N,) bool by name, the frames to which a tag such as "occlusion" applies (VOT); empty where there are none.
    note: what was put right when it was read, or "".
    """

    name: str
    frames: tuple[Path | ClipFrame, ...]
    boxes: NDArray[np.float64]
    attributes: tuple[str, ...] = ()
    fps: float = 30.0
    bound: Bound | None = None
    anchors: tuple[int, ...] = ()
    omitted: frozenset[int] = frozenset()
    category: str = ""
    polygons: NDArray[np.float64] | None = None
    absent: frozenset[int] | None = None
    tags: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError(f"{self.name}: no frames")
        if self.boxes.shape != (len(self.frames), 4):
            raise DataError(f"{self.name}: {len(self.frames)} frames but {len(self.boxes)} boxes")
        if not present(self.boxes[:1])[0]:
            raise DataError(f"{self.name}: the first box {self.boxes[0].tolist()} is empty, nothing to start on")

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read frame `index` as (H, W, 3) uint8 BGR; DataError names an unreadable file."""
        return read_frame(self.frames[index])

    def part(self, start: int, stop: int | None = None) -> "Sequence":
        """Return frames start .. stop - 1 as a sequence of the same name."""
        return self._of(slice(start, stop))

    def backwards(self, start: int) -> "Sequence":
        """Return frames start, start - 1 .. 0 as a sequence of the same name."""
        return self._of(slice(start, None, -1))

    def _of(self, cut: slice) -> "Sequence":
        corners = None if self.polygons is None else self.polygons[cut].copy()
        boxes = self.boxes[cut].copy()
        tags = {name: tagged[cut].copy() for name, tagged in self.tags.items()}
        empty: dict[str, Any] = {"anchors": (), "omitted": frozenset()}
        return replace(self, frames=self.frames[cut], boxes=boxes, polygons=corners, tags=tags, **empty)

    @property
    def has_truth(self) -> bool:
        """Whether there is more to judge by than the first box, which the tracker was given."""
        return len(self) == 1 or bool(present(self.boxes[1:]).any())

    @property
    def regions(self) -> NDArray[np.float64]:
        """What VOT judges by: the polygons, or the boxes where there are none."""
        return self.boxes if self.polygons is None else self.polygons

    def size(self) -> tuple[int, int]:
        """Return width and height of the first frame, px."""
        height, width = self.image(0).shape[:2]
        return width, height

    def fingerprint(self) -> str:
        """Return 16 hex digits over the names and sizes of the frame files and the boxes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.boxes).tobytes())
        sizes: dict[Path, int] = {}
        for frame in self.frames:
            path = frame.clip if isinstance(frame, ClipFrame) else frame
            if path not in sizes:
                sizes[path] = path.stat().st_size
            digest.update(f"{frame.name}:{sizes[path]};".encode())
        return digest.hexdigest()[:16]


def frame_index(frame: Path | ClipFrame) -> int | None:
    """Return the index of a frame of a video, or the last number in the name of an image file, None without one."""
    return frame.index if isinstance(frame, ClipFrame) else frame_number(frame)


def read_frame(frame: Path | ClipFrame) -> NDArray[np.uint8]:
    """Read an image file or a frame of a video, (H, W, 3) uint8 BGR; DataError names what cannot be decoded."""
    return read_clip_frame(frame) if isinstance(frame, ClipFrame) else read_image(frame)
