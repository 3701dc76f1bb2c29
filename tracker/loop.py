"""The per-frame loop: crop, network, post-processing. State lives in `Target`, which the caller holds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from tracker.backends import Engine, make_runner
from tracker.config import BoxTracking, ModelConfig, PyramidTracking
from tracker.crop import Image, crop, mean_colour, stack_rgb
from tracker.geometry import Box, CropWindow, check_box, hann_window
from tracker.heads import Template
from tracker.kernels import cubic_weights, decode_peaks, pyramid_peak, warm_up
from tracker.network import SiameseNet, load_network, to_input

State = Literal["tracking", "uncertain", "lost"]
MIN_SIZE = 2.0  # frame px, smallest width and height that is tracked
MOST_STRETCH = 1.4  # the network's box of the first frame is taken to be off by this factor at most


@dataclass(eq=False)
class Target:
    """What is known of one target: the whole state of tracking it. `update` mutates it. Equal only to itself.

    box: x, y, w, h, frame px. template: features of the exemplar. fill: mean BGR of the first frame. stretch: (2,)
    factors on width and height of the network's boxes, see `ShortTermTracker.init`.
    """

    box: Box
    template: Template = field(repr=False)
    fill: tuple[float, float, float]
    stretch: NDArray[np.float32] = field(default_factory=lambda: np.ones(2, np.float32), repr=False)


class View(NamedTuple):
    """What the network says of one window of a frame.

    frame: (H, W, 3) uint8 BGR. logits: (h, w). box_map: (4, h, w) as stretched for the target, see `heads.Maps`; None
    when the network has no box head. levels: (1, C, h', w') each, features for the refiner.
    """

    frame: Image
    window: CropWindow
    logits: NDArray[np.float32]
    box_map: NDArray[np.float32] | None = None
    levels: tuple[NDArray[np.float32], ...] = ()

    def box(self, peak: NDArray[np.float64]) -> Box:
        """The box of a peak (see `kernels.decode_peaks`), frame px."""
        return self.window.to_frame(Box.from_centre(*peak[:4].tolist()))


class Refined(NamedTuple):
    """What the refiner makes of a peak.

    box: search px. quality: logit of it being right. patch: (1, 64, 16, 16) what is in and around the box of the peak.
    """

    box: Box
    quality: float
    patch: NDArray[np.float32]


@dataclass(frozen=True)
class Result:
    """Where a target is in one frame; false when it is lost.

    box: x, y, w, h, frame px; of a lost target a mere guess (the last good one is `Target.box`).
    score: [0, 1], the probability that the box is right (IoU of at least 0.5); of a `ShortTermTracker` only how sure
    the network is, which is too often 1. state: see `lost.Tracker`; a `ShortTermTracker` is always tracking.
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


def check_frame(frame: object) -> Image:
    """Return `frame` as (H, W, 3) uint8 BGR: grey (H, W), (H, W, 1) and BGRA (H, W, 4) frames are converted.

    Raises TypeError: not an array, or not uint8. ValueError: empty, or another shape.
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"frame must be a numpy array (H, W, 3) uint8 BGR; got {type(frame).__name__}")
    if frame.dtype != np.uint8:
        raise TypeError(f"frame must be uint8 in [0, 255]; got {frame.dtype} (scale it and use .astype(np.uint8))")
    if frame.size == 0:
        raise ValueError(f"frame is empty: shape {frame.shape}")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3, 4):
        raise ValueError(f"frame must be (H, W, 3) BGR, (H, W) grey or (H, W, 4) BGRA; got shape {frame.shape}")
    if frame.shape[2] == 1:
        frame = np.repeat(frame, 3, axis=2)
    return np.ascontiguousarray(frame[:, :, :3])


class Clock:
    """Sums wall-clock milliseconds by stage."""

    def __init__(self) -> None:
        self.ms = {"crop_ms": 0.0, "network_ms": 0.0, "post_ms": 0.0}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Charge the time since the last lap to `stage`."""
        now = time.perf_counter()
        self.ms[stage] += 1e3 * (now - self._last)
        self._last = now

    def stamp(self, results: Sequence[Result]) -> list[Result]:
        """Charge the rest to post-processing and write all times into the results."""
        self.lap("post_ms")
        return [replace(r, **self.ms) for r in results]  # type: ignore[arg-type]


