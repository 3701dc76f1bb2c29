"""The tracker that knows: a score that is a probability, the states tracking, uncertain and lost, and the way back.

Built around the per-frame loop of `loop.py`. In every frame the evidence for the found box becomes a probability that
it is right (`Confidence`). While that is low the position is held; when it stays low the target is lost, and from then
on the surroundings and then the whole frame are searched, a few windows a frame. A candidate is taken for the target
only when it convinces twice in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker.config import BoxTracking, LongTerm
from tracker.crop import Image, crop
from tracker.geometry import Box, CropWindow, context_side, iou
from tracker.kernels import decode_peaks
from tracker.loop import Clock, Result, ShortTermTracker, State, Target, check_frame, keep_inside
from tracker.similarity import SimilarityNet, load_similarity, to_pixels

__all__ = ["EVIDENCE", "KnownTarget", "Result", "Target", "Tracker"]

PEAKS = 4  # of a score map that are looked at
EVIDENCE = ("logit", "margin", "agreement", "change", "step", "first", "memory")


@dataclass
class KnownTarget(Target):
    """A target and what is known of its fate. Mutated by `update`.

    first: (1, D) embedding of the first frame's patch. memory: those of patches that were sure, oldest first.
    state: of the last frame. doubts: frames in a row that did not convince. calm: frames since the memory grew.
    rivals: look-alikes that are followed beside the target. scan: where the search of the whole frame goes on.
    trial: a candidate that convinced once. seen: what was found in the last frame, convincing or not.
    """

    first: Tensor = field(default_factory=lambda: torch.zeros(1, 0))
    memory: list[Tensor] = field(default_factory=list)
    state: State = "tracking"
    doubts: int = 0
    calm: int = 0
    rivals: list[Rival] = field(default_factory=list)
    scan: int = 0
    trial: Box | None = None
    seen: Found | None = None


@dataclass(frozen=True)
class Rival:
    """A second peak that is followed: its box (frame px), for how many frames, and since when it is out of sight."""

    box: Box
    age: int = 1
    missed: int = 0


@dataclass(frozen=True)
class Found:
    """What was found in one window.

    box: frame px. evidence: (7,) for it, see `EVIDENCE`. embedding: (1, D) of its patch. rate: [0, 1], how far the size
    of the target may follow it.
    """

    box: Box
    evidence: NDArray[np.float64]
    embedding: Tensor
    rate: float


class Tracker(ShortTermTracker):
    """Follows targets, says when one is lost, and finds it again; see `ShortTermTracker` for the arguments.

    With weights that come without a `Confidence` (siamfc; your own before `python -m train calibrate`) it is no more
    than a `ShortTermTracker`: always tracking, with a score that is no probability.

    states: tracking; uncertain (the box does not convince: it stays where it was, with its size, and a wider window is
    searched); lost (`LongTerm.patience` uncertain frames in a row: the whole frame is searched).
    """

    long_term = LongTerm()  # may be replaced on an instance
    verifier: SimilarityNet

    def _warm_up_network(self) -> None:
        if self._knows:
            self.verifier = load_similarity(Path(str(files("tracker") / "weights" / "verifier.safetensors")))
        super()._warm_up_network()

    @property
    def _knows(self) -> bool:
        return self.config.confidence is not None and isinstance(self.config.tracking, BoxTracking)

    def init(self, frame: NDArray[np.uint8], box: Sequence[float]) -> Target:
        """As `ShortTermTracker.init`."""
        target = super().init(frame, box)
        if self._knows:
            first = self._embed(check_frame(frame), target.box, target.fill)
            target = self.target = KnownTarget(target.box, target.template, target.fill, first)
        return target

    def update_all(self, frame: NDArray[np.uint8], targets: Sequence[Target]) -> list[Result]:
        """As `ShortTermTracker.update_all`, with states."""
        known = [t for t in targets if isinstance(t, KnownTarget)]
        if not self._knows or len(known) < len(targets):
            return super().update_all(frame, targets)
        frame = check_frame(frame)
        if not known:
            return []
        clock = Clock()
        groups = [list(self._where_to_look(target, frame)) for target in known]
        maps = self._look(frame, known, groups, clock)
        found, low = [], 0
        for target, group in zip(known, groups, strict=True):
            own = tuple(m[low : low + len(group)] for m in maps)
            low += len(group)
            if target.state == "lost":
                found.append(self._recover(frame, target, group, own, clock))
            else:
                found.append(self._follow(frame, target, group[0], own))
        return clock.stamp(found)

    # --- following

    def _where_to_look(self, target: KnownTarget, frame: Image) -> Iterator[CropWindow]:
        """The windows to search for a target in this frame."""
        cfg, rules = self.config, self.long_term
        side = self._side(target.box) * cfg.search_size / cfg.exemplar_size
        if target.state != "lost":
            side *= min(rules.widest, rules.widening**target.doubts)
            yield CropWindow.around(*target.box.centre, side, cfg.search_size)
            return
        if target.trial:
            trial = self._side(target.trial) * cfg.search_size / cfg.exemplar_size
            yield CropWindow.around(*target.trial.centre, trial, cfg.search_size)
        yield CropWindow.around(*target.box.centre, side, cfg.search_size)
        tiles = whole_frame(target.box, side * rules.widest, frame.shape[1], frame.shape[0])
        for k in range(rules.windows):
            cx, cy = tiles[(target.scan + k) % len(tiles)]
            yield CropWindow.around(cx, cy, side * rules.widest, cfg.search_size)
        target.scan = (target.scan + rules.windows) % len(tiles)

    def _peaks(
        self, maps: tuple[NDArray[np.float32], ...], row: int, last: Box, tracking: BoxTracking | None
    ) -> NDArray[np.float64]:
        """Peaks of one window, see `decode_peaks`. last: search px. tracking: None for no penalty and no window."""
        penalty, influence = (tracking.penalty_k, tracking.window_influence) if tracking else (0.0, 0.0)
        stride = float(self.grid.stride)
        return decode_peaks(
            maps[0][row], maps[1][row], self._window, self.grid.first, stride, last.w, last.h, penalty, influence, PEAKS
        )

    def _examine(
        self,
        frame: Image,
        target: KnownTarget,
        window: CropWindow,
        peaks: NDArray[np.float64],
        chosen: int,
        step: float,
    ) -> Found:
        """Gather the evidence for peak `chosen`. step: how far it is from where it was expected, in target sizes."""
        cx, cy, w, h, logit, penalty, agreement = peaks[chosen].tolist()
        box = window.to_frame(Box.from_centre(cx, cy, w, h))
        others = np.delete(peaks[:, 4], chosen)
        second = float(others.max()) if len(others) else -8.0
        change = abs(math.log(box.w * box.h / (target.box.w * target.box.h))) / 2
        box = keep_inside(box, frame.shape[1], frame.shape[0])
        embedding = self._embed(frame, box, target.fill)
        first, *rest = self._alike(embedding, [target.first, *target.memory])
        memory = max([first, *rest])
        clipped = min(max(logit, -8.0), 8.0)
        margin = min(max(logit - second, -8.0), 16.0)
        evidence = np.array([clipped, margin, agreement, min(change, 1.0), min(step, 2.0), first, memory])
        score = (1 + math.tanh(logit / 2)) / 2
        assert isinstance(self.config.tracking, BoxTracking)
        return Found(box, evidence, embedding, self.config.tracking.size_lr * score * penalty)

    def _embed(self, frame: Image, box: Box, fill: tuple[float, float, float]) -> Tensor:
        """(1, D) embedding of the patch in `box`."""
        cfg = self.verifier.config
        window = CropWindow.around(*box.centre, context_side(box.w, box.h, cfg.context_amount), cfg.size)
        with torch.inference_mode():
            return self.verifier.embed(to_pixels(crop(frame, window, fill), cfg))

    def _alike(self, embedding: Tensor, references: Sequence[Tensor]) -> list[float]:
        """What the verifier says of a patch and each reference: raw scores in [-8, 8]."""
        with torch.inference_mode():
            scores = self.verifier.join(embedding.expand(len(references), -1), torch.cat(list(references)))
        return scores.clamp(-8, 8).tolist()

    def probability(self, evidence: NDArray[np.float64]) -> float:
        """Probability in [0, 1] that a box with this evidence is right. evidence: (7,), see `EVIDENCE`."""
        confidence = self.config.confidence
        assert confidence is not None
        return confidence.probability(evidence)

    def _follow(
        self, frame: Image, target: KnownTarget, window: CropWindow, maps: tuple[NDArray[np.float32], ...]
    ) -> Result:
        """One frame of a target that is in view; mutates it."""
        tracking, rules = self.config.tracking, self.long_term
        assert isinstance(tracking, BoxTracking)
        last = window.to_crop(target.box)
        peaks = self._peaks(maps, 0, last, tracking)
        chosen = self._choose(target, window, peaks)
        centre = peaks[chosen, :2] - np.array(last.centre)
        found = self._examine(
            frame, target, window, peaks, chosen, float(np.hypot(*centre)) / math.sqrt(last.w * last.h)
        )
        p = self.probability(found.evidence)
        target.seen = found
        self._follow_rivals(target, window, peaks, chosen)
        if p >= rules.sure or (target.state == "tracking" and p >= rules.doubtful):
            target.state, target.doubts = "tracking", 0
            w = target.box.w + found.rate * (found.box.w - target.box.w)
            h = target.box.h + found.rate * (found.box.h - target.box.h)
            target.box = keep_inside(Box.from_centre(*found.box.centre, w, h), frame.shape[1], frame.shape[0])
            target.calm += 1
            if p >= rules.remember and not target.rivals and target.calm >= rules.every:
                self.remember(target, found)
        else:
            target.doubts += 1
            target.state = "lost" if target.doubts >= rules.patience else "uncertain"
            target.scan, target.trial = 0, None
        return Result(target.box, p, target.state)

    def remember(self, target: KnownTarget, found: Found) -> None:
        """Add a patch to the memory of a target; mutates it. The first frame's never fades, the oldest other does."""
        target.calm = 0
        target.memory = [*target.memory, found.embedding][-self.long_term.memory :]

    # --- rivals

    def _choose(self, target: KnownTarget, window: CropWindow, peaks: NDArray[np.float64]) -> int:
        """The peak that is the target: the best one that no rival has a better claim to."""
        if not target.rivals or len(peaks) < 2:
            return 0
        boxes = np.array([window.to_frame(Box.from_centre(*p[:4])) for p in peaks])
        own = iou(boxes, np.array(target.box))
        for k in range(len(peaks)):
            if peaks[k, 4] < peaks[0, 4] - self.long_term.rival_logit:
                break
            claim = max(float(iou(boxes[k], np.array(r.box))) for r in target.rivals if r.age > 2 or k == 0)
            if own[k] >= claim or claim < 0.3:
                return k
        return 0

    def _follow_rivals(self, target: KnownTarget, window: CropWindow, peaks: NDArray[np.float64], chosen: int) -> None:
        """Match the other peaks with the rivals; mutates the target."""
        seen = []
        for k in range(len(peaks)):
            if k != chosen and peaks[k, 4] > self.long_term.rival_least:
                seen.append(window.to_frame(Box.from_centre(*peaks[k, :4].tolist())))
        kept = []
        for rival in target.rivals:
            overlaps = [float(iou(np.array(box), np.array(rival.box))) for box in seen]
            if overlaps and max(overlaps) > 0.3:
                kept.append(Rival(seen.pop(int(np.argmax(overlaps))), rival.age + 1))
            elif rival.missed < 5:
                kept.append(Rival(rival.box, rival.age, rival.missed + 1))
        target.rivals = [*kept, *(Rival(box) for box in seen)]

    # --- finding again

    def _recover(
        self,
        frame: Image,
        target: KnownTarget,
        windows: list[CropWindow],
        maps: tuple[NDArray[np.float32], ...],
        clock: Clock,
    ) -> Result:
        """One frame of a lost target: a candidate, and when it convinces twice in a row, the way back; mutates it."""
        rules = self.long_term
        found = self._candidate(frame, target, windows, maps, clock)
        if found is None:
            target.trial = target.seen = None
            return Result(target.box, 0.0, "lost")
        p = self.probability(found.evidence)
        target.seen = found
        before, target.trial = target.trial, found.box if p >= rules.adopt else None
        if target.trial and before and float(iou(np.array(target.trial), np.array(before))) > 0.3:
            target.box, target.state, target.doubts, target.trial, target.rivals = found.box, "tracking", 0, None, []
            return Result(target.box, p, "tracking")
        return Result(target.box, min(p, rules.sure), "lost")

    def _candidate(
        self,
        frame: Image,
        target: KnownTarget,
        windows: list[CropWindow],
        maps: tuple[NDArray[np.float32], ...],
        clock: Clock,
    ) -> Found | None:
        """The most probable of the boxes found in all windows, after a closer look at the best of them."""
        cfg, rules = self.config, self.long_term
        clock.lap("post_ms")
        candidates: list[tuple[float, Box]] = []
        for row, window in enumerate(windows):
            for peak in self._peaks(maps, row, window.to_crop(target.box), None)[:2]:
                box = window.to_frame(Box.from_centre(*peak[:4].tolist()))
                known = any(float(iou(np.array(box), np.array(other))) > 0.3 for _, other in candidates)
                if peak[4] > rules.candidate and not known:
                    candidates.append((float(peak[4]), box))
        best: Found | None = None
        closer = sorted(candidates, reverse=True)[: rules.closer]
        if closer:
            sides = [self._side(_between(box, target.box)) * cfg.search_size / cfg.exemplar_size for _, box in closer]
            group = [
                CropWindow.around(*box.centre, s, cfg.search_size) for (_, box), s in zip(closer, sides, strict=True)
            ]
            again = self._look(frame, [target], [group], clock)
            for row, window in enumerate(group):
                peaks = self._peaks(again, row, window.to_crop(target.box), BoxTracking(0.0, 1.0, 0.2))
                found = self._examine(frame, target, window, peaks, 0, 0.0)
                if best is None or self.probability(found.evidence) > self.probability(best.evidence):
                    best = found
        return best


def _between(box: Box, last: Box) -> Box:
    """`box` with a size half-way (geometrically) to that of `last`."""
    w, h = math.sqrt(box.w * last.w), math.sqrt(box.h * last.h)
    return Box.from_centre(*box.centre, w, h)


def whole_frame(box: Box, side: float, width: int, height: int) -> list[tuple[float, float]]:
    """Centres of windows of `side` px that overlap by half and cover the frame, the nearest to `box` first."""

    def line(length: int) -> list[float]:
        count = max(1, math.ceil(length / (side / 2)) - 1)
        return [length * (k + 1) / (count + 1) for k in range(count)]

    cx, cy = box.centre
    centres = [(x, y) for y in line(height) for x in line(width)]
    return sorted(centres, key=lambda c: (c[0] - cx) ** 2 + (c[1] - cy) ** 2)
