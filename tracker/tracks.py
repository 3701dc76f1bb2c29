"""The policy of calibrated weights: the states tracking, uncertain and lost, and the way back.

In every frame the evidence for the found box becomes a probability that it is right (`config.Confidence`), the score.
In doubt, what was found is verified: the refiner compares it with how the target lately looked. While belief is low the
position is held; when it stays low the target is lost, and from then on the surroundings and then the whole frame are
searched, a few windows a frame. A candidate from elsewhere must be seen again, and not be refuted, before it is taken
for the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tracker.config import Confidence, LongTerm
from tracker.crop import Image
from tracker.engine import Engine, View, keep_inside
from tracker.evidence import Judge, log_odds
from tracker.geometry import CropWindow
from tracker.search import LEAST, PEAKS, SAME, Search, overlap
from tracker.target import Found, Kept, Result, Target, Track


class TrackPolicy:
    """Follows targets, says when one is lost, and finds it again.

    The belief that the target is being followed gathers the log-odds of each frame, and forgets, since targets leave
    and come back; with `LongTerm.uncertain` and `LongTerm.lost` it makes the states, see `tracker.Tracker`.
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
        target.kept = Kept(frame.copy(), target.box, target.reference.look)
        target.put(Track(target.box, target.reference.look, self.rules.strongest))

    def windows(self, frame: Image, target: Target, passes: int = LEAST) -> list[CropWindow]:
        """What to search in the next frame; mutates the target, see `Search.windows`."""
        return list(self.search.windows(frame, target, passes))

    def update(self, frame: Image, targets: Sequence[Target], seen: Sequence[list[View]]) -> list[Result]:
        """One frame of each target; mutates them."""
        found = []
        for target, views in zip(targets, seen, strict=True):
            follow = self._recover if target.state == "lost" else self._follow
            found.append(follow(target, views))
        self._keep(frame, targets, found)
        return found

    # --- following

    def _follow(self, target: Target, views: list[View]) -> Result:
        """One frame of a target that is tracked or uncertain; mutates it.

        While it is uncertain its box stays, and what may be it is followed.
        """
        assert target.reference
        rules, frame, track = self.rules, views[0].frame, target.followed
        found = self._track(target, views[0])
        p = self.judge.score(found)
        odds = log_odds(p)
        if p < rules.sure:
            found = self.judge.verify(target, found)
            odds = self.judge.odds(found)
        target.seen = found
        belief = self._believe(track, max(odds, -rules.doubt))
        box = found.smoothed(track.box)
        if belief > rules.uncertain:
            target.put(track.again(keep_inside(box, frame), found.patch, belief))
            if p >= rules.likely:
                target.reference = target.reference.after(found)
        elif belief > rules.lost:
            target.followed, target.state = track.again(box, found.patch, belief), "uncertain"
        else:
            target.followed, target.state, target.scan = Track(box, found.patch), "lost", 0
            target.waiting, target.owed = (), False
        return Result(target.followed.box, p, state=target.state)

    def _believe(self, track: Track, odds: float) -> float:
        """The belief in a track after one more frame with these log-odds.

        A Bayes filter of two states, there and gone: the target may have left or come back, then the frame is heard.
        """
        before = (1 + math.tanh(track.belief / 2)) / 2
        there = before * (1 - self.rules.leave) + (1 - before) * self.rules.back
        return log_odds(there) + odds

    def _track(self, target: Target, view: View) -> Found:
        """What a view says of the track that is followed.

        Where several peaks may be the target, it is the one whose closer look is the best, near the last box rather
        than elsewhere.
        """
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

        return max(self.judge.examine(target, last, asked), key=odds)

    def _keep(self, frame: Image, targets: Sequence[Target], results: list[Result]) -> None:
        """Every few frames keep the frame, one copy for all who are sure in it; mutates the targets."""
        rules, copied = self.rules, None
        for target, result in zip(targets, results, strict=True):
            if target.kept:
                target.kept = replace(target.kept, age=target.kept.age + 1)
            old = target.kept is None or target.kept.searched or target.kept.age >= rules.every
            if old and target.seen and target.state == "tracking" and result.score >= rules.likely:
                copied = frame.copy() if copied is None else copied  # the caller may write on
                target.kept = Kept(copied, target.box, target.seen.patch)
                target.distractors = []

    # --- finding again

    def _recover(self, target: Target, views: list[View]) -> Result:
        """One frame of a lost target: when there is belief enough in a candidate, the way back; mutates the target.

        A track is followed with the belief that it has gathered; at first that which was followed when the target was
        lost. A candidate from elsewhere takes its place when there is more belief in it from the start.
        """
        rules, before, frame = self.rules, target.followed, views[0].frame
        seen = self.judge.verify(target, self._track(target, views[0]))
        turn = not (target.yields and target.waiting)  # else a candidate looks back first
        odds = self._odds(target, seen, frame) if turn else None
        belief = before.belief if odds is None else self._believe(before, odds)
        followed = before.again(seen.smoothed(before.box), seen.patch, belief)
        target.seen, target.followed = seen, followed
        target.yields = turn and odds is not None
        for found in self.search.candidates(target, frame, views[1:], [seen.box]):
            if overlap(found.box, seen.box) >= SAME:
                continue
            odds = self._odds(target, found, frame)
            if odds is None:
                target.waiting = (*target.waiting, found.box)
            elif odds > max(target.followed.belief, rules.uncertain):
                target.seen, target.followed = found, Track(found.box, found.patch, min(odds, rules.strongest))
        if target.followed is followed and followed.belief >= rules.adopt:
            target.put(followed)
        self.search.meet(target)
        return Result(target.followed.box, self.judge.score(target.seen), state=target.state)

    def _odds(self, target: Target, found: Found, frame: Image) -> float | None:
        """The log-odds that a candidate is the lost target: what speaks for it, less what it has of others.

        None: there are no passes left to look back for it.
        """
        odds = self.judge.odds(found)
        if odds > self.rules.uncertain:
            if not self.search.may_look_back(target):
                return None
            self.search.look_back(target, found, frame)
            odds -= self.rules.others * self.search.like_others(target, found)
        return max(odds, -self.rules.doubt)
