"""What one frame says for a box: the evidence of which `config.Confidence` makes a probability.

What a good logit is differs from target to target, and the networks know the footage that they were trained on better
than any other. So a box is also judged by the habits of its own target: how far is this frame from what is usual?
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.crop import Image
from tracker.geometry import Box
from tracker.loop import Refined

EVIDENCE = ("logit", "margin", "agreement", "quality", "change", "step", "unusual logit", "unusual colours")
VERIFIED = (*EVIDENCE, "usual look", "unusual patch")

MOST_ALIKE = 8.0  # the most that the verifier says

_PATCH = 24  # px, side of the patch whose colours are counted
_Y, _X = np.mgrid[:_PATCH, :_PATCH] - (_PATCH - 1) / 2
_INSIDE = (_X**2 + _Y**2) <= 0.8 * (_PATCH / 2) ** 2  # the corners of a box show what is behind the target
_BIN = np.array([64, 8, 1])


@dataclass(frozen=True)
class Habit:
    """How a target usually looks.

    colours: see `colours`. look: (1, 64, 16, 16), the mean patch, see `network.SiameseNet.look`. logit, likeness,
    alike: means of what `Found` says, None before the first of them.
    """

    colours: NDArray[np.float64]
    look: NDArray[np.float32]
    logit: float | None = None
    likeness: float | None = None
    alike: float | None = None
    frames: int = 0

    SLOWEST = 0.1  # least share of the newest frame in a mean
    REPAINT = 0.1  # and in the colours and the look

    def after(self, found: Found) -> Habit:
        """The habit after one more frame in which the target was `found`."""
        rate = max(1 / (self.frames + 1), self.SLOWEST)
        seen = (1 - self.REPAINT) * self.colours**2 + self.REPAINT * found.colours**2
        return replace(
            self,
            colours=np.sqrt(seen),
            look=self.look + np.float32(self.REPAINT) * (found.patch - self.look),
            logit=_mean(self.logit, found.logit, rate),
            likeness=_mean(self.likeness, found.likeness, rate),
            frames=self.frames + 1,
        )

    def after_patch(self, alike: float) -> Habit:
        """The habit after one more word of the verifier."""
        return replace(self, alike=_mean(self.alike, alike, self.SLOWEST))


def _mean(before: float | None, value: float, rate: float) -> float:
    return value if before is None else before + rate * (value - before)


@dataclass(frozen=True)
class Found:
    """What was found in one window.

    box: frame px. rate: [0, 1], how far the size of the target may follow it. evidence: (8,) as in `EVIDENCE` or (10,)
    as in `VERIFIED`. logit: of the score map at its peak, in [-8, 8]. patch: (1, 64, 16, 16), see `loop.Refined`.
    colours: see `colours`. likeness: [0, 1], of them and the usual ones. alike: [-8, 8], what the verifier says of its
    patch and those that were sure; None: not asked.
    """

    box: Box
    rate: float
    evidence: NDArray[np.float64]
    logit: float
    patch: NDArray[np.float32]
    colours: NDArray[np.float64]
    likeness: float
    alike: float | None = None

    def smoothed(self, last: Box) -> Box:
        """The found place with a size between that of `last` and the found one."""
        w, h = last.w + self.rate * (self.box.w - last.w), last.h + self.rate * (self.box.h - last.h)
        return Box.from_centre(*self.box.centre, w, h)

    def verified(self, looks: float, alike: float, habit: Habit) -> Found:
        """The same with two more words: what the refiner says beside the usual look, and the verifier.

        Before there is a habit the most that the verifier can say is usual.
        """
        usual = MOST_ALIKE if habit.alike is None else habit.alike
        return replace(self, alike=alike, evidence=np.append(self.evidence, [bounded(looks, 8.0), alike - usual]))


def examine(
    peaks: NDArray[np.float64],
    chosen: int,
    refined: Refined,
    frame: Image,
    box: Box,
    last: Box,
    step: float,
    rate: float,
    habit: Habit,
) -> Found:
    """Gather the evidence for peak `chosen`.

    peaks: all of the window, see `kernels.decode_peaks`. refined: what became of it. box: the same, frame px; last:
    what it is compared with, frame px. step: how far it is from where it was expected, in target sizes. rate: see
    `Found`.
    """
    logit, agreement = bounded(float(peaks[chosen, 4]), 8.0), float(peaks[chosen, 6])
    others = np.delete(peaks[:, 4], chosen)
    margin = bounded(float(peaks[chosen, 4] - others.max()), 16.0) if len(others) else 16.0
    change = min(abs(math.log(box.w * box.h / (last.w * last.h))) / 2, 1.0)
    seen = colours(frame, box)
    likeness, quality = float(seen @ habit.colours), bounded(refined.quality, 8.0)
    unusual = 0.0 if habit.logit is None else logit - habit.logit
    recoloured = 0.0 if habit.likeness is None else likeness - habit.likeness
    evidence = np.array([logit, margin, agreement, quality, change, min(step, 2.0), unusual, recoloured])
    return Found(box, rate, evidence, logit, refined.patch, seen, likeness)


def colours(frame: Image, box: Box) -> NDArray[np.float64]:
    """(512,) square roots of the shares of 8 x 8 x 8 colours in the ellipse in `box` (frame px).

    The product of two is the Bhattacharyya coefficient in [0, 1], 1 for the same colours (Comaniciu et al.,
    Kernel-based object tracking, 2003, section 4).
    """
    scale_x, scale_y = _PATCH / box.w, _PATCH / box.h
    # cv2 puts pixel i at i, we put its centre at i + 0.5
    matrix = np.array([[scale_x, 0, scale_x * (0.5 - box.x) - 0.5], [0, scale_y, scale_y * (0.5 - box.y) - 0.5]])
    patch = cv2.warpAffine(frame, matrix, (_PATCH, _PATCH), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    bins = (patch[_INSIDE] >> 5).astype(np.int64) @ _BIN
    counts = np.bincount(bins, minlength=512)
    return np.sqrt(counts / counts.sum())


def bounded(value: float, most: float) -> float:
    """`value` within +- `most`."""
    return min(max(value, -most), most)


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite also for 0 and 1."""
    return math.log(max(p, 1e-6) / max(1 - p, 1e-6))
