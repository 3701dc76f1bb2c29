"""Events made in footage: what is painted, what is written, how a tracker's answers are judged."""

import json
import shutil

import cv2
import numpy as np
import pytest

from tracker.benchmark.events import KINDS, Painter, Written, all_events, happen, load_events, other_colours
from tracker.benchmark.events import write_events as write
from tracker.benchmark.judge.fates import auroc, fate, judge, summarise
from tracker.benchmark.results import Run
from tracker.cli import main
from tracker.errors import DataError
from tracker.footage.sequence import Sequence

COUNT, SIZE = 48, (240, 160)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """Two real folders of pictures: a textured square that walks over a textured ground, and the ground alone."""
    found = []
    for name in ("walk", "run"):
        rng = np.random.default_rng(len(found))
        folder = tmp_path_factory.mktemp(name)
        ground = cv2.resize(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
        patch = cv2.resize(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8), (30, 30), interpolation=cv2.INTER_NEAREST)
        files, boxes = [], []
        for t in range(COUNT):
            frame, x = ground.copy(), 10 + 4 * t
            frame[60:90, x : x + 30] = patch[:, : SIZE[0] - x]
            files.append(folder / f"{t:04d}.png")
            cv2.imwrite(str(files[-1]), frame)
            boxes.append((x, 60, 30, 30))
        cv2.imwrite(str(folder / "ground.png"), ground)
        found.append(Sequence(name, tuple(files), np.array(boxes, np.float64), fps=10.0))
    return found


def test_the_target_is_painted_out_by_what_other_frames_show_behind_it(sequences):
    walk = sequences[0]
    ground = cv2.imread(str(walk.frames[0].parent / "ground.png")).astype(int)
    painter = Painter(walk)
    for index in (18, 30):
        before = walk.image(index)
        after = painter.without_target(index).astype(int)
        assert np.abs(before.astype(int) - ground).max() > 100
        assert np.abs(after - ground).mean() < 0.2 and np.quantile(np.abs(after - ground), 0.999) < 30
        assert np.array_equal(walk.image(index), before)


def test_without_another_view_the_place_is_filled_from_its_edges(sequences):
    still = Sequence("still", sequences[0].frames[:1] * 30, np.repeat(sequences[0].boxes[:1], 30, 0))
    frame, painted = still.image(5), Painter(still).without_target(5)
    changed = np.abs(frame.astype(int) - painted).max(2) > 0
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed[60:90, 10:40].mean() > 0.95
    assert rows[0] >= 48 and rows[-1] <= 101 and columns[-1] <= 51  # the rest of the picture is as it was


@pytest.mark.parametrize("kind", KINDS)
def test_events_last_one_to_three_seconds_and_leave_time_to_come_back(sequences, kind):
    event = happen(sequences[0], kind, sequences[1:], seed=4)
    assert event.start == COUNT // 3 and 10 <= event.stop - event.start <= COUNT // 3
    assert event == happen(sequences[0], kind, sequences[1:], seed=4)
    absent = np.isnan(event.boxes).any(1)
    inside = np.zeros(COUNT, bool)
    inside[event.start : event.stop] = True
    if kind in ("freeze", "lookalike"):
        assert not absent.any()
    else:
        assert np.array_equal(absent, inside)


@pytest.mark.parametrize("begin", [0.01, 0.15, 0.6])
def test_an_event_begins_where_it_is_told(sequences, begin):
    event = happen(sequences[0], "blackout", sequences[1:], begin=begin)
    assert event.start == max(1, int(COUNT * begin)) and 10 <= event.stop - event.start <= COUNT // 3
    assert event.stop < COUNT


@pytest.mark.parametrize("begin", [0.0, 2 / 3, -1.0, float("nan")])
def test_a_share_that_leaves_no_room_is_named(sequences, begin):
    with pytest.raises(ValueError, match=r"a share of the sequence between 0 and 2/3, got"):
        all_events(sequences, begin=begin)


