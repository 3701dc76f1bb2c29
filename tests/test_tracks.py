"""The tracker that knows: evidence, belief, states, distractors and the way back."""

import tracemalloc
import weakref
from dataclasses import is_dataclass, replace

import cv2
import numpy as np
import pytest

from tracker import Tracker
from tracker.checkpoints import load_network
from tracker.config import Logistic, LongTerm
from tracker.copies import Copies
from tracker.evidence import log_odds
from tracker.exclusion import TAKEN
from tracker.geometry import Box, CropWindow, iou, overlap
from tracker.graphs import MOST
from tracker.scene import Scene
from tracker.search import LEAST, PEAKS, WIDER, whole_frame
from tracker.target import EVIDENCE, VERIFIED, Track

SIZE = (320, 240)


@pytest.fixture(scope="module")
def tracker():
    return Tracker.load("swift", device="cpu", engine="torch")


@pytest.fixture(scope="module")
def scene():
    return Scene(SIZE, 100, seed=3)


def follow(tracker, monkeypatch, scene, probabilities):
    """Results of an engine whose evidence is replaced: one frame of the scene for each probability."""
    said = iter(probabilities)
    target = tracker.init(scene.render(0), scene.box(0))
    now = [1.0]
    monkeypatch.setattr(Logistic, "probability", lambda self, evidence: now[0])
    results = []
    for t, p in enumerate(said, 1):
        now[0] = p
        results.append((tracker.update(scene.render(t), target), target.box, target.state))
    return results


def test_belief_makes_the_states(tracker, monkeypatch, scene):
    results = follow(tracker, monkeypatch, scene, [1.0] * 3 + [0.0] * 20)
    states = [state for *_, state in results]
    assert states[:3] == ["tracking"] * 3
    first = {state: states.index(state) for state in ("uncertain", "lost")}
    assert 3 < first["uncertain"] < first["lost"] <= 3 + 8
    assert all(bool(result) == (result.state != "lost") for result, *_ in results)
    held = [box for _, box, state in results if state != "tracking"]
    assert all(box == held[0] for box in held)  # nothing convinces: position and size stay, also when lost


def test_one_bad_frame_is_forgiven_and_a_good_one_ends_doubt(tracker, monkeypatch, scene):
    results = follow(tracker, monkeypatch, scene, [1.0, 0.0, 1.0, 0.0, 0.0, 0.99, 1.0])
    states = [state for *_, state in results]
    assert "lost" not in states and states[1] == "tracking" and states[-1] == "tracking"


def test_while_uncertain_the_box_stays_and_what_may_be_the_target_is_followed(tracker, monkeypatch, scene):
    results = follow(tracker, monkeypatch, scene, [*[0.05] * 3, 1.0, 1.0])
    uncertain = [box for _, box, state in results if state == "uncertain"]
    assert len(uncertain) >= 2 and len(set(uncertain)) == 1
    assert "lost" not in [state for *_, state in results] and results[-1][2] == "tracking"
    assert float(iou(np.array(results[-1][1]), np.array(scene.box(5)))) > 0.5  # it goes on from there


def test_a_blackout_is_noticed_and_the_target_found_again(tracker, scene):
    target = tracker.init(scene.render(0), scene.box(0))
    black = np.zeros_like(scene.render(0))
    states, overlaps = [], []
    for t in range(1, 80):
        result = tracker.update(black if 25 <= t < 50 else scene.render(t), target)
        states.append(result.state)
        overlaps.append(float(iou(np.array(result.box), np.array(scene.box(t)))))
    assert "lost" not in states[:24]
    assert states[24:49].count("lost") >= 15 and states[48] == "lost"
    back = states.index("tracking", 49)
    assert back <= 49 + 10 and overlaps[back] > 0.5
    assert states[60:].count("tracking") >= 15


def test_a_target_is_first_looked_for_where_it_was_lost(tracker, monkeypatch, scene):
    target = tracker.init(scene.render(0), scene.box(0))
    monkeypatch.setattr(tracker.policy.judge, "odds", lambda found: -14.0)
    monkeypatch.setattr(tracker.policy.judge, "score", lambda found: 0.0)
    target.scan = 5  # where the search before ended
    for t in range(1, 10):
        tracker.update(scene.render(t), target)
        if target.state == "lost":
            break
    windows = tracker.policy.windows(scene.render(t + 1), target, LEAST)
    assert windows[1] == tracker.config.search_window(target.box) and windows[2] != windows[1]


