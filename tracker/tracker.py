"""The tracker: an engine that looks, and a policy that decides. What is known of a target is held by the caller."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from tracker import graphs
from tracker.config import BoxTracking, ModelConfig, PyramidTracking
from tracker.crop import MOST_SIDE, Image
from tracker.engine import MIN_SIZE, Engine, keep_inside
from tracker.errors import CheckpointError, ConfigError, InputError, InputTypeError, OrderError
from tracker.geometry import Box, check_box
from tracker.loading import open_weights
from tracker.plain import PeakPolicy
from tracker.pyramid import PyramidPolicy
from tracker.runner import EngineName
from tracker.search import LEAST
from tracker.target import Result, Target, Track
from tracker.tracks import TrackPolicy

if TYPE_CHECKING:  # PyTorch is imported where it is used, which is not where graphs are
    from tracker.network import SiameseNet

MOST_MS = 1e6  # of a budget for an update

Policy = TrackPolicy | PeakPolicy | PyramidPolicy

__all__ = ["Result", "Target", "Tracker", "check_frame"]


class Tracker:
    """Follows targets, says when one is lost, and finds it again; holds no state but the target of the last `init`.

    States: tracking; uncertain (the box of the target stays, that of the result follows what may be it); lost (the
    whole frame is searched, too; the result is a mere guess). Weights without a `config.Confidence` (siamfc; your own
    before `siamtrack train calibrate`) follow whatever happens: always tracking, with a score that is no probability.

    net: it stays as it is; or as `graphs.open_network` opens it, which fixes engine and threads. device, engine,
    threads: see `backends.make_runner`. tracking: other constants than those that came with the net.
    budget_ms: of an update while targets are lost; what does not fit goes on in the next frame. None: a lost target
    costs four passes of the network, about four times as much as one that is tracked. Each target gets one pass
    whatever the budget is, and a lost one no less than four in its turn.
    Raises ValueError: a device or engine that is not there, constants of the other kind of network, no budget.
    """

    def __init__(
        self,
        net: SiameseNet | graphs.Opened,
        device: str = "auto",
        threads: int | None = None,
        tracking: PyramidTracking | BoxTracking | None = None,
        engine: EngineName = "auto",
        budget_ms: float | None = None,
    ) -> None:
        graphs.check_threads(threads)
        if budget_ms is not None and not (isinstance(budget_ms, Real) and 0 < budget_ms < MOST_MS):
            raise InputError(f"budget_ms must be above 0, and below {MOST_MS:g}; got {budget_ms!r}")
        if not hasattr(net, "config"):
            raise InputTypeError(f"Tracker takes a network, got {net!r:.80}; Tracker.load takes a name or a file")
        self.config = replace(net.config, tracking=tracking) if tracking else net.config
        if isinstance(net, graphs.Opened):
            net.check(device, threads, engine)
            runner, threads = net.runner, net.threads
        else:
            from tracker.backends import make_runner

            runner = make_runner(net, device, engine, threads)
        self.engine = Engine(runner, self.config)
        self.device, self.threads = self.engine.runner.device, threads
        self.weights: Path | None = None  # the file or folder that `load` took
        self.policy = choose_policy(self.engine, self.config)
        self.target: Target | None = None
        self.passes: int | None = None  # that an update may cost; None: as many as all targets ask for
        update_ms = self._warm_up()
        if budget_ms is not None:
            self.passes = int(budget_ms / update_ms)

    @classmethod
    def load(
        cls,
        weights: str | Path = "swift",
        device: str = "auto",
        threads: int | None = None,
        tracking: PyramidTracking | BoxTracking | None = None,
        engine: EngineName = "auto",
        budget_ms: float | None = None,
    ) -> Self:
        """A tracker from shipped weights (see `loading.weight_names`), a file, or a folder of `siamtrack export`.

        What is exported (the shipped swift and swift-nano are) runs without PyTorch, by the faster of ONNX Runtime and
        OpenVINO, see `fastest.fastest`.
        Raises ValueError: no such name or file, a broken file, a device that is not there. ImportError: PyTorch is
        needed and not installed.
        """
        path, net = open_weights(weights, device, threads, engine)
        try:
            tracker = cls(net, device, threads, tracking, engine, budget_ms)
        except ConfigError as error:
            raise CheckpointError(f"{path}: {error}") from None
        tracker.weights = path
        return tracker

    def init(self, frame: NDArray[np.uint8], box: Sequence[float]) -> Target:
        """Begin to follow what is in `box`, and make it the target of `update`.

        frame: (H, W, 3) uint8 BGR (grey and BGRA are converted). box: x, y, w, h, frame px, at least partly inside;
        one of less than `engine.MIN_SIZE` px is widened to it. Returns the new target: hold it to follow several.
        Raises ValueError or TypeError, see `check_frame`, `geometry.check_box`.
        """
        frame = check_frame(frame)
        height, width = frame.shape[:2]
        checked = check_box(box, width, height)
        checked = Box.from_centre(*checked.centre, max(checked.w, MIN_SIZE), max(checked.h, MIN_SIZE))
        target = Target(checked, self.engine.appearance(frame, checked), Track(checked), (width, height))
        self.policy.begin(frame, target)
        self.target = target
        return target

    def update(self, frame: NDArray[np.uint8], target: Target | None = None) -> Result:
        """Follow `target` (by default that of the last `init`) into `frame`; mutates the target.

        frame: as for `init`; its size may differ from the last one. One that shows the same at another size scales
        the target along; one that is too small for the target is not looked at: uncertain, and nothing is learnt.
        Raises RuntimeError before the first `init`.
        """
        target = self.target if target is None else target
        if target is None:
            raise OrderError("update before init: call init(frame, box) first")
        return self.update_all(frame, [target])[0]

    def update_all(self, frame: NDArray[np.uint8], targets: Iterable[Target]) -> list[Result]:
        """Follow many targets in one pass of the network; mutates each target. Returns a result for each.

        Raises TypeError: not targets. ValueError: targets of another network, or one twice.
        """
        frame, targets = check_frame(frame), self._check_targets(targets)
        if not targets:
            return []
        clock = self.engine.clock
        clock.restart()
        height, width = frame.shape[:2]
        fits = [k for k, target in enumerate(targets) if target.fit(width, height)]
        fits.sort(key=lambda k: targets[k].state == "lost")  # what others claim is known before they are looked for
        shown = [targets[k] for k in fits]
        shares = zip(shown, self._shares(shown), strict=True)
        asked = [(target.appearance, self.policy.windows(frame, target, passes)) for target, passes in shares]
        found = dict(zip(fits, self.policy.update(frame, shown, self.engine.look(frame, asked)), strict=True))
        results = [found[k] if k in found else _guess(target) for k, target in enumerate(targets)]
        clock.lap("post_ms")
        return [replace(result, box=_shown(result, frame), **clock.ms) for result in results]  # type: ignore[arg-type]

    def _check_targets(self, targets: Iterable[Target]) -> list[Target]:
        """A list of `targets`, each of which `init` of a tracker like this one has made."""
        if not isinstance(targets, Iterable):
            raise InputTypeError(f"targets are those that init returned, in a list; got {type(targets).__name__}")
        checked = list(targets)
        if len(set(map(id, checked))) < len(checked):
            raise InputError("a target was given twice; it is followed once a frame")
        for target in checked:
            if not isinstance(target, Target):
                raise InputTypeError(f"a target is what init returns; got {type(target).__name__}")
            if _kind(target) != self._kind:
                raise InputError(
                    "the target was made by a tracker with another network or engine; init it with this one"
                )
            if target.reference is None and isinstance(self.policy, TrackPolicy):
                raise InputError("the target was made by a tracker that was not calibrated; init it with this one")
        return checked

    def _shares(self, targets: Sequence[Target]) -> list[int]:
        """How many passes of the network each target may cost in this frame; mutates the targets.

        What is left goes to those lost ones that were served longest ago.
        """
        lost = [k for k, target in enumerate(targets) if target.state == "lost"]
        shares = [LEAST if target.state == "lost" else 1 for target in targets]
        if self.passes is None or not lost:
            return shares
        spare = self.passes - len(targets)
        served = min(len(lost), max(spare // (LEAST - 1), 1))
        latest = max(targets[k].served for k in lost)
        for turn, k in enumerate(sorted(lost, key=lambda k: targets[k].served)):
            shares[k] = 1
            if turn < served:
                shares[k] += max(spare // served, LEAST - 1)
                targets[k].served = latest + turn + 1
        return shares

    def _warm_up(self) -> float:
        """Run, so that the first frame does not pay for compilers and memory; the milliseconds of an update."""
        frame = np.zeros((64, 64, 3), np.uint8)
        target = self.init(frame, (16, 16, 32, 32))
        self._kind = _kind(target)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            self.update_all(frame, [target])
            times.append(1e3 * (time.perf_counter() - begin))
        self.target = None
        return min(times)


def _kind(target: Target) -> tuple[type, tuple[int, ...]]:
    """Type and shape of features: those of a network and its engine."""
    features = target.appearance.features
    return type(features), tuple(features.shape)


def _guess(target: Target) -> Result:
    """What is said of a target that the frame is too small for."""
    return Result(target.followed.box, 0.0, state="lost" if target.state == "lost" else "uncertain")


def _shown(result: Result, frame: Image) -> Box:
    """The box of a result; a guess may lie anywhere, and is brought into the frame."""
    return result.box if result.state == "tracking" else keep_inside(result.box, frame)


def choose_policy(engine: Engine, config: ModelConfig) -> Policy:
    """By the kind of map of a network, and whether its score was calibrated."""
    if isinstance(config.tracking, PyramidTracking):
        return PyramidPolicy(engine, config.tracking)
    if config.confidence is None:
        return PeakPolicy(engine, config.tracking)
    return TrackPolicy(engine, config.confidence)


def check_frame(frame: object) -> Image:
    """Return `frame` as (H, W, 3) uint8 BGR: grey (H, W), (H, W, 1) and BGRA (H, W, 4) frames are converted.

    Raises TypeError: not an array, or not uint8. ValueError: empty, or another shape.
    """
    if not isinstance(frame, np.ndarray):
        raise InputTypeError(f"frame must be a numpy array (H, W, 3) uint8 BGR; got {type(frame).__name__}")
    if frame.dtype != np.uint8:
        raise InputTypeError(f"frame must be uint8 in [0, 255]; got {frame.dtype} (scale it and use .astype(np.uint8))")
    if frame.size == 0:
        raise InputError(f"frame is empty: shape {frame.shape}")
    if frame.ndim == 2:
        frame = frame[:, :, None]
    if frame.ndim != 3 or frame.shape[2] not in (1, 3, 4):
        raise InputError(f"frame must be (H, W, 3) BGR, (H, W) grey or (H, W, 4) BGRA; got shape {frame.shape}")
    if max(frame.shape[:2]) > MOST_SIDE:
        raise InputError(f"frame has a side of more than {MOST_SIDE} px, which wants OpenCV 5: shape {frame.shape}")
    if frame.shape[2] == 1:
        frame = np.repeat(frame, 3, axis=2)
    return np.ascontiguousarray(frame[:, :, :3])
