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
from tracker.heads import Template
from tracker.kernels import decode_peaks
from tracker.loop import Clock, Result, ShortTermTracker, State, Target, check_frame, keep_inside
from tracker.similarity import SimilarityNet, load_similarity, to_pixels

__all__ = ["EVIDENCE", "KnownTarget", "Result", "Target", "Tracker"]

PEAKS = 4  # of a score map that are looked at
CLOSER_LOOK = BoxTracking(penalty_k=0.0, size_lr=1.0, window_influence=0.2)  # at a candidate
EVIDENCE = ("logit", "margin", "agreement", "change", "step", "first", "memory")


@dataclass
class KnownTarget(Target):
    """A target and what is known of its fate. Mutated by `update`.

    first: (1, D) embedding of the first frame's patch. memory: those of patches that were sure, oldest first.
    original: template of the first frame. recent: mean of those of later frames that were sure. The target is searched
    with `template`, a blend of both.
    state: of the last frame. belief: log-odds that it is still being followed, gathered over the frames.
    calm, unchecked: frames since the memory grew, and since the verifier looked.
    rivals: look-alikes that are followed beside the target. scan: where the search of the whole frame goes on.
    trial: the candidate that is followed while lost. seen: what was found in the last frame, convincing or not.
    """

    first: Tensor = field(default_factory=lambda: torch.zeros(1, 0))
    memory: list[Tensor] = field(default_factory=list)
    original: Template | None = None
    recent: Template | None = None
    state: State = "tracking"
    belief: float = LongTerm.strongest
    calm: int = 0
    unchecked: int = 0
    rivals: list[Rival] = field(default_factory=list)
    scan: int = 0
    trial: Trial | None = None
    seen: Found | None = None


@dataclass(frozen=True)
class Rival:
    """A second peak that is followed: its box (frame px), for how many frames, and since when it is out of sight."""

    box: Box
    age: int = 1
    missed: int = 0


@dataclass(frozen=True)
class Trial:
    """A candidate for the way back: its last box (frame px) and the belief in it, gathered over its frames."""

    box: Box
    belief: float


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

    def smoothed(self, last: Box) -> Box:
        """The found place with a size between that of `last` and the found one."""
        w, h = last.w + self.rate * (self.box.w - last.w), last.h + self.rate * (self.box.h - last.h)
        return Box.from_centre(*self.box.centre, w, h)


