"""Lists of clips as a data set, with real video through the real decoder."""

import cv2
import numpy as np
import pytest
from test_benchmark_report import bench

from tracker.benchmark import events
from tracker.benchmark.run.runner import evaluate
from tracker.errors import SourceError
from tracker.footage import decoder as frames
from tracker.footage.check import check
from tracker.footage.decoder import ClipFrame, Decoder, read_clip_frame
from tracker.footage.layouts import entries, load, select

SIZE = (96, 72)


def write_clip(folder, count=30, offset=0):
    """A video of grey frames, each of another grey: frame i reads about offset + 6 i."""
    folder.mkdir(parents=True)
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25.0, SIZE)
    assert writer.isOpened()
    for index in range(count):
        image = np.full((SIZE[1], SIZE[0], 3), offset + 6 * index, np.uint8)
        x = 10 + index
        image[20:40, x : x + 20] = np.random.default_rng(5).integers(0, 255, (20, 20, 1))
        writer.write(image)
    writer.release()


def write_boxes(folder, rows):
    (folder / "boxes.csv").write_text("frame,id,x,y,w,h\n" + "".join(f"{','.join(map(str, row))}\n" for row in rows))


def grey(image):
    return float(image[60:, :].mean())


@pytest.fixture
def clips(tmp_path):
    """Two clips: one with the targets 0 and 7, of which 7 comes later and is away for two frames; one with no id."""
    write_clip(tmp_path / "set" / "a")
    rows = [(t, 0, 10 + t, 20, 20, 20) for t in range(30)]
    rows += [(t, 7, 10 + t, 20, 20, 20) for t in range(5, 20) if t not in (9, 10)]
    write_boxes(tmp_path / "set" / "a", rows)
    write_clip(tmp_path / "set" / "b", offset=20)
    (tmp_path / "set" / "b" / "boxes.csv").write_text(
        "frame,x,y,w,h\n" + "".join(f"{t},{10 + t},20,20,20\n" for t in range(12))
    )
    (tmp_path / "list.tsv").write_text("clip\tid\tboxes\tfirst\nset/a\t0\t30\t0\nset/a\t7\t13\t5\nset/b\t\t12\t0\n")
    return tmp_path


def test_a_list_names_targets_that_start_at_their_first_box(clips):
    whole, later, alone = load(clips / "list.tsv", "clips")
    assert [s.name for s in (whole, later, alone)] == ["a-0", "a-7", "b"]
    assert [len(s) for s in (whole, later, alone)] == [30, 15, 12]
    assert (later.frames[0].index, later.frames[-1].index, later.fps) == (5, 19, 25.0)
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(later.boxes[:, 0])), [4, 5])
    np.testing.assert_array_equal(later.boxes[0], [15, 20, 20, 20])
    assert grey(later.image(0)) == pytest.approx(30, abs=4)
    assert grey(alone.image(3)) == pytest.approx(38, abs=4)


def test_the_clips_may_lie_elsewhere_and_a_folder_is_a_list_of_all_its_targets(clips):
    (clips / "lists").mkdir()
    (clips / "list.tsv").rename(clips / "lists" / "list.tsv")
    named = [name for name, _ in entries(clips / "lists" / "list.tsv", "clips", None, clips)]
    assert named == ["a-0", "a-7", "b"]
    assert [s.name for s in load(clips / "set", "clips")] == ["a-0", "a-7", "b"]
    assert check(clips / "set", "clips") == []


def test_frames_are_the_same_in_any_order(clips, monkeypatch):
    path = clips / "set" / "a" / "clip.mp4"
    forward = [Decoder(path).read(index) for index in range(30)]
    decoder = Decoder(path)
    opened = []
    known = frames.video.frames
    monkeypatch.setattr(frames.video, "frames", lambda *given: opened.append(given) or known(*given))
    for index in range(30):
        np.testing.assert_array_equal(decoder.read(index), forward[index])
    for index in (3, 29, 11):
        np.testing.assert_array_equal(decoder.read(index), forward[index])
    assert len(opened) == 1  # decoded once: what was seen is kept
    monkeypatch.setattr(frames, "KEPT_BYTES", 3 * forward[0].nbytes)
    monkeypatch.setattr(frames, "BEHIND", 4)
    small = Decoder(path)
    for index in [*range(30), *reversed(range(30)), 17, 2]:
        np.testing.assert_array_equal(small.read(index), forward[index])
        assert len(small.kept) <= 3