class ShortTermTracker:
    """Follows targets with one network, whatever happens; holds no state but the target of the last `init`.

    net: in evaluation mode. device: "auto" (cuda, then mps, then cpu), or any of them. threads: CPU threads of PyTorch
    for the whole process; None leaves them as they are. tracking: other constants than those that came with the net.
    engine: see `backends.make_runner`.
    Raises ValueError: a device or engine that is not there, constants of the other kind of network.
    """

    def __init__(
        self,
        net: SiameseNet,
        device: str = "auto",
        threads: int | None = 1,
        tracking: PyramidTracking | BoxTracking | None = None,
        engine: Engine = "auto",
    ) -> None:
        if threads is not None:
            if threads < 1:
                raise ValueError(f"threads must be at least 1; got {threads}")
            torch.set_num_threads(threads)
        self.config: ModelConfig = replace(net.config, tracking=tracking) if tracking else net.config
        self.device = pick_device(device)
        self.grid = net.grid
        self.target: Target | None = None
        self._net = net.to(self.device).eval()
        self._runner = make_runner(self._net, self.device, engine, threads)
        tracking = self.config.tracking
        if isinstance(tracking, PyramidTracking):
            fine = self.grid.cells * tracking.upsample
            window = hann_window(fine)
            self._window = window / window.sum()
            self._cubic = cubic_weights(self.grid.cells, tracking.upsample)
            offsets = np.arange(tracking.num_scales) - (tracking.num_scales - 1) / 2
            self._scales: list[float] = (tracking.scale_step**offsets).tolist()
        else:
            self._window = hann_window(self.grid.cells)
            self._scales = [1.0]
        warm_up()
        self._warm_up_network()

    @classmethod
    def load(
        cls,
        weights: str | Path = "swift",
        device: str = "auto",
        threads: int | None = 1,
        tracking: PyramidTracking | BoxTracking | None = None,
        engine: Engine = "auto",
    ) -> Self:
        """A tracker from shipped weights (a name, see `weight_names`) or from a weight file.

        Raises ValueError: no such name or file, a broken file, a device that is not there.
        """
        name = str(weights)
        if name in weight_names():
            path = Path(str(files("tracker") / "weights" / f"{name}.safetensors"))
        elif Path(name).is_file():
            path = Path(name)
        else:
            raise ValueError(f"no weights {name!r}: neither a file nor one of {', '.join(weight_names())}")
        return cls(load_network(path), device, threads, tracking, engine)

    def init(self, frame: NDArray[np.uint8], box: Sequence[float]) -> Target:
        """Begin to follow what is in `box`, and make it the target of `update`.

        frame: (H, W, 3) uint8 BGR (grey and BGRA are converted). box: x, y, w, h, frame px, at least partly inside.
        Some draw boxes tightly, others with a margin, or without the arms. Here the box is known, so what the network
        makes of it tells: half of the difference in size is taken for the way of who drew it, half for an error.
        Returns the new target: hold it to follow several. Raises ValueError or TypeError: see `check_frame`,
        `geometry.check_box`.
        """
        frame = check_frame(frame)
        checked = check_box(box, frame.shape[1], frame.shape[0])
        fill = mean_colour(frame)
        self.target = target = Target(checked, self._template(frame, checked, fill), fill)
        if isinstance(self.config.tracking, BoxTracking):
            view = self._look_once(frame, target, self._search_windows(checked)[0], Clock())
            given = view.window.to_crop(checked)
            found = self._peaks(view, checked, 1)[0]
            ratio = np.clip((given.w, given.h) / found[2:4], 1 / MOST_STRETCH, MOST_STRETCH)
            target.stretch = np.sqrt(ratio).astype(np.float32)
        return target

    def _template(self, frame: Image, box: Box, fill: tuple[float, float, float]) -> Template:
        """The template of what is in `box`, frame px."""
        window = self.config.exemplar_window(box)
        extent = np.array([[box.w / window.w, box.h / window.h]], np.float32)
        with torch.no_grad():
            exemplar = to_input(stack_rgb([crop(frame, window, fill)]), self.device)
            return self._net.embed(exemplar, torch.from_numpy(extent).to(self.device))

    def update(self, frame: NDArray[np.uint8], target: Target | None = None) -> Result:
        """Follow `target` (by default that of the last `init`) into `frame`; mutates the target.

        frame: as for `init`; its size may differ from the last one. Raises RuntimeError before the first `init`.
        """
        target = self.target if target is None else target
        if target is None:
            raise RuntimeError("update before init: call init(frame, box) first")
        return self.update_all(frame, [target])[0]

    def update_all(self, frame: NDArray[np.uint8], targets: Iterable[Target]) -> list[Result]:
        """Follow many targets in one pass of the network; mutates each target. Returns a result for each.

        Raises TypeError: not targets. ValueError: targets of another network.
        """
        frame, targets = check_frame(frame), self._check_targets(targets)
        if not targets:
            return []
        clock = Clock()
        seen = self._look(frame, [(target, self._search_windows(target.box)) for target in targets], clock)
        height, width = frame.shape[:2]
        found = []
        for target, views in zip(targets, seen, strict=True):
            box, score = self._read(target, views)
            target.box = keep_inside(box, width, height)
            found.append(Result(target.box, score))
        return clock.stamp(found)

    def _check_targets(self, targets: Iterable[Target]) -> list[Target]:
        """A list of `targets`, each of which `init` of a tracker with such a network has made."""
        checked = list(targets)
        for target in checked:
            if not isinstance(target, Target):
                raise TypeError(f"a target is what init returns; got {type(target).__name__}")
            if target.template.features.shape != self._template_shape:
                raise ValueError("the target was made by a tracker with another network; init it with this one")
        return checked

    def _search_windows(self, box: Box) -> list[CropWindow]:
        """What to search: a window around the last position, once for each scale."""
        return [self.config.search_window(box, scale) for scale in self._scales]

    def _look(
        self, frame: Image, asked: Sequence[tuple[Target, Sequence[CropWindow]]], clock: Clock
    ) -> list[list[View]]:
        """Look for each target in each of its windows, by one pass of the network; the views in the same order."""
        crops = stack_rgb([crop(frame, window, target.fill) for target, windows in asked for window in windows])
        clock.lap("crop_ms")
        owners = [target for target, windows in asked for _ in windows]
        maps = self._forward([target.template for target in owners], crops)
        if len(maps) > 1:
            maps = maps[0], stretched(maps[1], np.stack([target.stretch for target in owners])), *maps[2:]
        clock.lap("network_ms")
        rows = iter(range(len(owners)))

        def view(window: CropWindow) -> View:
            row = next(rows)
            if len(maps) == 1:
                return View(frame, window, maps[0][row])
            return View(frame, window, maps[0][row], maps[1][row], tuple(m[row : row + 1] for m in maps[2:]))

        return [[view(window) for window in windows] for _, windows in asked]

    def _look_once(self, frame: Image, target: Target, window: CropWindow, clock: Clock) -> View:
        return self._look(frame, [(target, [window])], clock)[0][0]

    def _forward(self, templates: Sequence[Template], crops: Image) -> tuple[NDArray[np.float32], ...]:
        """Maps of N crops, each with its template: logits (N, H, W); of swift box_map (N, 4, H, W) and levels, too."""
        template = templates[0] if len(crops) == 1 else Template(*(torch.cat(t) for t in zip(*templates, strict=True)))
        return self._runner.compare(template, to_input(crops, self.device))

    def _peaks(
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
            view.logits, view.box_map, self._window, self.grid.first, float(self.grid.stride),
            expected.w, expected.h, penalty_k, influence, count,
        )  # fmt: skip

    def _refine(self, target: Target, view: View, peak: NDArray[np.float64]) -> Refined:
        """The box of a peak after a closer look."""
        tracking = self.config.tracking
        assert isinstance(tracking, BoxTracking)
        box = peak[None, :4].astype(np.float32)
        seen = self._runner.look(view.levels, box)
        better = self._runner.refine(target.template.patch.cpu().numpy(), seen, box)[0].astype(np.float64)
        moved = better[:4] - peak[:4]
        return Refined(Box.from_centre(*(peak[:4] + tracking.refine * moved).tolist()), float(better[4]), seen)

    def _read(self, target: Target, views: list[View]) -> tuple[Box, float]:
        """The new box (frame px) and score of one target."""
        tracking, box = self.config.tracking, target.box
        if isinstance(tracking, PyramidTracking):
            response = np.stack([view.logits for view in views])
            scale, dx, dy, peak = pyramid_peak(
                response, self._window, *self._cubic, float(self.grid.stride), tracking.upsample,
                tracking.scale_penalty, tracking.window_influence,
            )  # fmt: skip
            across, down = views[scale].window.scale
            cx, cy = box.centre[0] + dx / across, box.centre[1] + dy / down
            grow = 1 + tracking.size_lr * (self._scales[scale] - 1)
            return Box.from_centre(cx, cy, box.w * grow, box.h * grow), (1 + math.tanh(peak / 2)) / 2
        view = views[0]
        last = view.window.to_crop(box)
        peak = self._peaks(view, box, 1)[0]
        found = self._refine(target, view, peak).box
        score = (1 + math.tanh(peak[4] / 2)) / 2
        rate = tracking.size_lr * score * float(peak[5])
        w, h = last.w + rate * (found.w - last.w), last.h + rate * (found.h - last.h)
        return view.window.to_frame(Box.from_centre(*found.centre, w, h)), score

    def _warm_up_network(self) -> None:
        """Run once, so that the first frame does not pay for memory and code paths."""
        frame = np.zeros((64, 64, 3), np.uint8)
        target = self.init(frame, (16, 16, 32, 32))
        self._template_shape = target.template.features.shape
        for _ in range(3):
            self.update_all(frame, [target])
        self.target = None


