"""The tracker that knows: a score that is a probability, the states tracking, uncertain and lost, and the way back.

Built around the per-frame loop of `loop.py`. In every frame the evidence for the found box (`evidence.py`) becomes a
probability that it is right (`Confidence`), the score. In doubt, what was found is verified: the refiner compares it
with how the target lately looked, and the verifier with patches that were sure. While belief is low the position is
held; when it stays low the target is lost, and from then on the surroundings and then the whole frame are searched, a
few windows a frame. A candidate from elsewhere must be seen again, and not be refuted, before it is taken for the
target.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tracker.config import BoxTracking, Confidence, LongTerm
from tracker.crop import Image
from tracker.evidence import EVIDENCE, MOST_ALIKE, Found, Habit, colours, examine, log_odds
from tracker.geometry import Box, CropWindow, iou
from tracker.loop import Clock, Result, ShortTermTracker, State, Target, View, check_frame, keep_inside
from tracker.similarity import SimilarityNet, load_similarity, patch, to_pixels

__all__ = ["KnownTarget", "Result", "Target", "Tracker"]

PEAKS = 4  # of a score map that are looked at
BESIDE = 0.2  # IoU with the target's box below which a box is beside it
CLOSER_WINDOW = 0.2  # influence of the cosine window at the closer look at a candidate


@dataclass(eq=False)
class KnownTarget(Target):
    """A target and what is known of its fate. Mutated by `update`.

    first: (1, D) embedding of the first frame's patch. memory: those of patches that were sure, oldest first.
    habit: how it usually looks, which the evidence is compared with.
    state: of the last frame. belief: log-odds that it is still being followed, gathered over the frames.
    calm: frames since the memory grew.
    rivals: look-alikes that are followed beside the target. scan: where the search of the whole frame goes on.
    trial: the candidate that is followed while lost. seen: what was found in the last frame, convincing or not.
    sight: one of the last frames in which it was sure. searched: whether it was searched for bystanders.
    bystanders: (1, 64, 16, 16) patches of what stood elsewhere in that frame and looks like it, or like a candidate.
    """

    first: Tensor = field(default_factory=lambda: torch.zeros(1, 0), repr=False)
    memory: list[Tensor] = field(default_factory=list, repr=False)
    habit: Habit = field(
        default_factory=lambda: Habit(np.zeros(512), np.zeros((1, 64, 16, 16), np.float32)), repr=False
    )
    state: State = "tracking"
    belief: float = LongTerm.strongest
    calm: int = 0
    rivals: list[Rival] = field(default_factory=list)
    scan: int = 0
    trial: Trial | None = None
    seen: Found | None = field(default=None, repr=False)
    sight: Sight | None = field(default=None, repr=False)
    searched: bool = False
    bystanders: list[NDArray[np.float32]] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Rival:
    """A second peak that is followed: its box (frame px), for how many frames, and since when it is out of sight."""

    box: Box
    age: int = 1
    missed: int = 0


@dataclass(frozen=True)
class Sight:
    """A frame in which a target was sure, its box (frame px) and patch in it, and how many frames ago that was."""

    frame: Image
    box: Box
    patch: NDArray[np.float32]
    age: int = 0


@dataclass(frozen=True)
class Trial:
    """A candidate for the way back: its last box (frame px) and the belief in it, gathered over its frames."""

    box: Box
    belief: float


class Tracker(ShortTermTracker):
    """Follows targets, says when one is lost, and finds it again; see `ShortTermTracker` for the arguments.

    With weights that come without a `Confidence` (siamfc; your own before `python -m train calibrate`) it is no more
    than a `ShortTermTracker`: always tracking, with a score that is no probability.

    The belief that the target is being followed gathers the log-odds of each frame and forgets old ones. States:
    tracking; uncertain (belief at `LongTerm.uncertain`: the target's box and size stay as they were, what may be it is
    followed on trial, and the result says where); lost (belief at `LongTerm.lost`: the whole frame is searched, too;
    the box of the result is a mere guess, that of the target the last one that was sure).
    """

    long_term = LongTerm()  # may be replaced on an instance
    verifier: SimilarityNet

    def _warm_up_network(self) -> None:
        if self._knows:
            self.verifier = load_similarity()
        super()._warm_up_network()

    @property
    def _knows(self) -> bool:
        return self.config.confidence is not None and isinstance(self.config.tracking, BoxTracking)

    def init(self, frame: NDArray[np.uint8], box: Sequence[float]) -> Target:
        """As `ShortTermTracker.init`."""
        target = super().init(frame, box)
        if self._knows:
            frame = check_frame(frame)
            first = self._embed(frame, target.box, target.fill)
            habit = Habit(colours(frame, target.box), target.template.patch.cpu().numpy())
            sight = Sight(frame.copy(), target.box, habit.look)
            target = self.target = KnownTarget(**vars(target), first=first, habit=habit, sight=sight)
        return target

    def update_all(self, frame: NDArray[np.uint8], targets: Iterable[Target]) -> list[Result]:
        """As `ShortTermTracker.update_all`, with states."""
        if not self._knows:
            return super().update_all(frame, targets)
        frame, targets = check_frame(frame), self._check_targets(targets)
        known = [target for target in targets if isinstance(target, KnownTarget)]
        if len(known) < len(targets):
            raise ValueError("the target was made by a ShortTermTracker; init it with this tracker")
        if not known:
            return []
        clock = Clock()
        seen = self._look(frame, [(target, list(self._where_to_look(target, frame))) for target in known], clock)
        found = []
        for target, views in zip(known, seen, strict=True):
            if target.state == "lost":
                found.append(self._recover(target, views, clock))
            else:
                found.append(self._follow(target, views[0]))
        self._keep_sights(frame, known, found)
        return clock.stamp(found)

    # --- following

    def _where_to_look(self, target: KnownTarget, frame: Image) -> Iterator[CropWindow]:
        """The windows to search for a target in this frame; mutates its `scan` when all are taken."""
        cfg, rules = self.config, self.long_term
        yield cfg.search_window(target.trial.box if target.trial else target.box)
        if target.state != "lost":
            return
        yield cfg.search_window(target.box)
        wide = cfg.search_window(target.box, rules.coarse)
        tiles = whole_frame(wide, frame.shape[1], frame.shape[0])
        for k in range(rules.windows):
            yield CropWindow.around(tiles[(target.scan + k) % len(tiles)], wide.w, wide.h, cfg.search_size)
        target.scan = (target.scan + rules.windows) % len(tiles)

    def _examine(
        self, target: KnownTarget, view: View, peaks: NDArray[np.float64], chosen: int, last: Box, step: float
    ) -> Found:
        """Gather the evidence for peak `chosen` of a view.

        last: box that it is compared with, frame px. step: how far it is from where it was expected, in target sizes.
        """
        refined, frame = self._refine(target, view, peaks[chosen]), view.frame
        box = keep_inside(view.window.to_frame(refined.box), frame.shape[1], frame.shape[0])
        assert isinstance(self.config.tracking, BoxTracking)
        rate = self.config.tracking.size_lr * (1 + math.tanh(peaks[chosen, 4] / 2)) / 2 * float(peaks[chosen, 5])
        return examine(peaks, chosen, refined, frame, box, last, step, rate, target.habit)

    def _verify(self, frame: Image, target: KnownTarget, found: Found) -> Found:
        """Ask two more questions: does it look as the target lately did, and like one of the patches that were sure?

        Where a target changes fast, its first look is no longer a good one to compare with.
        """
        nowhere = np.zeros((1, 4), np.float32)  # the answer does not depend on the place
        looks = float(self._runner.refine(target.habit.look, found.patch, nowhere)[0, 4])
        return found.verified(looks, self._alike(target, self._embed(frame, found.box, target.fill)), target.habit)

    def _embed(self, frame: Image, box: Box, fill: tuple[float, float, float]) -> Tensor:
        """(1, D) embedding of the patch in `box`."""
        cfg = self.verifier.config
        with torch.inference_mode():
            return self.verifier.embed(to_pixels(patch(frame, box, cfg, fill), cfg))

    def _alike(self, target: KnownTarget, embedding: Tensor) -> float:
        """How much a patch, given by its embedding, is like the known one that it is most like.

        Returns a raw score of the verifier in [-8, 8].
        """
        known = torch.cat([target.first, *target.memory])
        with torch.inference_mode():
            scores = self.verifier.join(embedding.expand(len(known), -1), known)
        return float(scores.max().clamp(-MOST_ALIKE, MOST_ALIKE))

    @property
    def _confidence(self) -> Confidence:
        assert self.config.confidence
        return self.config.confidence

    def _score(self, found: Found) -> float:
        """The probability that a box is right, as every `Result` tells it."""
        return self._confidence.following.probability(found.evidence[: len(EVIDENCE)])

    def _verified_odds(self, found: Found) -> float:
        """The log-odds that a verified box is the target's, with `LongTerm.hope`."""
        return log_odds(self._confidence.verified.probability(found.evidence)) + self.long_term.hope

    def _follow(self, target: KnownTarget, view: View) -> Result:
        """One frame of a target that is tracked or uncertain; mutates it.

        While it is uncertain its box stays, and what may be it is followed on trial.
        """
        rules, last = self.long_term, target.trial.box if target.trial else target.box
        frame = view.frame
        found, peaks, chosen = self._track(target, view, last)
        p = self._score(found)
        odds = log_odds(p)
        if p < rules.ask:
            found = self._verify(frame, target, found)
            odds = self._verified_odds(found)
        target.seen = found
        self._follow_rivals(target, view, peaks, chosen)
        belief = rules.fading * target.belief + max(odds + rules.trust, -rules.doubt)
        target.belief = min(max(belief, rules.lost), rules.strongest)
        if target.belief > rules.uncertain:
            target.state, target.trial = "tracking", None
            target.box = keep_inside(found.smoothed(last), frame.shape[1], frame.shape[0])
            target.calm += 1
            if p >= rules.learn:
                target.habit = target.habit.after(found)
                if found.alike is not None:
                    target.habit = target.habit.after_patch(found.alike)
            if p >= rules.remember and not target.rivals and target.calm >= rules.every:
                self.remember(frame, target)
        else:
            target.state = "uncertain" if target.belief > rules.lost else "lost"
            if target.state == "lost":
                target.rivals = []  # nobody follows them now
            target.scan, target.trial = 0, Trial(found.smoothed(last), 0.0)
        return Result(target.trial.box if target.trial else target.box, p, state=target.state)

    def _track(self, target: KnownTarget, view: View, last: Box) -> tuple[Found, NDArray[np.float64], int]:
        """What a view says of the box `last` (frame px); with all its peaks and which of them it is.

        Where several peaks may be the target, it is the one whose closer look is the best, near the last box rather
        than elsewhere.
        """
        peaks, expected = self._peaks(view, last, PEAKS), view.window.to_crop(last)
        size = math.sqrt(expected.w * expected.h)
        seen = {
            k: self._examine(target, view, peaks, k, last, math.dist(peaks[k, :2], expected.centre) / size)
            for k in self._eligible(target, view, peaks, last)
        }

        def odds(k: int) -> float:
            return log_odds(self._score(seen[k])) + self.long_term.stay * overlap(seen[k].box, last)

        chosen = max(seen, key=odds)
        return seen[chosen], peaks, chosen

    def _keep_sights(self, frame: Image, targets: list[KnownTarget], results: list[Result]) -> None:
        """Every few frames keep the frame, one copy for all who are sure in it; mutates the targets."""
        rules, kept = self.long_term, None
        for target, result in zip(targets, results, strict=True):
            if target.sight:
                target.sight = replace(target.sight, age=target.sight.age + 1)
            old = target.sight is None or target.searched or target.sight.age >= rules.every
            if old and target.seen and target.state == "tracking" and result.score >= rules.sure:
                kept = frame.copy() if kept is None else kept  # the caller may write on
                target.sight = Sight(kept, target.box, target.seen.patch)
                target.searched, target.bystanders = False, []

    def remember(self, frame: Image, target: KnownTarget) -> None:
        """Add what is in the box to the memory of a target; mutates it. The first patch never fades, the others do."""
        rules, target.calm = self.long_term, 0
        embedding = self._embed(frame, target.box, target.fill)
        target.habit = target.habit.after_patch(self._alike(target, embedding))
        target.memory = [*target.memory, embedding][-rules.memory :]

    # --- rivals

    def _eligible(self, target: KnownTarget, view: View, peaks: NDArray[np.float64], last: Box) -> list[int]:
        """The peaks that may be the target: nearly as good as the best one, and no rival has a better claim to them."""
        near = [k for k in range(len(peaks)) if peaks[k, 4] >= peaks[0, 4] - self.long_term.rival_logit]
        known = [rival.box for rival in target.rivals if rival.age > 2]
        if not known or len(near) < 2:
            return near
        boxes = {k: view.box(peaks[k]) for k in near}
        claims = {k: max(overlap(boxes[k], box) for box in known) for k in near}
        return [k for k in near if claims[k] < 0.3 or overlap(boxes[k], last) >= claims[k]] or near[:1]

    def _follow_rivals(self, target: KnownTarget, view: View, peaks: NDArray[np.float64], chosen: int) -> None:
        """Match the other peaks with the rivals; mutates the target."""
        seen = []
        for k in range(len(peaks)):
            if k != chosen and peaks[k, 4] > self.long_term.rival_least:
                seen.append(view.box(peaks[k]))
        kept = []
        for rival in target.rivals:
            overlaps = [overlap(box, rival.box) for box in seen]
            if overlaps and max(overlaps) > 0.3:
                kept.append(Rival(seen.pop(int(np.argmax(overlaps))), rival.age + 1))
            elif rival.missed < 5:
                kept.append(Rival(rival.box, rival.age, rival.missed + 1))
        target.rivals = [*kept, *(Rival(box) for box in seen)]

    # --- finding again

    def _recover(self, target: KnownTarget, views: list[View], clock: Clock) -> Result:
        """One frame of a lost target: when there is belief enough in a candidate, the way back; mutates the target.

        What is on trial is followed with the belief that it has gathered; at first that is what was followed when the
        target was lost. A candidate from elsewhere takes its place when there is more belief in it from the start.
        """
        rules, before, frame = self.long_term, target.trial, views[0].frame
        assert before is not None
        place = self.config.search_window(target.box)
        reach = math.sqrt(place.w * place.h) / 2

        self._meet_bystanders(target, [view.window for view in views], clock)

        def judge(found: Found) -> float:
            near = math.dist(found.box.centre, target.box.centre) < reach
            odds = self._verified_odds(found)
            if odds > rules.attempt:
                self._look_back(target, found, frame, clock)
                odds -= rules.alibi * self._alibi(target, found)
            return max(odds, -rules.doubt) + (rules.near if near else 0.0)

        followed = self._verify(frame, target, self._track(target, views[0], before.box)[0])
        belief = min(max(rules.fading * before.belief + judge(followed), rules.lost), rules.strongest)
        target.seen, target.trial = followed, Trial(followed.smoothed(before.box), belief)
        for found in self._candidates(target, views[1:], clock):
            odds = min(judge(found), rules.strongest)
            if overlap(found.box, followed.box) < 0.3 and odds > max(target.trial.belief, rules.attempt):
                target.seen, target.trial = found, Trial(found.box, odds)
        p = self._score(target.seen)
        if target.seen is not followed or belief < rules.adopt:
            return Result(target.trial.box, p, state="lost")
        target.box, target.state, target.belief = target.trial.box, "tracking", belief
        target.trial = None
        return Result(target.box, p)

    def _meet_bystanders(self, target: KnownTarget, windows: list[CropWindow], clock: Clock) -> None:
        """See who stood beside the target when it was last sure, in the windows that are searched now; mutates it."""
        sight, rules = target.sight, self.long_term
        if sight is None or target.searched:
            return
        (views,) = self._look(sight.frame, [(target, windows)], clock)
        for found in self._closer_looks(target, views, clock, rules.meet, sight.box):
            self._know_bystander(target, found.box, found.patch)
        if target.scan < rules.windows:  # the whole frame was searched
            target.searched = True

    def _look_back(self, target: KnownTarget, found: Found, frame: Image, clock: Clock) -> None:
        """See what looks like a candidate around its place in the frame in which the target was last sure; mutates it.

        Where the camera stays, this is what the candidate was then. It is searched with the candidate as the exemplar.
        """
        sight = target.sight
        if sight is None:
            return
        clock.lap("post_ms")
        asked = Target(found.box, self._template(frame, found.box, target.fill), target.fill)
        clock.lap("network_ms")
        view = self._look_once(sight.frame, asked, self._search_windows(found.box)[0], clock)
        peak = self._peaks(view, found.box, 1, 0.0, 0.0)[0]
        if peak[4] > self.long_term.candidate:
            patch = self._runner.look(view.levels, peak[None, :4].astype(np.float32))
            self._know_bystander(target, view.box(peak), patch)

    def _know_bystander(self, target: KnownTarget, box: Box, patch: NDArray[np.float32]) -> None:
        """Remember what is in `box` of the kept frame, unless it is the target; mutates the target."""
        assert target.sight
        if overlap(box, target.sight.box) < BESIDE:
            target.bystanders = [*target.bystanders, patch][-self.long_term.bystanders :]

    def _alibi(self, target: KnownTarget, found: Found) -> float:
        """By how much more (logit, >= 0) a box is like a bystander than like the target, lately or in the same frame.

        The most of many is more than one would be by chance; so the first `LongTerm.chance` does not count.
        """
        if not (target.bystanders and target.sight):
            return 0.0
        nowhere = np.zeros((1, 4), np.float32)  # the answer does not depend on the place

        def alike(patch: NDArray[np.float32]) -> float:
            return float(self._runner.refine(patch, found.patch, nowhere)[0, 4])

        own = max(alike(target.habit.look), alike(target.sight.patch))
        return max(max(map(alike, target.bystanders)) - own - self.long_term.chance, 0.0)

    def _candidates(self, target: KnownTarget, views: list[View], clock: Clock) -> list[Found]:
        """The boxes with the highest logits in all views, each after a closer look, verified."""
        found = self._closer_looks(target, views, clock, self.long_term.closer)
        return [self._verify(views[0].frame, target, one) for one in found]

    def _closer_looks(
        self, target: KnownTarget, views: list[View], clock: Clock, most: int, beside: Box | None = None
    ) -> list[Found]:
        """The `most` boxes with the highest logits in all views, after a closer look; only those `beside` a box."""
        rules, frame = self.long_term, views[0].frame
        clock.lap("post_ms")
        seen: list[tuple[float, Box]] = []
        for view in views:
            for peak in self._peaks(view, target.box, 2, 0.0, 0.0):
                box = view.box(peak)
                if peak[4] > rules.candidate and not (beside and overlap(box, beside) >= BESIDE):
                    seen.append((float(peak[4]), box))
        closer: list[Box] = []
        for _, box in sorted(seen, reverse=True):
            if len(closer) < most and all(overlap(box, other) < 0.3 for other in closer):
                closer.append(box)
        if not closer:
            return []
        group = [self.config.search_window(_between(box, target.box)) for box in closer]
        found = []
        for view in self._look(frame, [(target, group)], clock)[0]:
            peaks = self._peaks(view, target.box, PEAKS, 0.0, CLOSER_WINDOW)
            found.append(self._examine(target, view, peaks, 0, target.box, 0.0))
        return found


def overlap(a: Box, b: Box) -> float:
    """IoU of two boxes, [0, 1]."""
    return float(iou(np.array(a), np.array(b)))


def _between(box: Box, last: Box) -> Box:
    """`box` with a size half-way (geometrically) to that of `last`."""
    w, h = math.sqrt(box.w * last.w), math.sqrt(box.h * last.h)
    return Box.from_centre(*box.centre, w, h)


def whole_frame(first: CropWindow, width: int, height: int) -> list[tuple[float, float]]:
    """Centres of windows like `first` that overlap by half and cover the frame, the nearest to it first."""

    def line(length: int, side: float) -> list[float]:
        count = max(1, math.ceil(length / (side / 2)) - 1)
        return [length * (k + 1) / (count + 1) for k in range(count)]

    cx, cy = first.x + first.w / 2, first.y + first.h / 2
    centres = [(x, y) for y in line(height, first.h) for x in line(width, first.w)]
    return sorted(centres, key=lambda c: (c[0] - cx) ** 2 + (c[1] - cy) ** 2)