class Tracker(ShortTermTracker):
    """Follows targets, says when one is lost, and finds it again; see `ShortTermTracker` for the arguments.

    With weights that come without a `Confidence` (siamfc; your own before `python -m train calibrate`) it is no more
    than a `ShortTermTracker`: always tracking, with a score that is no probability.

    The belief that the target is being followed gathers the log-odds of each frame and forgets old ones. States:
    tracking; uncertain (belief at `LongTerm.uncertain`: the size is frozen, the position held unless the box has some
    probability, and a wider window is searched); lost (belief at `LongTerm.lost`: the whole frame is searched; the box
    of the result is a mere guess, that of the target the last one that was followed).
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
            target = self.target = KnownTarget(
                target.box, target.template, target.fill, first, original=target.template
            )
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
            side *= rules.widest ** min(max(target.belief / rules.lost, 0.0), 1.0)
            yield CropWindow.around(*target.box.centre, side, cfg.search_size)
            return
        if target.trial:
            trial = self._side(target.trial.box) * cfg.search_size / cfg.exemplar_size
            yield CropWindow.around(*target.trial.box.centre, trial, cfg.search_size)
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
        before: Found | None = None,
    ) -> Found:
        """Gather the evidence for peak `chosen`.

        step: how far it is from where it was expected, in target sizes. before: what was found in the last frame, when
        what the verifier said then will do.
        """
        cx, cy, w, h, logit, penalty, agreement = peaks[chosen].tolist()
        box = window.to_frame(Box.from_centre(cx, cy, w, h))
        others = np.delete(peaks[:, 4], chosen)
        second = float(others.max()) if len(others) else -8.0
        change = abs(math.log(box.w * box.h / (target.box.w * target.box.h))) / 2
        box = keep_inside(box, frame.shape[1], frame.shape[0])
        if before:
            embedding, (first, memory) = before.embedding, before.evidence[-2:].tolist()
        else:
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
        rules = self.long_term
        found, peaks, chosen = self._track(frame, target, target.box, window, maps)
        p = self.probability(found.evidence)
        target.seen = found
        self._follow_rivals(target, window, peaks, chosen)
        belief = rules.fading * target.belief + max(log_odds(p), -rules.doubt)
        target.belief = min(max(belief, rules.lost), rules.strongest)
        if target.belief > rules.uncertain:
            target.state = "tracking"
            target.box = keep_inside(found.smoothed(target.box), frame.shape[1], frame.shape[0])
            target.calm += 1
            if p >= rules.remember and not (target.rivals or target.unchecked) and target.calm >= rules.every:
                self.remember(frame, target, found)
        elif target.belief > rules.lost:
            target.state = "uncertain"
            if p >= rules.hold:
                target.box = Box.from_centre(*found.box.centre, target.box.w, target.box.h)
        else:
            target.state, target.scan, target.trial = "lost", 0, Trial(found.smoothed(target.box), 0.0)
        return Result(target.box, p, target.state)

    def _track(
        self,
        frame: Image,
        target: KnownTarget,
        last: Box,
        window: CropWindow,
        maps: tuple[NDArray[np.float32], ...],
    ) -> tuple[Found, NDArray[np.float64], int]:
        """What the first of `maps` says of the box `last` (frame px); with all its peaks and which of them it is.

        Mutates `target.unchecked`.
        """
        tracking, rules, last_crop = self.config.tracking, self.long_term, window.to_crop(last)
        assert isinstance(tracking, BoxTracking)
        peaks = self._peaks(maps, 0, last_crop, tracking)
        chosen = self._choose(target, window, peaks)
        step = math.dist(peaks[chosen, :2], last_crop.centre) / math.sqrt(last_crop.w * last_crop.h)
        well = target.belief >= rules.strongest and peaks[chosen, 4] >= rules.check_below
        rests = well and target.unchecked + 1 < rules.check_every
        target.unchecked = target.unchecked + 1 if rests else 0
        found = self._examine(frame, target, window, peaks, chosen, step, target.seen if rests else None)
        return found, peaks, chosen

    def remember(self, frame: Image, target: KnownTarget, found: Found) -> None:
        """Add what was found to the memory of a target; mutates it. The first frame never fades, the others do."""
        rules, new = self.long_term, self._template(frame, target.box, target.fill)
        assert target.original is not None
        target.calm = 0
        target.memory = [*target.memory, found.embedding][-rules.memory :]
        target.recent = mix(target.recent, new, 0.5) if target.recent else new
        target.template = mix(target.original, target.recent, rules.blend)

    # --- rivals

    def _choose(self, target: KnownTarget, window: CropWindow, peaks: NDArray[np.float64]) -> int:
        """The peak that is the target: the best one that no rival has a better claim to."""
        known = [np.array(rival.box) for rival in target.rivals if rival.age > 2]
        if not known or len(peaks) < 2:
            return 0
        boxes = np.array([window.to_frame(Box.from_centre(*p[:4])) for p in peaks])
        own = iou(boxes, np.array(target.box))
        for k in range(len(peaks)):
            if peaks[k, 4] < peaks[0, 4] - self.long_term.rival_logit:
                break
            claim = max(float(iou(boxes[k], box)) for box in known)
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
            overlaps = [overlap(box, rival.box) for box in seen]
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
        """One frame of a lost target: when there is belief enough in a candidate, the way back; mutates the target.

        The candidate on trial is followed with the belief that it has gathered; at first it is what was followed when
        the target was lost. One from elsewhere takes its place when there is more belief in it from the start.
        """
        rules, before = self.long_term, target.trial
        assert before is not None
        reach = self._side(target.box) * self.config.search_size / self.config.exemplar_size / 2

        def judge(found: Found) -> float:
            near = math.dist(found.box.centre, target.box.centre) < reach
            odds = max(log_odds(self.probability(found.evidence)), -rules.doubt)
            return odds + (rules.near if near else rules.far)

        followed, _, _ = self._track(frame, target, before.box, windows[0], maps)
        belief = min(max(rules.fading * before.belief + judge(followed), rules.lost), rules.strongest)
        target.seen, target.trial = followed, Trial(followed.smoothed(before.box), belief)
        for found in self._candidates(frame, target, windows[1:], tuple(m[1:] for m in maps), clock):
            if overlap(found.box, followed.box) < 0.3 and judge(found) > target.trial.belief:
                target.seen, target.trial = found, Trial(found.box, judge(found))
        p = self.probability(target.seen.evidence)
        if target.seen is not followed or belief < rules.adopt:
            return Result(target.trial.box, min(p, 0.5), "lost")
        target.box, target.state, target.belief = target.trial.box, "tracking", belief
        target.trial, target.rivals = None, []
        return Result(target.box, p, "tracking")

    def _candidates(
        self,
        frame: Image,
        target: KnownTarget,
        windows: list[CropWindow],
        maps: tuple[NDArray[np.float32], ...],
        clock: Clock,
    ) -> list[Found]:
        """The boxes with the highest logits in all windows, each after a closer look."""
        cfg, rules = self.config, self.long_term
        clock.lap("post_ms")
        seen: list[tuple[float, Box]] = []
        for row, window in enumerate(windows):
            for peak in self._peaks(maps, row, window.to_crop(target.box), None)[:2]:
                if peak[4] > rules.candidate:
                    seen.append((float(peak[4]), window.to_frame(Box.from_centre(*peak[:4].tolist()))))
        closer: list[Box] = []
        for _, box in sorted(seen, reverse=True):
            if len(closer) < rules.closer and all(overlap(box, other) < 0.3 for other in closer):
                closer.append(box)
        if not closer:
            return []
        sides = [self._side(_between(box, target.box)) * cfg.search_size / cfg.exemplar_size for box in closer]
        group = [CropWindow.around(*box.centre, s, cfg.search_size) for box, s in zip(closer, sides, strict=True)]
        again = self._look(frame, [target], [group], clock)
        peaks = [self._peaks(again, i, w.to_crop(target.box), CLOSER_LOOK) for i, w in enumerate(group)]
        return [self._examine(frame, target, w, p, 0, 0.0) for w, p in zip(group, peaks, strict=True)]


def mix(a: Template, b: Template, share: float) -> Template:
    """(1 - share) a + share b."""
    return Template(*((1 - share) * x + share * y for x, y in zip(a, b, strict=True)))


def overlap(a: Box, b: Box) -> float:
    """IoU of two boxes, [0, 1]."""
    return float(iou(np.array(a), np.array(b)))


def log_odds(p: float) -> float:
    """log(p / (1 - p)), finite also for 0 and 1."""
    return math.log(max(p, 1e-6) / max(1 - p, 1e-6))


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