def test_no_window_is_searched_twice_in_one_frame(tracker, scene):
    target = tracker.init(scene.render(0), scene.box(0))
    target.state, target.kept, target.box = "lost", None, Box(90, 60, 20, 20)  # so small that there are many windows
    for passes in (LEAST, LEAST, 9, 400):  # more than there are windows
        _, *windows = tracker.policy.windows(scene.render(1), target, passes)
        assert len(set(windows)) == len(windows) > 1
        assert target.passes == passes - 1 - len(windows)


def test_the_last_place_and_windows_of_the_whole_frame_take_turns(tracker, scene):
    frame, target = scene.render(1), tracker.init(scene.render(0), scene.box(0))
    target.state, target.kept, target.box = "lost", None, Box(90, 60, 20, 20)
    last, first, count = tracker.config.search_window(target.box), None, 0
    for _ in range(99):  # two in each frame, until it begins anew
        _, here, elsewhere = tracker.policy.windows(frame, target, 3)
        if elsewhere == first:
            break
        first, count = first or elsewhere, count + 1
        assert here == last
    wide = tracker.config.search_window(target.box, WIDER)
    assert count == len(whole_frame(wide, *SIZE)) > 4


@pytest.mark.parametrize("again", [True, False])
def test_one_strong_look_does_not_bring_a_lost_target_back_and_two_do(tracker, monkeypatch, scene, again):
    target = tracker.init(scene.render(0), scene.box(0))
    monkeypatch.setattr(tracker.policy.judge, "odds", lambda found: -14.0)
    monkeypatch.setattr(tracker.policy.judge, "score", lambda found: 0.0)
    for t in range(1, 10):
        tracker.update(scene.render(t), target)
    assert target.state == "lost"
    strong = replace(target.seen, box=Box(250, 180, 40, 40))
    target.waiting = (strong.box,)
    with monkeypatch.context() as patch:
        patch.setattr(tracker.policy.search, "look_closer", lambda *args: [strong])
        patch.setattr(tracker.policy.judge, "odds", lambda found: 14.0 if found is strong else -14.0)
        assert tracker.update(scene.render(10), target).state == "lost"
    assert (target.followed.box, target.followed.belief) == (strong.box, tracker.policy.rules.strongest)
    if again:
        monkeypatch.setattr(tracker.policy.judge, "odds", lambda found: 14.0)
        assert tracker.update(scene.render(11), target).state == "tracking"
    else:
        for t in range(11, 16):
            assert tracker.update(scene.render(t), target).state == "lost"


@pytest.mark.parametrize("passes", [LEAST, 9])
def test_a_lost_target_costs_no_more_than_it_may_and_what_is_left_goes_on(tracker, monkeypatch, passes):
    engine, spent = tracker.engine, []
    look = engine.look

    def counted(frame, asked):
        spent[-1] += sum(len(windows) for _, windows in asked)
        return look(frame, asked)

    target = tracker.init(*twins(0, True))
    tracker.update(twins(1, True)[0], target)
    monkeypatch.setattr(engine, "look", counted)
    monkeypatch.setattr(tracker.policy.judge, "odds", lambda found: 0.0)  # all may be it, none is
    monkeypatch.setattr(tracker.policy.judge, "rules", replace(tracker.policy.rules, candidate=-99.0, adopt=99.0))
    target.state, target.followed = "lost", Track(target.box, belief=tracker.policy.rules.lost)
    for t in range(2, 40):
        spent.append(0)
        frame, _ = twins(t, True)
        windows = tracker.policy.windows(frame, target, passes)
        tracker.policy.update(frame, [target], engine.look(frame, [(target.appearance, windows)]))
    assert max(spent) <= passes and np.mean(spent) > 0.8 * LEAST  # few are left over
    assert target.kept.searched and target.scan > 8  # both frames were searched all over


