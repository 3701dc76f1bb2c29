"""The policy of calibrated weights: the states tracking, uncertain and lost, and the way back.

In every frame the evidence for the found box becomes a probability that it is right, the score; in doubt, what was
found is verified by how the target lately looked. Belief gathers the log-odds of each frame, and forgets, since targets
leave and come back. While it is low the box stays; when it stays low the target is lost and searched, a few windows a
frame. A candidate from elsewhere must be seen again, and not be refuted, before it is taken for the target.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tracker.config import Confidence, LongTerm
from tracker.copies import Copies
from tracker.crop import Image
from tracker.engine import Engine, View, keep_inside
from tracker.evidence import Judge, log_odds
from tracker.exclusion import assign, is_taken
from tracker.geometry import Box, CropWindow, overlap, sigmoid
from tracker.search import LEAST, PEAKS, Search, is_none_of
from tracker.target import Found, Kept, Result, Target, Track


class TrackPolicy:
    """Follows targets, says when one is lost, and finds it again, by the constants of `config.LongTerm`."""

    def __init__(self, engine: Engine, confidence: Confidence) -> None:
        self.engine, self.judge = engine, Judge(engine, confidence)
        self.search, self.copies = Search(self.judge), Copies()

    @property
    def rules(self) -> LongTerm:
        """Those of the weights."""
        return self.judge.rules

    def begin(self, frame: Image, target: Target) -> None:
        """Learn what the first frame says of a target; mutates it."""
        target.reference = self.judge.reference(frame, target.box, target.appearance)
        target.kept = Kept(self.copies.for_first(frame), target.box, target.reference.patch)
        target.put(Track(target.box, target.reference.patch, self.rules.strongest))

    def windows(self, frame: Image, target: Target, passes: int = LEAST) -> list[CropWindow]:
        """What to search in the next frame; mutates the target, see `Search.windows`."""
        return list(self.search.windows(frame, target, passes))

    def update(self, frame: Image, targets: Sequence[Target], seen: Iterable[list[View]]) -> list[Result]:
        """One frame of each target, those that are lost last; mutates them. What one of them is, no other is."""
        views = iter(seen)
        followed = [target for target in targets if target.state != "lost"]
        options = [self._options(target, view) for target, (view,) in zip(followed, views, strict=False)]
        assigned = assign(followed, options, self.judge.score)
        results = [self._follow(target, frame, *one) for target, one in zip(followed, assigned, strict=True)]
        taken = [target.box for target in followed if target.state == "tracking"]
        for target, around in zip(targets[len(followed) :], views, strict=True):
            results.append(self._recover(target, around, taken))
            taken += [target.box] if target.state == "tracking" else []
        self._keep(frame, targets, results)
        return results

    # --- following

    def _follow(self, target: Target, frame: Image, found: Found, theirs: float) -> Result:
        """One frame of a target that is tracked or uncertain; mutates it.

        While it is uncertain its box stays, and what may be it is followed. theirs: the probability that what was found
        is another target; where there is one, this one does not move.
        """
        assert target.reference
        rules, track = self.rules, target.followed
        p = self.judge.score(found) * (1 - theirs)
        odds = log_odds(p)
        if p < rules.sure and not theirs:
            found = self.judge.verify(target, found)
            odds = self.judge.odds(found)
        target.seen = found
        belief = self._believe(track, max(odds, -rules.doubt))
        box = found.smoothed(track.box)
        if theirs and belief > rules.lost:
            target.followed, target.state = track.again(track.box, track.patch, belief), "uncertain"
        elif belief > rules.uncertain:
            target.put(track.again(keep_inside(box, frame), found.patch, belief))
            if p >= rules.likely:
                target.reference = target.reference.after(found)
        elif belief > rules.lost:
            target.followed, target.state = track.again(box, found.patch, belief), "uncertain"
        else:
            target.followed, target.state, target.scan = Track(box, found.patch), "lost", 0
        return Result(target.followed.box, p, state=target.state)

    def _believe(self, track: Track, odds: float) -> float:
        """The belief in a track after one more frame with these log-odds.

        A Bayes filter of two states, there and gone: the target may have left or come back, then the frame is heard.
        """
        before = sigmoid(track.belief)
        there = before * (1 - self.rules.leave) + (1 - before) * self.rules.back
        return log_odds(there) + odds

    def _options(self, target: Target, view: View) -> list[tuple[float, Found]]:
        """What may be the track that is followed, the best first: by a closer look, and near the last box."""
        last = target.followed.box
        peaks, expected = self.engine.peaks(view, last, PEAKS), view.window.to_crop(last)
        size = math.sqrt(expected.w * expected.h)
        asked = [
            (view, peaks, k, math.dist(peaks[k, :2], expected.centre) / size)
            for k in range(len(peaks))
            if k == 0 or peaks[k, 4] > self.rules.candidate
        ]

        def odds(found: Found) -> float:
            return log_odds(self.judge.score(found)) + self.rules.stay * overlap(found.box, last)

        found = self.judge.examine(target, last, asked)
        return sorted(((odds(one), one) for one in found), key=lambda option: -option[0])

    def _keep(self, frame: Image, targets: Sequence[Target], results: list[Result]) -> None:
        """Every few frames keep the frame, one copy for all who are sure in it; mutates the targets."""
        sure, old = [], False
        for target, result in zip(targets, results, strict=True):
            if target.kept:
                target.kept = replace(target.kept, age=target.kept.age + 1)
            if target.seen and target.state == "tracking" and result.score >= self.rules.likely:
                sure.append((target, target.seen.patch))
                old |= target.kept is None or target.kept.searched or target.kept.age >= self.rules.every
        if old:
            copied = self.copies.of(frame)
            for target, patch in sure:
                target.kept, target.distractors = Kept(copied, target.box, patch), []

    # --- finding again

    def _recover(self, target: Target, views: list[View], taken: Sequence[Box] = ()) -> Result:
        """One frame of a lost target; mutates it.

        Frames in which it is searched and frames in which candidates get a closer look take turns. What was followed
        when it was lost still is, until there is more belief in a candidate from the start. taken: boxes of other
        targets, which it cannot be.
        """
        rules, before = self.rules, target.followed
        seen = self.judge.verify(target, self._options(target, views[0])[0][1])
        known, candidates = [seen.box, *taken], list[Found]()
        if len(views) > 1:
            target.waiting = self.search.candidates(target, views[1:], known)
        else:
            now, target.waiting = target.waiting[: target.passes], target.waiting[target.passes :]
            looks = self.search.look_closer(target, views[0].frame, now)
            candidates = [found for found in looks if is_none_of(found.box, known)]
        own, *odds = (self._odds(target, found, taken) for found in (seen, *candidates))
        belief = self._believe(before, own)
        target.seen, target.followed = seen, before.again(seen.smoothed(before.box), seen.patch, belief)
        for found, said in zip(candidates, odds, strict=True):
            if said > max(target.followed.belief, rules.uncertain):
                target.seen, target.followed = found, Track(found.box, found.patch, min(said, rules.strongest))
        if target.followed.seen > 1 and target.followed.belief >= rules.adopt:
            target.put(target.followed)
        self.search.meet(target)
        p = 0.0 if is_taken(target.followed.box, taken) else self.judge.score(target.seen)
        return Result(target.followed.box, p, state=target.state)

    def _odds(self, target: Target, found: Found, taken: Sequence[Box]) -> float:
        """The log-odds that something is the lost target: what speaks for it, less what it has of others."""
        odds = -self.rules.doubt if is_taken(found.box, taken) else self.judge.odds(found)
        if odds > self.rules.uncertain:
            odds -= self.rules.others * self.search.like_others(target, found)
        return max(odds, -self.rules.doubt)
