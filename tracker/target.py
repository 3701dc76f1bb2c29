"""What is known of a target, and what a frame says of it: the data that the modules of a tracker hand around."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tracker.crop import Image, resize
from tracker.draw import Picture, show
from tracker.engine import MIN_SIZE, Appearance
from tracker.geometry import Box

State = Literal["tracking", "uncertain", "lost"]
EVIDENCE = ("logit", "margin", "agreement", "quality", "change", "step", "unusual logit", "unusual colours")
VERIFIED = (*EVIDENCE, "usual look")
LEAP = 4  # how many times larger or smaller a picture may get at once


@dataclass(frozen=True)
class Result:
    """Where a target is in one frame; false when it is lost.

    box: x, y, w, h, frame px; of a lost target a mere guess (the last good one is `Target.box`).
    score: [0, 1], the probability that the box is right (IoU of at least 0.5); with weights that were not calibrated
    only how sure the network is, which is too often 1. state: see `tracker.Tracker`.
    crop_ms, network_ms, post_ms: wall-clock time of the stages (the refiner's look counts as post-processing); with
    many targets in one pass, of the whole pass.
    """

    box: Box
    score: float
    crop_ms: float = 0.0
    network_ms: float = 0.0
    post_ms: float = 0.0
    state: State = "tracking"

    def __bool__(self) -> bool:
        return self.state != "lost"

    def plot(self, frame: Any) -> Picture:
        """The frame with the box, for notebooks; see `draw.show`."""
        return show(frame, self)


@dataclass(frozen=True)
class Found:
    """What was found in one view.

    box: frame px. rate: [0, 1], how far the size of the target may follow it. evidence: (8,) as in `EVIDENCE` or (9,)
    as in `VERIFIED`. logit: of the score map at its peak, in [-8, 8]. patch: (1, 64, 16, 16), see `engine.Refined`.
    colours: see `evidence.colours`. likeness: [0, 1], of them and the usual ones.
    """

    box: Box
    rate: float
    evidence: NDArray[np.float64]
    logit: float
    patch: NDArray[np.float32]
    colours: NDArray[np.float64]
    likeness: float

    def smoothed(self, last: Box) -> Box:
        """The found place with a size between that of `last` and the found one."""
        w, h = last.w + self.rate * (self.box.w - last.w), last.h + self.rate * (self.box.h - last.h)
        return Box.from_centre(*self.box.centre, w, h)


@dataclass(frozen=True)
class Reference:
    """The running reference: how a target usually looks and scores.

    colours: see `evidence.colours`. patch: (1, 64, 16, 16), the mean one, see `network.Swift.patches`. logit,
    likeness: means of what `Found` says, None before the first of them. frames: that it was made of.
    """

    colours: NDArray[np.float64]
    patch: NDArray[np.float32]
    logit: float | None = None
    likeness: float | None = None
    frames: int = 0

    SLOWEST = 0.1  # least share of the newest frame in a mean
    REPAINT = 0.1  # and in the colours and the patch

    def after(self, found: Found) -> Reference:
        """The reference after one more frame in which the target was `found`."""
        rate = max(1 / (self.frames + 1), self.SLOWEST)
        seen = (1 - self.REPAINT) * self.colours**2 + self.REPAINT * found.colours**2
        return replace(
            self,
            colours=np.sqrt(seen),
            patch=self.patch + np.float32(self.REPAINT) * (found.patch - self.patch),
            logit=_mean(self.logit, found.logit, rate),
            likeness=_mean(self.likeness, found.likeness, rate),
            frames=self.frames + 1,
        )


def _mean(before: float | None, value: float, rate: float) -> float:
    return value if before is None else before + rate * (value - before)


@dataclass(frozen=True)
class Track:
    """Something in the picture that is the target, may be it, or was seen together with it and so cannot be it.

    box: where it was seen last, frame px. patch: (1, 64, 16, 16) of it; None: it got no closer look. belief:
    log-odds that it is the target, gathered over its frames. seen: frames in which it was seen. velocity: of its centre
    from the last frame to this one, frame px.
    """

    box: Box
    patch: NDArray[np.float32] | None = field(default=None, repr=False)
    belief: float = 0.0
    seen: int = 1
    velocity: tuple[float, float] = (0.0, 0.0)

    def scaled(self, across: float, down: float) -> Track:
        """The track in frames that are larger by these factors."""
        velocity = self.velocity[0] * across, self.velocity[1] * down
        return replace(self, box=self.box.scaled(across, down), velocity=velocity)

    def again(self, box: Box, patch: NDArray[np.float32] | None = None, belief: float = 0.0) -> Track:
        """The track after one more frame, in which it was seen in `box`."""
        (before_x, before_y), (x, y) = self.box.centre, box.centre
        return Track(box, patch, belief, self.seen + 1, (x - before_x, y - before_y))


@dataclass(frozen=True)
class Kept:
    """One of the last frames in which a target was sure, which is searched for distractors once it is lost.

    box: of the target in it, frame px; patch: of it. age: how many frames ago that was. scan: how many of its
    windows were searched; searched: all of them.
    """

    frame: Image
    box: Box
    patch: NDArray[np.float32]
    age: int = 0
    scan: int = 0
    searched: bool = False


@dataclass(eq=False)
class Target:
    """What is known of one target: the whole state of tracking it. `update` mutates it. Equal only to itself.

    box: x, y, w, h, frame px, the last one that was believed. appearance: what is looked for. All else is known with
    calibrated weights only. reference: how it usually looks, which the evidence is compared with. followed: the track
    that is taken for it; until it is believed again its box is another than that of the target. distractors: what
    the kept frame shows beside it. state, seen: of the last frame, and what was found in it, convincing or not.
    kept: see `Kept`. scan: where the search of the whole frame goes on. waiting: boxes that a closer look
    is due for, next; passes: of the network, that the target may still cost in this frame.
    served: grows whenever it gets passes to be searched, so that the targets that are lost take turns. frame_size:
    width and height of the frames that its boxes lie in. offered: another one, that the last frame had and that is
    believed when it comes again.
    """

    box: Box
    appearance: Appearance = field(repr=False)
    followed: Track
    frame_size: tuple[int, int]
    reference: Reference | None = field(default=None, repr=False)
    state: State = "tracking"
    distractors: list[Track] = field(default_factory=list)
    seen: Found | None = field(default=None, repr=False)
    kept: Kept | None = field(default=None, repr=False)
    scan: int = 0
    waiting: tuple[Box, ...] = ()
    passes: int = 0
    served: int = 0
    offered: tuple[int, int] | None = None

    def fit(self, width: int, height: int) -> bool:
        """Bring it to frames of another size, px; mutates it. False: the frame is too small for it."""
        before = self.frame_size
        again, self.offered = self.offered == (width, height), None
        if (width, height) == before:
            return True
        across, down = width / before[0], height / before[1]
        if abs(across - down) * max(before) < 2:  # one shape, but for sides in whole px: the same picture, scaled
            if min(self.box.w * across, self.box.h * down) < MIN_SIZE:
                return False
            if not again and not 1 / LEAP <= across <= LEAP:  # more likely one bad frame, which may show anything
                self.offered = width, height
                return False
            self._rescale(across, down)
        elif self.box.w > width or self.box.h > height:
            return False
        self.frame_size = width, height
        return True

    def _rescale(self, across: float, down: float) -> None:
        self.box = self.box.scaled(across, down)
        self.followed, *self.distractors = (track.scaled(across, down) for track in (self.followed, *self.distractors))
        self.waiting = tuple(box.scaled(across, down) for box in self.waiting)
        if self.kept:
            high, wide = self.kept.frame.shape[:2]  # it may have another shape than the frames since then
            frame = resize(self.kept.frame, max(round(wide * across), 1), max(round(high * down), 1))
            self.kept = replace(self.kept, frame=frame, box=self.kept.box.scaled(across, down))

    def put(self, track: Track) -> None:
        """Believe that the target is where `track` is; mutates it."""
        self.box, self.followed, self.state, self.waiting = track.box, track, "tracking", ()
