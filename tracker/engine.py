"""The engine: it cuts windows out of a frame, runs the network on them, and reads what it says. No policy, no state."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracker.config import BoxTracking, ModelConfig
from tracker.crop import Image, crop, mean_colour, stack_rgb
from tracker.geometry import Box, CropWindow, hann_window
from tracker.kernels import decode_peaks, stretched
from tracker.runner import Features, Levels, Runner

MIN_SIZE = 2.0  # frame px, smallest width and height that is tracked
MOST_STRETCH = 1.4  # the network's box of the first frame is taken to be off by this factor at most
NOT_STRETCHED = np.ones(2, np.float32)


class Appearance(NamedTuple):
    """What the engine looks for.

    features: of the exemplar, see `runner.Runner`. patch: (1, 64, 16, 16) how it looked to the refiner, (1, 0) where
    there is none. fill: BGR that crops show outside the frame. stretch: (2,) factors on width and height of the
    network's boxes, see `Engine.appearance`.
    """

    features: Features
    patch: NDArray[np.float32]
    fill: tuple[float, float, float]
    stretch: NDArray[np.float32] = NOT_STRETCHED


class View(NamedTuple):
    """What the network says of one window of a frame.

    frame: (H, W, 3) uint8 BGR. logits: (h, w). box_map: (4, h, w) as stretched for the target, see `heads.Maps`; None
    when the network has no box head. levels, row: features for the refiner, and which row of them is of this window.
    """

    frame: Image
    window: CropWindow
    logits: NDArray[np.float32]
    box_map: NDArray[np.float32] | None = None
    levels: Levels = None
    row: int = 0

    def box(self, peak: NDArray[np.float64]) -> Box:
        """The box of a peak (see `kernels.decode_peaks`), frame px."""
        return self.window.to_frame(Box.from_centre(*peak[:4].tolist()))


class Refined(NamedTuple):
    """What the refiner makes of a peak.

    box: frame px. quality: logit of it being right. patch: (1, 64, 16, 16) what is in and around the box of the peak.
    """

    box: Box
    quality: float
    patch: NDArray[np.float32]


class Clock:
    """Sums wall-clock milliseconds by stage."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget what was charged, and begin now."""
        self.ms = {"crop_ms": 0.0, "network_ms": 0.0, "post_ms": 0.0}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Charge the time since the last lap to `stage`."""
        now = time.perf_counter()
        self.ms[stage] += 1e3 * (now - self._last)
        self._last = now


class Engine:
    """A network that is ready to look for things. runner: see `backends.make_runner`."""

    def __init__(self, runner: Runner, config: ModelConfig) -> None:
        self.runner, self.config, self.grid = runner, config, runner.grid
        self.clock = Clock()  # of the frame that is worked on
        self._hann = hann_window(self.grid.cells)

    def appearance(self, frame: Image, box: Box) -> Appearance:
        """What is in `box`, frame px, as something to look for.

        Some draw boxes tightly, others with a margin. Here the box is known, so what the network makes of it tells:
        half of the difference in size is taken for the way of who drew it, half for an error.
        """
        found = self.exemplar(frame, box, mean_colour(frame))
        if not isinstance(self.config.tracking, BoxTracking):
            return found
        view = self.look_once(frame, found, self.config.search_window(box))
        given, seen = view.window.to_crop(box), self.peaks(view, box, 1)[0]
        ratio = np.clip((given.w, given.h) / seen[2:4], 1 / MOST_STRETCH, MOST_STRETCH)
        return found._replace(stretch=np.sqrt(ratio).astype(np.float32))

    def exemplar(self, frame: Image, box: Box, fill: tuple[float, float, float]) -> Appearance:
        """The same, with the boxes of the network as they are."""
        self.clock.lap("post_ms")
        window = self.config.exemplar_window(box)
        extent = np.array([[box.w / window.w, box.h / window.h]], np.float32)
        (features,), patches = self.runner.embed(stack_rgb([crop(frame, window, fill)]), extent)
        self.clock.lap("network_ms")
        return Appearance(features, patches, fill)

    def look(self, frame: Image, asked: Sequence[tuple[Appearance, Sequence[CropWindow]]]) -> Iterator[list[View]]:
        """Look for each appearance in each of its windows; the views of each in the same order.

        As many as the runner takes at once share a call, which runs when the first of them is asked for; memory of
        those before may be freed by then.
        """
        most = self.runner.most or max(len(asked), 1)
        for first in range(0, len(asked), most):
            yield from self._look(frame, asked[first : first + most])

    def _look(self, frame: Image, asked: Sequence[tuple[Appearance, Sequence[CropWindow]]]) -> list[list[View]]:
        self.clock.lap("post_ms")
        crops = stack_rgb([crop(frame, window, one.fill) for one, windows in asked for window in windows])
        self.clock.lap("crop_ms")
        owners = [one for one, windows in asked for _ in windows]
        logits, sides, levels = self.runner.compare([one.features for one in owners], crops)
        if sides is not None:
            factors = [one.stretch for one in owners]
            sides = stretched(sides, factors[0][None] if len(factors) == 1 else np.stack(factors))
        self.clock.lap("network_ms")
        rows = iter(range(len(owners)))

        def view(window: CropWindow) -> View:
            row = next(rows)
            return View(frame, window, logits[row], None if sides is None else sides[row], levels, row)

        return [[view(window) for window in windows] for _, windows in asked]

    def look_once(self, frame: Image, sought: Appearance, window: CropWindow) -> View:
        """Look for one appearance in one window."""
        ((view,),) = self.look(frame, [(sought, [window])])
        return view

    def peaks(
        self,
        view: View,
        last: Box,
        count: int,
        penalty_k: float | None = None,
        window_influence: float | None = None,
    ) -> NDArray[np.float64]:
        """The `count` best peaks of a view, see `decode_peaks`. last: frame px. None: the config's constants."""
        tracking, expected = self.config.tracking, view.window.to_crop(last)
        assert isinstance(tracking, BoxTracking) and view.box_map is not None
        penalty_k = tracking.penalty_k if penalty_k is None else penalty_k
        influence = tracking.window_influence if window_influence is None else window_influence
        return decode_peaks(
            view.logits, view.box_map, self._hann, self.grid.first, float(self.grid.stride),
            expected.w, expected.h, penalty_k, influence, count,
        )  # fmt: skip

    def refine(self, sought: Appearance, places: Sequence[tuple[View, NDArray[np.float64]]]) -> list[Refined]:
        """The boxes of peaks after a closer look, all at once.

        places: views of one call of `look`, and the peak in each.
        """
        tracking = self.config.tracking
        assert isinstance(tracking, BoxTracking)
        boxes = np.array([peak[:4] for _, peak in places])
        given = boxes.astype(np.float32)
        seen = self.runner.patches(places[0][0].levels, [view.row for view, _ in places], given)
        known = sought.patch if len(places) == 1 else np.repeat(sought.patch, len(places), 0)
        better = self.runner.refine(known, seen, given).astype(np.float64)
        moved = boxes + tracking.refine * (better[:, :4] - boxes)
        # each for itself: one that is kept does not hold the others
        patches = [seen] if len(places) == 1 else [one[None].copy() for one in seen]
        return [Refined(view.box(moved[k]), float(better[k, 4]), patches[k]) for k, (view, _) in enumerate(places)]

    def likenesses(self, known: Sequence[NDArray[np.float32]], seen: NDArray[np.float32]) -> list[float]:
        """The refiner's logit for each of the patches `known` that `seen` shows the same thing, wherever they are."""
        count = len(known)
        boxes = np.zeros((count, 4), np.float32)
        answers = self.runner.refine(np.concatenate(known), np.repeat(seen, count, 0), boxes)
        return [float(answer) for answer in answers[:, 4]]


def keep_inside(box: Box, frame: Image) -> Box:
    """`box` with its centre in the frame and its size between `MIN_SIZE` and the frame's."""
    height, width = frame.shape[:2]
    cx, cy = min(max(box.centre[0], 0.0), width), min(max(box.centre[1], 0.0), height)
    return Box.from_centre(cx, cy, min(max(box.w, MIN_SIZE), width), min(max(box.h, MIN_SIZE), height))
