"""Clips: frames with targets, and what of them can be used.

`look` decodes a Clip: what cannot be used is skipped, counted and named in a Tally.
"""

from __future__ import annotations

import warnings
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError, SourceError
from tracker.footage.files import read_image
from tracker.footage.sequence import Entry
from tracker.footage.video import SourceWarning, frames
from tracker.geometry import Box

Mask = Callable[[int, int], "NDArray[np.uint8]"]  # (width, height) of the frame -> (H, W) coverage, 0 to 255

MIN_SIDE = 6.0  # px, smaller targets are dropped
NAMED = 5  # names kept of everything that is dropped


@dataclass(frozen=True)
class Target:
    """One target of a clip.

    name: unique in the clip. label: equal for targets of the same kind, where the data set says so.
    boxes: frame number -> (x, y, w, h), 0-based; NaN or no size: absent. masks: frame number -> Mask.
    """

    name: str
    label: str
    boxes: Mapping[int, tuple[float, ...]]
    masks: Mapping[int, Mask] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """Frames with targets; a photo is a clip of one frame.

    name: for messages. source: name for `pairs.mix`. frames: a video, or image files in order; frame numbers count from
    0. shares: boxes are shares of the frame's size, not px. starts: where the data set lets a tracker start (VOT).
    size: (width, height) of the frames for which boxes and masks were drawn, where the data set says so, else None.
    """

    name: str
    source: str
    frames: Path | tuple[Path, ...]
    targets: tuple[Target, ...]
    shares: bool = False
    starts: tuple[int, ...] = ()
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Seen:
    """A target in a decoded frame: its box (frame px), why it cannot be used ("" if it can), and its mask."""

    target: Target
    box: Box
    fault: str
    mask: Mask | None


@dataclass
class Tally:
    """Counts of what was found and of what was dropped, with the first few names; filled while reading."""

    kept: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)  # tracks
    sides: array[float] = field(default_factory=lambda: array("f"))  # sqrt(w h) of the kept boxes, px
    dropped: Counter[str] = field(default_factory=Counter)
    names: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def drop(self, reason: str, name: str, count: int = 1) -> None:
        """Count `count` things dropped for `reason`; `name` says which, or where."""
        self.dropped[reason] += count
        if len(self.names[reason]) < NAMED:
            self.names[reason].append(name)

    def lines(self) -> Iterator[str]:
        """For people: what is there, then what was dropped and why."""
        for what in ("sequences", "photos", "frames", "tracks", "boxes", "cut-outs"):
            count, more = self.kept[what], ""
            if not count:
                continue
            if what == "tracks":
                more = f" ({', '.join(f'{n} {source}' for source, n in self.sources.items())})"
            elif what == "boxes" and self.sides:
                low, middle, high = np.quantile(self.sides, (0, 0.5, 1))
                more = f", sqrt(w h) from {low:.0f} to {high:.0f} px, median {middle:.0f}"
            yield f"{count:8d} {what}{more}"
        if self.dropped:
            yield "dropped:"
        for reason, count in self.dropped.most_common():
            names = self.names[reason]
            more = ", .." if len(names) == NAMED and count > NAMED else ""
            yield f"{count:8d} {reason}: {', '.join(names)}{more}"