def test_what_is_known_takes_no_place_among_the_candidates(tracker, monkeypatch):
    frame, box = twins(0, True)
    target = tracker.init(frame, box)
    other = Box(400 - box.w / 2, 270 - box.h / 2, box.w, box.h)
    windows = [tracker.config.search_window(place) for place in (box, other)]
    (views,) = tracker.engine.look(frame, [(target.appearance, windows)])
    monkeypatch.setattr(tracker.policy.judge, "rules", replace(tracker.policy.rules, closer=1))
    (best,) = tracker.policy.search.candidates(target, views, [])
    (next_best,) = tracker.policy.search.candidates(target, views, [best])
    assert overlap(best, box) > 0.5 and overlap(next_best, other) > 0.5


def test_what_is_likely_the_target_is_asked_frame_by_frame_until_it_is_believed(tracker, monkeypatch, scene):
    target = tracker.init(scene.render(0), scene.box(0))
    tracker.update(scene.render(1), target)
    rules = tracker.policy.rules
    monkeypatch.setattr(tracker.policy.search, "like_others", lambda *args: 0.0)
    monkeypatch.setattr(tracker.policy.judge, "odds", lambda found: 1.0)
    target.state, target.followed = "lost", Track(target.box, belief=rules.lost)
    states = [tracker.update(scene.render(t), target).state for t in range(2, 12)]
    assert states.index("tracking") <= 6 and rules.adopt > 1  # though one such frame says little
    assert not target.waiting  # when it is lost again, the search begins anew


def test_a_candidate_from_elsewhere_is_tried_when_it_is_not_too_doubtful(tracker, monkeypatch, scene):
    rules = tracker.policy.rules
    for odds, tried in ((rules.uncertain + 0.1, True), (rules.uncertain - 0.1, False)):
        target = tracker.init(scene.render(0), scene.box(0))
        tracker.update(scene.render(1), target)
        elsewhere = replace(target.seen, box=Box(4, 4, 20, 20))
        target.box = Box(290, 200, 20, 20)  # both are far from the last place
        target.state, target.followed = "lost", Track(Box(*scene.box(1)), belief=rules.lost)
        target.waiting = (elsewhere.box,)
        with monkeypatch.context() as patch:
            patch.setattr(tracker.policy.search, "look_closer", lambda *args, found=elsewhere: [found])
            patch.setattr(
                tracker.policy.judge, "odds", lambda found, e=elsewhere, odds=odds: odds if found is e else -14.0
            )
            tracker.update(scene.render(2), target)
        assert (target.followed.box == elsewhere.box) == tried and target.state == "lost"
        assert not tried or target.followed.belief == odds


def test_belief_forgets_and_neutral_frames_decide_nothing(tracker, monkeypatch, scene):
    """Odds of 1 : 1 say nothing: belief goes to the share of time in which targets are there, from both sides."""
    results = follow(tracker, monkeypatch, scene, [0.5] * 40)
    assert {state for *_, state in results} == {"tracking"}
    rules = tracker.policy.rules
    settled = np.log(rules.back / rules.leave)
    assert tracker.target.followed.belief == pytest.approx(settled, abs=0.1)
    follow(tracker, monkeypatch, scene, [1.0] * 40)
    monkeypatch.setattr(Logistic, "probability", lambda self, evidence: 0.5)
    tracker.update(scene.render(41))
    assert tracker.target.followed.belief == pytest.approx(rules.strongest, abs=0.01)  # however long it was certain


def test_many_targets_equal_one_by_one_whatever_their_state(tracker, scene):
    boxes = [scene.box(0), (20, 20, 40, 40), (200, 150, 50, 40)]

    def start():
        targets = [tracker.init(scene.render(0), box) for box in boxes]
        targets[1].state, targets[1].followed = "lost", Track(targets[1].box)
        return targets

    def go(targets, together):
        found = []
        for t in range(1, 4):
            frame = scene.render(t)
            if together:
                found.append(tracker.update_all(frame, targets))
            else:
                found.append([tracker.update(frame, target) for target in targets])
        return found

    for one, many in zip(go(start(), False), go(start(), True), strict=True):
        for a, b in zip(one, many, strict=True):
            assert a.state == b.state
            assert b.box == pytest.approx(a.box, abs=0.05) and b.score == pytest.approx(a.score, abs=1e-2)