def test_a_tracker_cannot_spoil_what_the_next_one_sees(clips):
    frame = ClipFrame(clips / "set" / "a" / "clip.mp4", 4)
    first = read_clip_frame(frame)
    first[:] = 0
    assert grey(read_clip_frame(frame)) == pytest.approx(24, abs=4)
    with pytest.raises(SourceError, match="frame 99"):
        read_clip_frame(ClipFrame(frame.clip, 99))


class Oracle:
    """Follows the patch; where it is away, nothing is right."""

    def init(self, image, box):
        self.x, self.y, self.w, self.h = box

    def update(self, image):
        self.x += 1
        return (self.x, self.y, self.w, self.h)


def test_frames_without_a_row_are_tracked_through_and_not_judged(clips):
    _, later, _ = load(clips / "list.tsv", "clips")
    assert evaluate(Oracle(), [later])["a-7"].success_auc == 1.0
    assert evaluate(Oracle(), [later], "strict")["a-7"].success_auc == pytest.approx(20 / 21)
    assert evaluate(Oracle(), [later], "otb")["a-7"].success_auc == pytest.approx(20 / 21 * 13 / 15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("folder,id\na,0\n", "must name a column `clip`"),
        ("clip,id\na,0,3\n", "line 2: 3 columns"),
        ("clip,first\nset/b,soon\n", "not a frame number"),
        ("clip\n", "no target in it"),
    ],
)
def test_a_bad_list_is_one_sentence(clips, text, message, capsys):
    (clips / "bad.csv").write_text(text)
    assert bench(clips / "bad.csv", "--trackers", "ncc", "--workers", 0, "--out", clips / "out") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("set/none,0", "no such folder"),
        ("set/a,9", "no target 9"),
        ("set/a,", "2 targets; name one"),
        ("set/c,", "two boxes of one target on one frame"),
        ("set/d,", "a box on frame 40, the video has 30 frames"),
        ("set/e,", "no video files"),
        ("set/f,", "no column w, h"),
        ("set/g,", "clip.mp4"),
    ],
)
def test_a_bad_clip_is_named_and_the_rest_goes_on(clips, line, message):
    write_clip(clips / "set" / "c")
    write_boxes(clips / "set" / "c", [(0, 0, 1, 1, 5, 5), (0, 0, 2, 2, 5, 5)])
    write_clip(clips / "set" / "d")
    write_boxes(clips / "set" / "d", [(40, 0, 1, 1, 5, 5)])
    (clips / "set" / "e").mkdir()
    write_clip(clips / "set" / "f")
    (clips / "set" / "f" / "boxes.csv").write_text("frame,id,x,y\n0,0,1,1\n")
    (clips / "set" / "g").mkdir()
    (clips / "set" / "g" / "clip.mp4").write_bytes(b"not a video")
    write_boxes(clips / "set" / "g", [(0, 0, 1, 1, 5, 5)])
    (clips / "list.csv").write_text(f"clip,id\n{line}\nset/b,\n")
    sequences, problems = select(entries(clips / "list.csv", "clips", None))
    assert [s.name for s in sequences] == ["b"]
    assert len(problems) == 1 and message in problems[0]


def test_bench_reads_a_list_and_its_workers_decode_it(clips, capsys):
    words = [clips / "list.tsv", "--trackers", "ncc,identity", "--out", clips / "out", "--workers", 1, "--strips", 1]
    assert bench(*words, "--sequences", "a-7,b,nothing") == 1
    shown = capsys.readouterr()
    assert "left out: nothing: no such sequence" in shown.err
    assert "rule strict" in shown.out
    assert "too few to tell" in shown.out
    assert bench(clips / "list.tsv", "--check") == 0
    assert "a-7: 15 frames, 15 boxes (2 absent), first box 15, 20, 20, 20" in capsys.readouterr().out


def test_events_happen_in_clips(clips):
    write_clip(clips / "set" / "long", count=36)
    write_boxes(clips / "set" / "long", [(t, 0, 10 + t, 20, 20, 20) for t in range(36)])
    sequences = load(clips / "set" / "long", "clips")
    happened = events.all_events(sequences, ["blackout"])
    events.write_events(happened, clips / "events", quiet=True)
    (written,) = events.load_events(clips / "events")
    dark = [t for t in range(36) if written.sequence.image(t).max() < 8]
    assert dark == list(range(written.start, written.stop))
    assert grey(written.sequence.image(35)) == pytest.approx(210, abs=4)