def stretched(box_map: NDArray[np.float32], factors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes with other sizes about their centres. box_map: (N, 4, H, W), see `decode_peaks`. factors: (N, 2)."""
    more = (box_map[:, :2] + box_map[:, 2:]) * ((factors - 1) / 2)[:, :, None, None]
    return box_map + np.concatenate([more, more], axis=1)


def keep_inside(box: Box, frame_w: int, frame_h: int) -> Box:
    """`box` with its centre in the frame and its size between `MIN_SIZE` and the frame's."""
    cx, cy = min(max(box.centre[0], 0.0), frame_w), min(max(box.centre[1], 0.0), frame_h)
    w, h = min(max(box.w, MIN_SIZE), frame_w), min(max(box.h, MIN_SIZE), frame_h)
    return Box.from_centre(cx, cy, w, h)


def pick_device(name: str) -> torch.device:
    """The torch device called `name`; "auto" takes cuda, then mps, then cpu. Raises ValueError: not there."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, ok in there.items() if ok))
    if not there.get(name.split(":")[0], False):
        raise ValueError(f"no device {name!r} here; there is {', '.join(k for k, ok in there.items() if ok)}, or auto")
    return torch.device(name)


def weight_names() -> list[str]:
    """Names of the trackers' weights that come with the package."""
    folder = files("tracker") / "weights"
    names = {f.name.removesuffix(".safetensors") for f in folder.iterdir() if f.name.endswith(".safetensors")}
    return sorted(names - {"verifier"})  # a network of similarity.py, which lost.py uses