def test_without_confidence_it_follows_whatever_happens(scene):
    net = load_network("tracker/weights/swift.safetensors")
    net.config = replace(net.config, confidence=None)
    tracker = Tracker(net, device="cpu", engine="torch")
    target = tracker.init(scene.render(0), scene.box(0))
    frames = [scene.render(t) for t in range(1, 4)] + [np.zeros_like(scene.render(0))] * 12
    results = [tracker.update(frame) for frame in frames]
    assert overlap(results[2].box, Box(*scene.box(3))) > 0.5 and target.reference is None
    assert {result.state for result in results} == {"tracking"}


def test_of_several_peaks_the_closer_look_decides_and_the_last_box(tracker, monkeypatch, scene):
    last, far = Box(100, 100, 40, 40), Box(150, 100, 40, 40)
    target = tracker.init(scene.render(0), last)
    window = tracker.policy.windows(scene.render(0), target)[0]
    view = tracker.engine.look_once(scene.render(0), target.appearance, window)
    crops = [window.to_crop(box) for box in (far, last)]
    peaks = np.array([[*c.centre, c.w, c.h, 4.0 - i, 1.0, 1.0] for i, c in enumerate(crops)])
    monkeypatch.setattr(tracker.engine, "peaks", lambda *args: peaks)
    original = tracker.policy.judge.examine

    def put_in_place(target, last, asked):
        seen = original(target, last, asked)
        return [replace(found, box=(far, last)[k]) for found, (_, _, k, _) in zip(seen, asked, strict=True)]

    monkeypatch.setattr(tracker.policy.judge, "examine", put_in_place)
    for odds_of_far, chosen in ((0.0, 1), (tracker.policy.rules.stay - 0.1, 1), (tracker.policy.rules.stay + 0.1, 0)):
        said = {far: 1 / (1 + np.exp(-odds_of_far)), last: 0.5}
        monkeypatch.setattr(tracker.policy.judge, "score", lambda found, said=said: said[found.box])
        tracker.policy.update(view.frame, [target], [[view]])
        assert target.seen.box == (far, last)[chosen]
        target.put(Track(last))


def test_the_strongest_peak_gets_a_closer_look_however_weak_it_is_and_no_other_one(tracker, scene):
    target, black = tracker.init(scene.render(0), scene.box(0)), np.zeros_like(scene.render(0))
    (window,) = tracker.policy.windows(black, target)
    view = tracker.engine.look_once(black, target.appearance, window)
    logits = tracker.engine.peaks(view, target.box, PEAKS)[:, 4]
    assert len(logits) > 1 and -8 < logits[0] < tracker.policy.rules.candidate
    tracker.update(black, target)
    assert target.seen.logit == pytest.approx(logits[0])


def test_what_is_in_doubt_and_candidates_are_verified(tracker, monkeypatch, scene):
    looks = []
    original = tracker.policy.judge.verify
    monkeypatch.setattr(tracker.policy.judge, "verify", lambda *args: looks.append(1) or original(*args))
    follow(tracker, monkeypatch, scene, [1.0] * 6)
    assert not looks
    results = follow(tracker, monkeypatch, scene, [0.6] * 6)
    assert len(looks) == 6 and {state for *_, state in results} == {"tracking"}
    looks.clear()
    results = follow(tracker, monkeypatch, scene, [0.0] * 12)
    lost = sum(state == "lost" for *_, state in results)
    followed = 12 - lost + 1  # the frame that makes it lost is one in which it is still followed
    assert lost > 3 and followed + lost - 1 <= len(looks) <= followed + (lost - 1) * (1 + tracker.policy.rules.closer)


def test_the_score_does_not_depend_on_the_state_and_verification_moves_the_belief(tracker, monkeypatch, scene):
    for verified, states in ((0.0, {"tracking", "uncertain", "lost"}), (0.45, {"tracking"})):
        said = {len(EVIDENCE): 0.4, len(VERIFIED): verified}
        target = tracker.init(scene.render(0), scene.box(0))
        with monkeypatch.context() as patch:
            patch.setattr(Logistic, "probability", lambda self, evidence, said=said: said[len(evidence)])
            results = [tracker.update(scene.render(t), target) for t in range(1, 9)]
        assert {result.state for result in results} == states
        assert [result.score for result in results] == [0.4] * 8