def test_what_the_frames_of_an_event_show(sequences):
    walk, other = sequences
    painter = Painter(walk)
    seen = {}
    for event in all_events([walk, other]):
        if event.sequence is walk:
            seen[event.kind] = event, event.image(event.start + 2, painter)
    assert set(seen) == set(KINDS)
    event, frame = seen["freeze"]
    assert np.array_equal(frame, walk.image(event.start - 1))
    assert not seen["blackout"][1].any()
    event, frame = seen["cut"]
    assert event.other is other and np.array_equal(frame, other.image(2))
    event, frame = seen["lookalike"]
    x, y, w, h = event.copy_box(event.start + 2)
    rows, columns = np.nonzero(np.abs(frame.astype(int) - walk.image(event.start + 2)).max(2) > 20)
    assert rows.min() == pytest.approx(y, abs=3) and rows.max() == pytest.approx(y + h, abs=3)
    assert columns.min() == pytest.approx(x, abs=3) and columns.max() == pytest.approx(x + w, abs=3)
    event, frame = seen["imposter"]
    assert event.copy_box(event.start + 2) == tuple(walk.boxes[event.start - 1])
    x, y, w, h = map(int, walk.boxes[event.start - 1])
    source = other_colours(walk.image(event.start - 1))[y : y + h, x : x + w][:, ::-1]
    middle = np.s_[h // 2 - 6 : h // 2 + 6, w // 2 - 6 : w // 2 + 6]
    assert np.abs(frame[y : y + h, x : x + w][middle].astype(int) - source[middle]).mean() < 5


def test_short_or_absent_targets_have_no_events(sequences):
    walk = sequences[0]
    assert happen(walk.part(0, 20), "erased", []) is None
    assert happen(walk, "cut", []) is None
    gone = walk.boxes.copy()
    gone[20] = np.nan
    assert happen(Sequence("gone", walk.frames, gone), "erased", []) is None


def test_events_are_written_and_read_back(sequences, tmp_path):
    events = [e for e in all_events(sequences) if e.kind in ("erased", "lookalike", "blackout")]
    half = tmp_path / f".{events[0].name}.partial" / "img"
    half.mkdir(parents=True)
    (half / "000000.jpg").write_bytes(b"cut short")
    write(events, tmp_path, quiet=True)
    assert not list(tmp_path.glob(".*"))
    read = {w.sequence.name: w for w in load_events(tmp_path)}
    assert set(read) == {e.name for e in events}
    for event in events:
        one = read[event.name]
        assert (one.kind, one.start, one.stop, one.sequence.fps) == (event.kind, event.start, event.stop, 10.0)
        assert np.array_equal(one.sequence.boxes, event.boxes, equal_nan=True)
        assert np.array_equal(one.sequence.image(0), event.sequence.image(0))
        assert len(one.copies) == (event.stop - event.start if event.kind == "lookalike" else 0)
    stamp = (tmp_path / events[0].name / "event.json").stat().st_mtime_ns
    write(events, tmp_path, quiet=True)
    assert (tmp_path / events[0].name / "event.json").stat().st_mtime_ns == stamp
    (tmp_path / events[0].name / "event.json").write_text(json.dumps({"kind": "erased"}))
    with pytest.raises(DataError, match=r"event\.json: not an event"):
        load_events(tmp_path)


def test_fate_by_hand(sequences):
    walk = sequences[0]
    boxes = walk.boxes.copy()
    boxes[16:24] = np.nan
    event = Written(Sequence("x", walk.frames, boxes), "imposter", 16, 24, np.repeat(walk.boxes[15:16], 8, 0))
    answers, lost = walk.boxes.copy(), np.zeros(COUNT, bool)
    answers[16:24] = walk.boxes[15]  # the copy is followed for two frames
    lost[18:27] = True  # then it is lost until 3 frames after the event
    lost[40] = True  # one false alarm
    got = fate(event, answers, lost)
    assert got == (8, 6, 15 + COUNT - 28, 1, COUNT - 16, 2, 2, 0, 3.0)  # it goes on after frames 26 and 40
    never = fate(event, answers, np.arange(COUNT) >= 16)
    assert never.back == np.inf and never.noticed == 8 and never.wrong == 0 and never.alarms == 0
    far = answers.copy()
    far[24:] = (0, 0, 5, 5)
    assert fate(event, far, np.zeros(COUNT, bool)).wrong == 8 + COUNT - 24
    far[30:] = walk.boxes[30:]
    lost_once = (np.arange(COUNT) >= 20) & (np.arange(COUNT) < 28)
    misled = fate(event, far, lost_once)  # it goes on in frame 28, which is no target's place
    assert (misled.adopted, misled.misled) == (1, 1)
    on_copy = fate(event, answers, np.arange(COUNT) == 16)  # it goes on in frame 17, with the copy
    assert (on_copy.adopted, on_copy.misled) == (1, 1)
    assert summarise([got, misled, on_copy])["wrong_adoptions"] == 0.5
    beside = walk.boxes + np.array([0.4, 0, 0, 0]) * walk.boxes[:, 2:3]  # a copy that half covers the target
    crossing = Written(walk, "lookalike", 16, 24, beside[16:24])
    assert fate(crossing, beside, np.arange(COUNT) == 16).misled == 1
    assert fate(crossing, walk.boxes, np.arange(COUNT) == 16).misled == 0
    total = summarise([got, never])
    assert (
        total["absent_called_lost"] == 14 / 16 and total["came_back"] == 0.5 and total["frames_to_come_back"] == np.inf
    )
    assert np.isnan(fate(Written(walk, "freeze", 16, 24, np.empty((0, 4))), answers, lost).back)


def test_events_are_judged_together_by_kind_and_without_imposters(sequences):
    walk, rng = sequences[0], np.random.default_rng(0)
    boxes = walk.boxes.copy()
    boxes[16:24] = np.nan
    copies = {kind: walk.boxes[15:16].repeat(8, 0) if kind == "imposter" else np.empty((0, 4)) for kind in KINDS}
    events = [Written(Sequence(kind, walk.frames, boxes), kind, 16, 24, copies[kind]) for kind in KINDS]
    runs = [Run(np.column_stack([walk.boxes, rng.random(COUNT), np.zeros((COUNT, 5))])) for _ in KINDS]
    together = judge(events, runs)
    assert list(together) == ["all", "all but imposter", *KINDS]
    assert together["all but imposter"] == judge(events[:-1], runs[:-1])["all"] != together["all"]
    assert together["imposter"] == judge(events[-1:], runs[-1:])["all"]


def test_auroc_by_hand():
    assert auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])) == 0.75
    assert auroc(np.array([0.5, 0.5]), np.array([True, False])) == 0.5
    assert np.isnan(auroc(np.array([0.5]), np.array([True])))