def seen_frames(clip: Clip, tally: Tally) -> Iterator[tuple[int, NDArray[np.uint8], list[Seen]]]:
    """Decode the frames of a clip that have boxes: (number, (H, W, 3) uint8 BGR, targets in it); fills `tally`."""
    wanted: dict[int, list[Target]] = defaultdict(list)
    labelled: set[int] = set()
    for target in clip.targets:
        for number, box in target.boxes.items():
            labelled.add(number)
            if np.isfinite(box).all() and min(box[2:]) > 0:
                wanted[number].append(target)
            else:
                tally.drop("target absent (NaN or no size)", f"{clip.name}/{target.name} frame {number}")
    used: set[str] = set()
    for number, image in _decode(clip, wanted, labelled, tally):
        height, width = image.shape[:2]
        drawn = clip.size or (width, height)
        across, down = (width, height) if clip.shares else (width / drawn[0], height / drawn[1])
        turned = abs(drawn[0] * height - drawn[1] * width) > max(width, height, *drawn)  # more than rounding
        other = f"drawn on frames of another shape ({drawn[0]} x {drawn[1]})"
        seen = []
        for target in wanted.pop(number):
            box = Box(*(float(v) * s for v, s in zip(target.boxes[number], (across, down) * 2, strict=True)))
            fault = other if turned else _fault(box, width, height)
            if fault:
                tally.drop(fault, f"{clip.name}/{target.name} frame {number}")
            else:
                used.add(target.name)
                tally.kept["boxes"] += 1
                tally.sides.append(float(np.sqrt(box.w * box.h)))
            mask = target.masks.get(number)
            if mask and drawn != (width, height) and not clip.shares:
                mask = partial(_resized, mask, drawn)
            seen.append(Seen(target, box, fault, mask))
        yield number, image, seen
        tally.kept["frames"] += any(not s.fault for s in seen)
    for number, targets in sorted(wanted.items()):
        tally.drop("boxes without a frame", f"{clip.name} frame {number}", len(targets))
    if used:
        tally.kept["photos" if isinstance(clip.frames, tuple) and len(clip.frames) == 1 else "sequences"] += 1
        tally.kept["tracks"] += len(used)
        tally.sources[clip.source] += len(used)


def _resized(mask: Mask, drawn: tuple[int, int], width: int, height: int) -> NDArray[np.uint8]:
    """A mask that was drawn for frames of another size."""
    return np.asarray(cv2.resize(mask(*drawn), (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _fault(box: Box, width: int, height: int) -> str:
    if min(box.w, box.h) < MIN_SIDE:
        return f"smaller than {MIN_SIDE:g} px"
    cx, cy = box.centre
    return "" if 0 <= cx < width and 0 <= cy < height else "centre outside the frame"


def _decode(
    clip: Clip, wanted: dict[int, list[Target]], labelled: set[int], tally: Tally
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames that are wanted; takes those out of `wanted` that are there but cannot be decoded."""
    if isinstance(clip.frames, tuple):
        for number in sorted(n for n in wanted if 0 <= n < len(clip.frames) and clip.frames[n].exists()):
            try:
                image = read_image(clip.frames[number])
            except DataError as error:
                tally.drop("images that cannot be read", str(error))
                del wanted[number]
                continue
            yield number, image
        total: int | None = len(clip.frames)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceWarning)  # counted here
            try:
                with frames(clip.frames) as source:
                    total = source.count()
                if wanted and max(wanted) >= 0:
                    with frames(clip.frames, stop=max(wanted) + 1) as source:
                        for frame in source:
                            if frame.index in wanted:
                                yield frame.index, np.asarray(frame.image, np.uint8)
            except SourceError as error:
                tally.drop("videos that cannot be read", str(error))
                wanted.clear()
                return
        for number in [n for n in wanted if 0 <= n < (total or 0)]:
            tally.drop("frames that cannot be decoded", f"{clip.name} frame {number}")
            del wanted[number]
    empty = [n for n in range(total or 0) if n not in labelled]
    if empty:
        tally.drop("frames without a box", f"{clip.name} from frame {empty[0]}", len(empty))


def clips_of(entries: Iterable[Entry], source: str, tally: Tally) -> Iterator[Clip]:
    """Sequences as clips of one target; those that cannot be used are dropped into `tally`."""
    for name, build in entries:
        try:
            sequence = build()
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))
            continue
        boxes = {number: tuple(box) for number, box in enumerate(sequence.boxes.tolist())}
        starts = tuple(at if at >= 0 else -1 - at for at in sequence.anchors)
        files = tuple(frame for frame in sequence.frames if isinstance(frame, Path))
        yield Clip(name, source, files, (Target("0", f"{name}/0", boxes),), starts=starts)