def test_the_first_look_is_usual_until_another_one_is_known(tracker, scene):
    target = tracker.init(scene.render(0), scene.box(0))
    tracker.update(scene.render(1), target)
    quality, looks = EVIDENCE.index("quality"), VERIFIED.index("usual look")
    new = tracker.init(scene.render(0), scene.box(0))
    asked = tracker.policy.judge.verify(new, target.seen)
    assert asked.evidence[looks] == pytest.approx(asked.evidence[quality], abs=1e-3)
    new.reference = replace(new.reference, patch=target.seen.patch)  # it always looked as it does now
    assert tracker.policy.judge.verify(new, target.seen).evidence[looks] > asked.evidence[looks] + 0.1
    foreign = tracker.policy.judge.verify(tracker.init(scene.render(0), (20, 20, 40, 40)), target.seen)
    assert foreign.evidence[looks] < asked.evidence[looks] - 1


def test_reference_follows_what_is_likely_right_and_nothing_else(tracker, monkeypatch, scene):
    for p, frames in ((0.6, 4), (0.2, 0)):
        follow(tracker, monkeypatch, scene, [p] * 4)
        reference = tracker.target.reference
        assert reference.frames == frames and (reference.logit is None) == (frames == 0)


@pytest.mark.parametrize("side", [50.0, 200.0, 900.0])
def test_windows_cover_the_whole_frame_the_nearest_first(side):
    w, h = side, 0.7 * side
    centres = np.array(whole_frame(CropWindow.around((40, 50), w, h, 209), 640, 480))
    rng = np.random.default_rng(0)
    points = rng.uniform((0, 0), (640, 480), (200, 2))
    distance = (np.abs(points[:, None] - centres[None]) / (w, h)).max(2).min(1)
    assert distance.max() <= 1 / 2
    for centre, length, window in zip(centres.T, (640, 480), (w, h), strict=True):
        assert len(set(centre)) <= max(2 * length / window, 1)  # they overlap by half, not by more
    away = np.hypot(*(centres - (40, 50)).T)
    assert (np.diff(away) >= 0).all()


def test_probability_and_log_odds():
    confidence = Logistic((1.0, -2.0), 0.5)
    assert confidence.probability([2.0, 1.0]) == pytest.approx(1 / (1 + np.exp(-0.5)))
    assert confidence.probability([1e6, 0.0]) == 1 and confidence.probability([-1e6, 0.0]) == 0
    assert log_odds(0.8) == pytest.approx(np.log(4)) and np.isfinite([log_odds(0.0), log_odds(1.0)]).all()
    assert overlap(Box(0, 0, 2, 2), Box(1, 0, 2, 2)) == pytest.approx(1 / 3)


def test_shipped_weights_come_with_a_confidence_for_this_evidence():
    net = load_network("tracker/weights/swift.safetensors")
    confidence = net.config.confidence
    assert confidence and len(confidence.following.weights) == len(EVIDENCE)
    assert len(confidence.verified.weights) == len(VERIFIED)