def test_bench_events_judges_trackers_on_real_files(sequences, tmp_path, capsys):
    """One that never says anything, one that knows all: through the command, its workers and its files."""
    root = tmp_path / "data"
    for sequence in sequences:
        (root / sequence.name / "img").mkdir(parents=True)
        for index in range(len(sequence)):
            shutil.copy(sequence.frames[index], root / sequence.name / "img" / f"{index:04d}.png")
        rows = [",".join(map(str, box)) for box in sequence.boxes.tolist()]
        (root / sequence.name / "groundtruth_rect.txt").write_text("\n".join(rows))
    out = tmp_path / "out"
    command = ["bench", str(root), "--zero-based", "--trackers", "identity,ncc", "--events", "--out", str(out)]
    assert main([*command, "--workers", "0"]) == 0
    said = capsys.readouterr().out
    assert "12 events" in said and "| identity |" in said
    judged = json.loads((out / "events.json").read_text())
    assert judged["identity"]["all"]["absent_called_lost"] == 0 and judged["identity"]["all"]["false_alarms"] == 0
    assert judged["ncc"]["blackout"]["absent_called_lost"] == 1
    assert list(judged["ncc"]) == ["all", "all but imposter", *KINDS]
    assert (out / "reliability.png").stat().st_size > 1000 and "imposter" in (out / "events.md").read_text()
    early = [*command, "--workers", "0", "--begin", "0.2"]
    assert main(early) == 0
    begun: dict[str, set[int]] = {}
    for about in out.glob("events-*/*/event.json"):
        begun.setdefault(about.parent.parent.name, set()).add(json.loads(about.read_text())["start"])
    assert begun == {f"events-0-{1 / 3}": {COUNT // 3}, "events-0-0.2": {int(COUNT * 0.2)}}
    assert main([*early[:-1], "0.7"]) == 2 and "between 0 and 2/3, got 0.7" in capsys.readouterr().err
