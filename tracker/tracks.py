"""The policy of calibrated weights: the states tracking, uncertain and lost, and the way back.

In every frame the evidence for the found box becomes a probability that it is right (`config.Confidence`), the score.
In doubt, what was found is verified: the refiner compares it with how the target lately looked, and the verifier with
patches that were sure. While belief is low the position is held; when it stays low the target is lost, and from then on
the surroundings and then the whole frame are searched, a few windows a frame. A candidate from elsewhere must be seen
again, and not be refuted, before it is taken for the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tracker.config import Confidence, LongTerm
from tracker.crop import Image
from tracker.engine import Engine, View, keep_inside
from tracker.evidence import Judge, log_odds
from tracker.geometry import Box, CropWindow
from tracker.search import PEAKS, Search, overlap
from tracker.target import Found, Result, Rival, Sight, Target, Trial


class TrackPolicy:
    """Follows targets, says when one is lost, and finds it again.

    The belief that the target is being followed gathers the log-odds of each frame and forgets old ones; with
    `LongTerm.uncertain` and `LongTerm.lost` it makes the states, see `tracker.Tracker`.
    """

    def __init__(self, engine: Engine, confidence: Confidence) -> None:
        self.engine, self.judge = engine, Judge(engine, confidence)
        self.search = Search(self.judge)

    @property
    def rules(self) -> LongTerm:
        """The constants of belief and search."""
        return self.judge.rules

    def begin(self, frame: Image, target: Target) -> None:
        """What is known of a target from the frame in which its box was given; mutates it."""
        target.reference = self.judge.reference(frame, target.box, target.appearance)
        target.sight = Sight(frame.copy(), target.box, target.reference.look)

    def windows(self, frame: Image, target: Target) -> list[CropWindow]:
        """What to search in the next frame; mutates the target's `scan`."""
        return list(self.search.windows(frame, target))

    def update(self, frame: Image, targets: Sequence[Target], seen: Sequence[list[View]]) -> list[Result]:
        """One frame of each target; mutates them."""
        found = []
        for target, views in zip(targets, seen, strict=True):
            follow = self._recover if target.state == "lost" else self._follow
            found.append(follow(target, views))
        self._keep_sights(frame, targets, found)
        return found

    # --- following

    def _follow(self, target: Target, views: list[View]) -> Result:
        """One frame of a target that is tracked or uncertain; mutates it.

        While it is uncertain its box stays, and what may be it is followed on trial.
        """
        assert target.reference
        rules, last, frame = self.rules, target.trial.box if target.trial else target.box, views[0].frame
        found, peaks, chosen = self._track(target, views[0], last)
        p = self.judge.score(found)
        odds = log_odds(p)
        if p < rules.ask:
            found = self.judge.verify(target, frame, found)
            odds = self.judge.odds(found)
        target.seen = found
        self._follow_rivals(target, views[0], peaks, chosen)
        belief = rules.fading * target.belief + max(odds + rules.trust, -rules.doubt)
        target.belief = min(max(belief, rules.lost), rules.strongest)
        if target.belief > rules.uncertain:
            target.state, target.trial = "tracking", None
            target.box = keep_inside(found.smoothed(last), frame)
            target.calm += 1
            if p >= rules.learn:
                target.reference = target.reference.after(found)
                if found.alike is not None:
                    target.reference = target.reference.after_patch(found.alike)
            if p >= rules.remember and not target.rivals and target.calm >= rules.every:
                self.remember(frame, target)
        else:
            target.state = "uncertain" if target.belief > rules.lost else "lost"
            if target.state == "lost":
                target.rivals = []  # nobody follows them now
            target.scan, target.trial = 0, Trial(found.smoothed(last), 0.0)
        return Result(target.trial.box if target.trial else target.box, p, state=target.state)

    def _track(self, target: Target, view: View, last: Box) -> tuple[Found, NDArray[np.float64], int]:
        """What a view says of the box `last` (frame px); with all its peaks and which of them it is.

        Where several peaks may be the target, it is the one whose closer look is the best, near the last box rather
        than elsewhere.
        """
        peaks, expected = self.engine.peaks(view, last, PEAKS), view.window.to_crop(last)
        size = math.sqrt(expected.w * expected.h)
        seen = {
            k: self.judge.examine(target, view, peaks, k, last, math.dist(peaks[k, :2], expected.centre) / size)
            for k in self._eligible(target, view, peaks, last)
        }

        def odds(k: int) -> float:
            return log_odds(self.judge.score(seen[k])) + self.rules.stay * overlap(seen[k].box, last)

        chosen = max(seen, key=odds)
        return seen[chosen], peaks, chosen

    def _keep_sights(self, frame: Image, targets: Sequence[Target], results: list[Result]) -> None:
        """Every few frames keep the frame, one copy for all who are sure in it; mutates the targets."""
        rules, kept = self.rules, None
        for target, result in zip(targets, results, strict=True):
            if target.sight:
                target.sight = replace(target.sight, age=target.sight.age + 1)
            old = target.sight is None or target.searched or target.sight.age >= rules.every
            if old and target.seen and target.state == "tracking" and result.score >= rules.sure:
                kept = frame.copy() if kept is None else kept  # the caller may write on
                target.sight = Sight(kept, target.box, target.seen.patch)
                target.searched, target.bystanders = False, []

    def remember(self, frame: Image, target: Target) -> None:
        """Add what is in the box to the reference of a target; mutates it."""
        assert target.reference
        embedding = self.judge.embed(frame, target.box, target.appearance.fill)
        reference = target.reference.after_patch(self.judge.alike(target.reference, embedding))
        target.reference, target.calm = reference.with_embedding(embedding, self.rules.memory), 0

    # --- rivals

    def _eligible(self, target: Target, view: View, peaks: NDArray[np.float64], last: Box) -> list[int]:
        """The peaks that may be the target: nearly as good as the best one, and no rival has a better claim to them."""
        near = [k for k in range(len(peaks)) if peaks[k, 4] >= peaks[0, 4] - self.rules.rival_logit]
        known = [rival.box for rival in target.rivals if rival.age > 2]
        if not known or len(near) < 2:
            return near
        boxes = {k: view.box(peaks[k]) for k in near}
        claims = {k: max(overlap(boxes[k], box) for box in known) for k in near}
        return [k for k in near if claims[k] < 0.3 or overlap(boxes[k], last) >= claims[k]] or near[:1]

    def _follow_rivals(self, target: Target, view: View, peaks: NDArray[np.float64], chosen: int) -> None:
        """Match the other peaks with the rivals; mutates the target."""
        seen = []
        for k in range(len(peaks)):
            if k != chosen and peaks[k, 4] > self.rules.rival_least:
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

    def _recover(self, target: Target, views: list[View]) -> Result:
        """One frame of a lost target: when there is belief enough in a candidate, the way back; mutates the target.

        What is on trial is followed with the belief that it has gathered; at first that is what was followed when the
        target was lost. A candidate from elsewhere takes its place when there is more belief in it from the start.
        """
        rules, before, frame = self.rules, target.trial, views[0].frame
        assert before is not None
        place = self.engine.config.search_window(target.box)
        reach = math.sqrt(place.w * place.h) / 2

        self.search.meet_bystanders(target, [view.window for view in views])

        def judge(found: Found) -> float:
            near = math.dist(found.box.centre, target.box.centre) < reach
            odds = self.judge.odds(found)
            if odds > rules.attempt:
                self.search.look_back(target, found, frame)
                odds -= rules.alibi * self.search.alibi(target, found)
            return max(odds, -rules.doubt) + (rules.near if near else 0.0)

        followed = self.judge.verify(target, frame, self._track(target, views[0], before.box)[0])
        belief = min(max(rules.fading * before.belief + judge(followed), rules.lost), rules.strongest)
        target.seen, target.trial = followed, Trial(followed.smoothed(before.box), belief)
        for found in self.search.candidates(target, views[1:]):
            odds = min(judge(found), rules.strongest)
            if overlap(found.box, followed.box) < 0.3 and odds > max(target.trial.belief, rules.attempt):
                target.seen, target.trial = found, Trial(found.box, odds)
        p = self.judge.score(target.seen)
        if target.seen is not followed or belief < rules.adopt:
            return Result(target.trial.box, p, state="lost")
        target.box, target.state, target.belief = target.trial.box, "tracking", belief
        target.trial = None
        return Result(target.box, p)