def twins(t, there):
    """Frame `t` of two who look nearly the same, far from each other; the first one leaves in between."""
    painted = Scene(SIZE, 2, seed=0)
    left, top, width, height = (round(v) for v in painted.box(0))
    own = painted.render(0)[top : top + height, left : left + width]
    frame = Scene((480, 360), 2, seed=50).render(0)

    def put(sprite, cx, cy):
        frame[cy - height // 2 :, cx - width // 2 :][:height, :width] = sprite

    put(own[:, ::-1] * np.float32(0.8) + 10, 400 + t % 7, 270)
    if there:
        put(own, 100 + t, 80)
    return frame, Box(100 + t - width // 2, 80 - height // 2, width, height)


def test_who_stood_beside_the_target_is_not_taken_for_it(tracker, monkeypatch):
    target = tracker.init(*twins(0, True))
    for t in range(1, 8):
        tracker.update(twins(t, True)[0], target)
    assert target.state == "tracking" and target.kept and not target.distractors
    gone = [tracker.update(twins(t, False)[0], target).state for t in range(8, 36)]
    assert gone.count("lost") > 1
    assert target.distractors and gone[-1] == "lost" and "tracking" not in gone[gone.index("lost") :]
    assert target.kept.searched  # all of the kept frame

    frame, box = twins(35, True)
    other = Box(400 - box.w / 2, 270 - box.h / 2, box.w, box.h)
    more = {}
    for name, place in (("own", box), ("other", other)):
        found = look_at(tracker, frame, target, place)
        more[name] = LongTerm.others * tracker.policy.search.like_others(target, found)
    assert more["other"] > 1 > 0.5 > more["own"]  # it was seen beside the target

    results = [tracker.update(twins(t, True)[0], target) for t in range(36, 44)]
    assert results[-1].state == "tracking" and overlap(results[-1].box, twins(43, True)[1]) > 0.5


def look_at(tracker, frame, target, box):
    """What is found in a window around `box`."""
    view = tracker.engine.look_once(frame, target.appearance, tracker.config.search_window(box))
    (found,) = tracker.policy.judge.examine(target, box, [(view, tracker.engine.peaks(view, box, 4), 0, 0.0)])
    return found


@pytest.mark.parametrize("said", [-30.0, 30.0])
def test_one_answer_of_the_refiner_does_not_outweigh_all_else(tracker, monkeypatch, scene, said):
    target = tracker.init(scene.render(0), scene.box(0))
    found = look_at(tracker, scene.render(1), target, target.box)
    monkeypatch.setattr(tracker.engine, "likenesses", lambda known, seen: [said] * len(known))
    assert abs(tracker.policy.judge.verify(target, found).evidence[-1]) == 8


def test_the_size_follows_the_more_the_better_the_score(tracker, scene):
    target, frame = tracker.init(scene.render(0), scene.box(0)), scene.render(1)
    view = tracker.engine.look_once(frame, target.appearance, tracker.config.search_window(target.box))
    peaks = tracker.engine.peaks(view, target.box, 1)
    peaks[0, 5] = 0.8  # of another shape
    for logit, share in ((-9, 0), (0, 0.5), (9, 1)):
        peaks[0, 4] = logit
        (found,) = tracker.policy.judge.examine(target, target.box, [(view, peaks, 0, 0.0)])
        assert found.rate == pytest.approx(0.8 * share * tracker.config.tracking.size_lr, abs=1e-3)


def test_a_frame_is_kept_every_few_sure_frames_one_copy_for_all(tracker, monkeypatch, scene):
    every, buffer = tracker.policy.rules.every, scene.render(0).copy()
    targets = [tracker.init(buffer, scene.box(0)) for _ in range(2)]
    first = [target.kept for target in targets]
    monkeypatch.setattr(tracker.policy.judge, "score", lambda found: 1.0)
    for t in range(1, every + 1):
        assert [target.kept.frame is one.frame for target, one in zip(targets, first, strict=True)] == [True] * 2
        buffer[:] = scene.render(t)
        targets[0].distractors = [Track(Box(0, 0, 9, 9), np.zeros((1, 64, 16, 16), np.float32))]
        tracker.update_all(buffer, targets)
    kept = targets[0].kept
    assert kept.frame is targets[1].kept.frame and kept.box == targets[0].box
    assert not targets[0].distractors
    buffer[:] = 0  # the caller writes on
    assert np.array_equal(kept.frame, scene.render(every)) and np.array_equal(first[0].frame, scene.render(0))
    monkeypatch.setattr(tracker.policy.judge, "score", lambda found: tracker.policy.rules.likely - 0.01)
    for t in range(every + 1, 2 * every + 2):
        tracker.update_all(scene.render(t), targets)
    assert targets[0].kept.frame is kept.frame  # in doubt none is kept


def test_what_counts_is_being_more_like_a_distractor_than_like_the_target(tracker, scene):
    target = tracker.init(scene.render(0), scene.box(0))
    tracker.update(scene.render(1), target)
    found = tracker.policy.judge.verify(target, target.seen)
    assert tracker.policy.search.like_others(target, found) == 0.0  # nobody is known
    unlike = np.zeros_like(found.patch)

    def alike(patch):
        return tracker.engine.likenesses([patch], found.patch)[0]

    assert alike(found.patch) > alike(unlike)
    target.distractors = [Track(found.box, unlike), Track(found.box, found.patch)]
    target.reference, seen = replace(target.reference, patch=unlike), target.kept
    target.kept = replace(seen, patch=unlike)
    assert tracker.policy.search.like_others(target, found) == pytest.approx(
        alike(found.patch) - alike(unlike), abs=1e-4
    )
    target.kept = replace(seen, patch=found.patch)  # as much like the target in the same frame
    assert tracker.policy.search.like_others(target, found) == 0.0
    target.reference, target.kept = (
        replace(target.reference, patch=found.patch),
        replace(seen, patch=unlike),
    )  # or lately
    assert tracker.policy.search.like_others(target, found) == 0.0


def pair(t, both):
    """Frame `t` of two that look the same, side by side; the right one may be gone. Their boxes."""
    painted = Scene(SIZE, 2, seed=0)
    left, top, width, height = (round(v) for v in painted.box(0))
    own = painted.render(0)[top : top + height, left : left + width]
    frame = Scene((480, 360), 2, seed=50).render(0)
    boxes = [Box(150 + t, 120, width, height), Box(150 + width + 6 + t, 120, width, height)]
    for box in boxes if both else boxes[:1]:
        frame[box.y :, box.x :][:height, :width] = own
    return frame, boxes


def test_no_two_targets_claim_one_box(tracker):
    frame, boxes = pair(0, True)
    targets = [tracker.init(frame, box) for box in boxes]
    for t in range(1, 30):
        frame, boxes = pair(t, t < 8)
        left, right = tracker.update_all(frame, targets)
        assert left.state == "tracking" and overlap(left.box, boxes[0]) > 0.6
        if t < 8:
            assert right.state == "tracking" and overlap(right.box, boxes[1]) > 0.6
        if overlap(left.box, right.box) >= TAKEN:  # a guess that is the other one
            assert right.state == "lost" and right.score < 0.1, t
    assert right.state == "lost"
    for t in range(30, 50):
        frame, boxes = pair(t, True)
        left, right = tracker.update_all(frame, targets)
    assert right.state == left.state == "tracking" and overlap(right.box, boxes[1]) > 0.6


def test_what_is_found_to_be_another_target_is_not_believed_and_does_not_move(tracker, monkeypatch):
    """The left one vanishes, and in its window there is but the right one, which is sure of itself."""
    peaks = tracker.engine.peaks
    monkeypatch.setattr(tracker.engine, "peaks", lambda view, last, count, *args, **more: peaks(view, last, 1, *args))
    empty, (frame, boxes) = Scene((480, 360), 2, seed=50).render(0), pair(0, True)
    targets = [tracker.init(frame, box) for box in boxes]
    for t in range(1, 10):
        frame, boxes = pair(t, True)
        if t >= 8:
            x, y, w, h = boxes[0]
            frame[y : y + h, x : x + w] = empty[y : y + h, x : x + w]
        left, right = tracker.update_all(frame, targets)
        assert right.state == "tracking" and overlap(right.box, boxes[1]) > 0.6
        assert left.state == ("tracking" if t < 8 else "uncertain") and overlap(left.box, boxes[0]) > 0.6
        assert (left.score < 0.1) == (t >= 8)


def test_two_targets_that_began_in_one_place_may_stay_there(tracker, scene):
    targets = [tracker.init(scene.render(0), scene.box(0)) for _ in range(2)]
    for t in range(1, 10):
        results = tracker.update_all(scene.render(t), targets)
        assert [result.state for result in results] == ["tracking"] * 2


def test_copies_share_memory_with_none_that_is_held():
    copies, frame = Copies(), np.zeros((90, 120, 3), np.uint8)
    first = copies.of(frame)
    second = copies.of(frame + 1)
    assert not np.shares_memory(first, second) and not np.shares_memory(first, frame)
    place = first.__array_interface__["data"][0]
    del first
    third = copies.of(frame + 2)
    assert third.__array_interface__["data"][0] == place
    assert (second == 1).all() and (third == 2).all()
    del third
    assert copies.of(frame[:50]).shape == (50, 120, 3)


def owners(thing):
    """The arrays whose memory hangs on what a tracker knows: their ids, and bytes."""
    if isinstance(thing, np.ndarray):
        while isinstance(thing.base, np.ndarray):
            thing = thing.base
        return {id(thing): thing.nbytes}
    parts = vars(thing).values() if is_dataclass(thing) else thing if isinstance(thing, list | tuple) else ()
    return {name: size for part in parts for name, size in owners(part).items()}


def test_a_target_more_takes_little_memory(scene):
    """Counted by arrays: whether an engine's own memory is seen by Python depends on its version."""
    tracker = Tracker.load("swift", device="cpu", engine="onnxruntime")
    runner, answers, most = tracker.engine.runner, [], 0

    def compare(features, crops):
        nonlocal answers, most
        answer = runner.compare(features, crops)
        answers = [one for one in answers if one() is not None] + [weakref.ref(row[0]) for row in answer.levels]
        most = max(most, len(answers))
        return answer

    tracker.engine.runner = runner._replace(compare=compare)

    def held(count):
        targets = [tracker.init(scene.render(0), scene.box(0)) for _ in range(count)]
        for t in range(1, 5):
            tracker.update_all(scene.render(t), targets)
        assert {target.state for target in targets} == {"tracking"}
        return sum(owners(targets).values())

    few, many = held(10), held(26)
    assert (many - few) / 16 < 0.35e6  # bytes; a frame is 0.2e6, the features of a search 0.5e6
    assert most <= 2 * MOST  # those that are looked at, and the next ones


def test_no_frame_is_allocated_while_tracking(scene):
    tracker = Tracker.load("swift", device="cpu", engine="onnxruntime")
    large = [cv2.copyMakeBorder(scene.render(t), 360, 360, 480, 480, cv2.BORDER_REFLECT) for t in range(8)]
    x, y, w, h = np.add(scene.box(0), (480, 360, 0, 0)).tolist()
    targets = [tracker.init(large[0], (x, y, w, h)), tracker.init(large[0], (x + 9, y, w, h))]

    def go(frames):
        for t in range(frames):
            tracker.update_all(large[min(t, 14 - t) % 8], targets)  # there and back

    go(15)
    assert {target.state for target in targets} == {"tracking"}
    assert targets[0].kept.frame is targets[1].kept.frame
    tracemalloc.start()
    go(2 * tracker.policy.rules.every)
    begin, _ = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    go(2 * tracker.policy.rules.every)
    end, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert targets[0].kept.age < tracker.policy.rules.every  # some were kept meanwhile
    # ONNX Runtime 1.17 shows what its network gives, 1.2 MB, where later ones do not
    assert peak - begin < large[0].nbytes / 2 and abs(end - begin) < 5e4


@pytest.mark.parametrize("box", [(10, 10, 1e-6, 1e-6), (10, 10, 1e-6, 30)])
def test_a_hopeless_target_does_not_take_the_others_down(tracker, scene, box):
    alone, beside, hopeless = (tracker.init(scene.render(0), b) for b in (scene.box(0), scene.box(0), box))
    for t in range(1, 9):
        one = tracker.update(scene.render(t), alone)
        two, three = tracker.update_all(scene.render(t), [beside, hopeless])
        assert two.box == pytest.approx(one.box, abs=0.1) and np.isfinite(three.box).all()


@pytest.mark.parametrize("shape", [(120, 480, 3), (480, 120, 3)])
def test_a_lost_target_is_searched_in_all_of_the_frame_and_nowhere_else(tracker, shape):
    frame = np.full(shape, 90, np.uint8)
    target = tracker.init(frame, (50, 50, 20, 20))
    target.state, target.kept = "lost", None
    seen = [window for _ in range(200) for window in tracker.policy.windows(frame, target, LEAST)]
    centres = np.array([(window.x + window.w / 2, window.y + window.h / 2) for window in seen])
    assert (centres > 0).all() and (centres < (shape[1], shape[0])).all()
    assert min(window.x for window in seen) <= 0 and max(window.x + window.w for window in seen) >= shape[1]
    assert min(window.y for window in seen) <= 0 and max(window.y + window.h for window in seen) >= shape[0]
