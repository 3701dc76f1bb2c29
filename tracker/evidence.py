"""What speaks for a box: the evidence of one frame, and the probability that `config.Confidence` makes of it.

What a good logit is differs from target to target, and networks know their training footage best. So a box is also
judged by the reference of its own target: how far is this frame from what is usual?
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.config import BoxTracking, Confidence, LongTerm
from tracker.crop import Image
from tracker.engine import Appearance, Engine, Refined, View, keep_inside
from tracker.errors import ConfigError
from tracker.geometry import Box, bounded, sigmoid
from tracker.kernels import colour_shares
from tracker.target import EVIDENCE, VERIFIED, Found, Reference, Target

_PATCH = 24  # px, side of the patch whose colours are counted
_Y, _X = np.mgrid[:_PATCH, :_PATCH] - (_PATCH - 1) / 2
_INSIDE = (_X**2 + _Y**2) <= 0.8 * (_PATCH / 2) ** 2  # the corners of a box show what is behind the target


class Judge:
    """Says how probable it is that a box is right."""

    def __init__(self, engine: Engine, confidence: Confidence) -> None:
        self.engine, self.confidence, self.rules = engine, confidence, confidence.rules or LongTerm()
        for name, wanted in (("following", EVIDENCE), ("verified", VERIFIED)):
            given = len(getattr(confidence, name).weights)
            if given != len(wanted):
                raise ConfigError(f"confidence.{name}: {given} weights for {len(wanted)} kinds of evidence")

    def reference(self, frame: Image, box: Box, sought: Appearance) -> Reference:
        """Of a target that was seen once, in `box`, frame px."""
        return Reference(colours(frame, box), sought.patch)

    def examine(
        self, target: Target, last: Box, asked: Sequence[tuple[View, NDArray[np.float64], int, float]]
    ) -> list[Found]:
        """Gather the evidence for peaks of the views of one look, by one closer look at all.

        last: see `examine`. asked: view, all its peaks, which of them is meant, and its step.
        """
        tracking, reference = self.engine.config.tracking, target.reference
        assert reference and isinstance(tracking, BoxTracking)
        looks = self.engine.refine(target.appearance, [(view, peaks[k]) for view, peaks, k, _ in asked])
        found = []
        for (view, peaks, k, step), look in zip(asked, looks, strict=True):
            rate = tracking.size_lr * sigmoid(peaks[k, 4]) * float(peaks[k, 5])
            inside = look._replace(box=keep_inside(look.box, view.frame))
            found.append(examine(peaks, k, inside, view.frame, last, step, rate, reference))
        return found

    def verify(self, target: Target, found: Found) -> Found:
        """Ask the refiner once more: does it look as the target lately did, which may have changed?"""
        assert target.reference
        (looks,) = self.engine.likenesses([target.reference.patch], found.patch)
        return replace(found, evidence=np.append(found.evidence, bounded(looks, 8.0)))

    def score(self, found: Found) -> float:
        """The probability that a box is right, as every `Result` tells it."""
        return self.confidence.following.probability(found.evidence[: len(EVIDENCE)])

    def odds(self, found: Found) -> float:
        """The log-odds that a verified box is the target's."""
        return log_odds(self.confidence.verified.probability(found.evidence))


def examine(
    peaks: NDArray[np.float64],
    chosen: int,
    refined: Refined,
    frame: Image,
    last: Box,
    step: float,
    rate: float,
    reference: Reference,
) -> Found:
    """Gather the evidence for peak `chosen`.

    peaks: all of the view, see `kernels.decode_peaks`. refined: what became of it. last: what it is compared with,
    frame px. step: how far it is from where it was expected, in target sizes. rate: see `Found`.
    """
    box = refined.box
    logit, agreement = bounded(float(peaks[chosen, 4]), 8.0), float(peaks[chosen, 6])
    other = max((logit for k, logit in enumerate(peaks[:, 4].tolist()) if k != chosen), default=-math.inf)
    margin = bounded(float(peaks[chosen, 4]) - other, 16.0)
    change = min(abs(math.log(box.w * box.h / (last.w * last.h))) / 2, 1.0)
    seen = colours(frame, box)
    likeness, quality = float(seen @ reference.colours), bounded(refined.quality, 8.0)
    unusual = 0.0 if reference.logit is None else logit - reference.logit
    recoloured = 0.0 if reference.likeness is None else likeness - reference.likeness
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
    return np.sqrt(colour_shares(patch, _INSIDE))


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite also for 0 and 1."""
    return math.log(max(p, 1e-6) / max(1 - p, 1e-6))
