"""Real files through the real decoder: a bar code in every frame says which frame it is."""

import http.server
import os
import subprocess
import sys
import threading
import time
import warnings
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tracker.errors import SourceError
from tracker.footage.output import check_output
from tracker.footage.video import CameraReader, SourceWarning, VideoReader, VideoWriter, frames, masked

SIZE = (160, 120)
_TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8), (0, 0), 1)


def picture(number):
    """A textured frame that carries its number as eight black or white squares."""
    image = _TEXTURE[number : number + SIZE[1], 2 * number : 2 * number + SIZE[0]].copy()
    for bit in range(8):
        image[:16, 16 * bit : 16 * bit + 16] = 255 * (number >> bit & 1)
    return image


def number_of(image):
    return sum(int(image[8, 16 * bit + 8].mean() > 128) << bit for bit in range(8))


def numbers(source):
    return [number_of(frame.image) for frame in source]


def write_clip(path, count=40, fps=25, code="mp4v"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, SIZE)
    assert writer.isOpened()
    for i in range(count):
        writer.write(picture(i))
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


def write_folder(path, names):
    path.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        assert cv2.imwrite(str(path / name), picture(i))
    return path


# --- files


def test_file_gives_every_frame_once(clip):
    with frames(clip) as source:
        assert (source.length, source.fps, source.size) == (40, 25.0, SIZE)
        got = list(source)
    assert [number_of(f.image) for f in got] == [f.index for f in got] == list(range(40))
    assert np.allclose([f.time for f in got], np.arange(40) / 25)
    assert got[0].image.shape == (120, 160, 3) and got[0].image.dtype == np.uint8
    assert source.skipped == source.dropped == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (7, 19), (13, None), (39, None), (38, 99)])
def test_range_is_exact(clip, start, stop):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a stop past the end is no damage
        with frames(clip, start, stop) as source:
            got = list(source)
    wanted = list(range(40))[start:stop]
    assert [number_of(f.image) for f in got] == [f.index for f in got] == wanted
    assert source.length == len(wanted)
    assert np.isclose(got[0].time, start / 25)


def test_source_is_an_iterator_and_releases_on_break(clip):
    with frames(str(clip)) as source:
        assert number_of(next(source).image) == 0
        for frame in source:
            assert frame.index == 1
            break
        capture = source._capture
        assert capture.isOpened()
    assert not capture.isOpened()
    with pytest.raises(SourceError, match="closed"):
        next(source)


def test_source_releases_on_exception_and_at_the_end(clip):
    with pytest.raises(RuntimeError, match="boom"), frames(clip) as source:
        raise RuntimeError("boom")
    assert not source._capture.isOpened()
    whole = frames(clip)
    assert len(list(whole)) == 40 and not whole._capture.isOpened()
    assert list(whole) == []


# --- damage


def test_damage_in_the_middle_does_not_end_the_run(tmp_path):
    path = write_clip(tmp_path / "hurt.mp4", 60)
    data = bytearray(path.read_bytes())
    hole = int(len(data) * 0.3)
    data[hole : hole + 3000] = np.random.default_rng(5).integers(0, 255, 3000, np.uint8).tobytes()
    path.write_bytes(data)
    plain = cv2.VideoCapture(str(path))
    alone = sum(1 for _ in iter(plain.grab, False))
    assert alone < 60  # the decoder alone gives up: otherwise this test would show nothing
    with pytest.warns(SourceWarning, match=r"frames \d+ to \d+ cannot be decoded"), frames(path) as source:
        got = list(source)
    assert len(got) > alone and got[-1].index == 59 and number_of(got[-1].image) == 59
    assert source.skipped == 60 - len(got) > 0
    late = [f for f in got if f.index > 50]
    assert [number_of(f.image) for f in late] == [f.index for f in late]  # indices are true again behind the hole


@pytest.mark.parametrize("code", ["MJPG", "XVID"])
def test_early_end_is_told_with_numbers(tmp_path, code):
    path = write_clip(tmp_path / "cut.avi", 40, code=code)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with frames(path) as source, pytest.warns(SourceWarning, match=r"ended after \d+ of the 40 frames"):
        got = numbers(source)
    assert 5 < len(got) < 35 and got[:-1] == list(range(len(got) - 1))  # the last one is half a picture
    assert source.skipped == 40 - len(got) and source.truncated


def test_cut_mp4_is_refused(clip, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:-2000])
    with pytest.raises(SourceError, match=r"cut\.mp4 is not a video, or truncated"):
        frames(cut)


def test_files_that_are_no_video(tmp_path):
    with pytest.raises(SourceError, match=r"none\.mp4' does not exist; allowed: a video file or pipe, a folder"):
        frames(tmp_path / "none.mp4")
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(SourceError, match="is empty"):
        frames(tmp_path / "empty.mp4")
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    with pytest.raises(SourceError, match="not a video"):
        frames(tmp_path / "text.mp4")
    with pytest.raises(SourceError, match="empty string"):
        frames("")


def test_bad_arguments(clip):
    with pytest.raises(SourceError, match="start 40 lies past the end, the video has 40 frames"):
        frames(clip, 40)
    for start, stop in ((-1, None), (5, 5), (5, 4)):
        with pytest.raises(ValueError, match="0 <= start < stop"):
            frames(clip, start, stop)
    for source in (None, 1.0, True, b"clip.mp4"):
        with pytest.raises(TypeError, match="allowed: a video file"):
            frames(source)


# --- images


def test_folder_in_natural_order(tmp_path):
    folder = write_folder(tmp_path / "img", [f"f{i}.png" for i in range(12)])
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"")
    with frames(folder) as source:
        assert (source.length, source.fps, source.size) == (12, None, SIZE)
        got = list(source)
    assert [number_of(f.image) for f in got] == [f.index for f in got] == list(range(12))
    assert np.allclose([f.time for f in got], np.arange(12) / 30)
    with frames(folder, 3, 9) as source:
        assert source.length == 6 and numbers(source) == list(range(3, 9))


def test_glob(tmp_path):
    write_folder(tmp_path / "img", [f"a{i}.png" for i in range(11)])
    write_folder(tmp_path / "img", ["b0.png"])
    with frames(str(tmp_path / "img" / "a*.png")) as source:
        assert numbers(source) == list(range(11))
    with pytest.raises(SourceError, match="matches no image"):
        frames(str(tmp_path / "img" / "c*.png"))


def test_a_name_with_brackets_is_a_name_first(clip, tmp_path):
    path = tmp_path / "clip[1].mp4"
    path.write_bytes(clip.read_bytes())
    with frames(str(path), stop=3) as source:
        assert numbers(source) == [0, 1, 2]


def test_unreadable_images_are_skipped_and_counted(tmp_path):
    folder = write_folder(tmp_path / "img", [f"{i}.png" for i in range(6)])
    (folder / "0.png").write_bytes(b"")
    (folder / "3.png").write_bytes(b"not a picture")
    for name, target in (("4.png", "4.png"), ("6.png", "on another disk.png")):  # links
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    (folder / "Thumbs.db").write_bytes(b"of Windows")
    with pytest.warns(SourceWarning) as told, frames(folder) as source:
        got = list(source)
    faults = ("0.png", "3.png: not a readable image", "4.png: no such file", "6.png: no such file")
    assert all(fault in str(one.message) for fault, one in zip(faults, told, strict=True))
    assert [f.index for f in got] == [number_of(f.image) for f in got] == [1, 2, 5]
    assert source.skipped == 4 and source.length == 7
    for path in folder.glob("[!46].png"):
        path.write_bytes(b"not a picture")
    with pytest.warns(SourceWarning), pytest.raises(SourceError, match="no frame could be decoded"):
        frames(folder)


def test_folders_without_images(tmp_path):
    with pytest.raises(SourceError, match=r"folder without images \(\.jpg"):
        frames(tmp_path)
    folder = write_folder(tmp_path / "img", ["0.png"])
    with pytest.raises(SourceError, match="start 1 lies past the end, there are 1 images"):
        frames(folder, 1)


# --- live sources


class Paced:
    """A video file that plays at its own rate, or at the push of a button, like a camera."""

    def __init__(self, path, period=0.0, hang_at=None):
        self.capture, self.period, self.hang_at = cv2.VideoCapture(str(path)), period, hang_at
        self.count, self.released, self.go_on = 0, 0, threading.Event()

    def get(self, prop):
        return self.capture.get(prop)

    def read(self):
        if self.count == self.hang_at:
            self.go_on.wait(30)
        self.count += 1
        time.sleep(self.period)
        return self.capture.read()

    def release(self):
        self.released += 1
        self.capture.release()


def test_camera_hands_over_the_newest_frame_and_counts_the_dropped(clip):
    capture = Paced(clip, period=0.002, hang_at=30)
    with CameraReader(capture, "camera 7") as source:
        assert (source.size, source.length, source.fps) == (SIZE, None, 25.0)
        while capture.count < 30:
            time.sleep(0.002)
        time.sleep(0.02)
        frame = next(source)
        assert frame.index == number_of(frame.image) == 29
        assert source.dropped == 29
        capture.go_on.set()
        frame = next(source)
        assert frame.index == number_of(frame.image) >= 30
        assert source.dropped == frame.index - 1
    assert capture.released == 1 and not source._thread.is_alive()


def test_camera_times_rise_with_the_clock(clip):
    with CameraReader(Paced(clip, period=0.01), stop=10) as source:
        got = list(source)
    times = [f.time for f in got]
    assert times[0] < 0.1 and np.all(np.diff(times) > 0.009)
    assert [f.index for f in got] == [number_of(f.image) for f in got] and got[-1].index == 9


def test_camera_range(clip):
    with CameraReader(Paced(clip), start=5, stop=6) as source:
        assert numbers(source) == [5]
        assert source.dropped == 0


def test_a_camera_of_16_bits_of_grey_is_shown_and_empty_frames_are_dropped(clip):
    class Thermal(Paced):
        def read(self):
            ok, image = super().read()
            if self.count % 3 == 1:
                return True, np.empty((0, 0, 3), np.uint8)
            return ok, None if image is None else (7000 + 5 * image[:, :, 0].astype(np.uint16))

    with (
        pytest.warns(SourceWarning, match="values are uint16; 7"),
        CameraReader(Thermal(clip, 0.01), stop=12) as source,
    ):
        got = list(source)
    assert len(got) + source.dropped == 12 and source.dropped >= 4
    assert all(frame.image.shape == (*SIZE[::-1], 3) and frame.image.dtype == np.uint8 for frame in got)
    assert all(frame.index % 3 and frame.image.max() > 200 for frame in got)


def test_lost_camera_is_an_error_after_its_last_frame(clip):
    capture = Paced(clip)
    with CameraReader(capture, "camera 7") as source:
        source._thread.join(5)
        assert number_of(next(source).image) == 39
        with pytest.raises(SourceError, match="camera 7 was lost: it stopped delivering after 40 frames"):
            next(source)
    assert capture.released == 1


def test_hanging_camera_times_out(clip):
    capture = Paced(clip, hang_at=1)
    source = CameraReader(capture, "camera 7", timeout=1)
    assert number_of(next(source).image) == 0
    with pytest.raises(SourceError, match="camera 7 was lost: no frame for 1 s"):
        next(source)
    source.close()  # returns although the read still hangs
    capture.go_on.set()
    source._thread.join(5)
    assert not source._thread.is_alive() and capture.released == 1


def test_failing_driver_is_named(clip):
    class Broken(Paced):
        def read(self):
            if self.count == 3:
                raise RuntimeError("usb reset")
            return super().read()

    with CameraReader(Broken(clip)) as source, pytest.raises(SourceError, match="after 3 frames: usb reset"):
        list(source)


def test_camera_that_gives_nothing_is_refused(tmp_path):
    capture = Paced(tmp_path / "none.mp4")
    with pytest.raises(SourceError, match="after 0 frames"):
        CameraReader(capture)
    assert capture.released == 1


def test_missing_camera():
    for source in (63, "63"):
        with pytest.raises(SourceError, match="camera 63 cannot be opened"):
            frames(source)
    with pytest.raises(SourceError, match="count from 0"):
        frames(-1)


class Server(http.server.BaseHTTPRequestHandler):
    """/clip.mp4 as a file, /live as the JPEG stream of an IP camera that hangs up after 30 frames."""

    def do_GET(self):
        data = self.server.clip.read_bytes()
        begin = int((self.headers["Range"] or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if begin else 200)
        if begin:  # the decoder looks for the index of an mp4 at its end
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            data = data[begin:]
        self.send_header("Accept-Ranges", "bytes")
        if self.path == "/drops":  # and comes back
            self.server.calls += 1
            first = 10 * (self.server.calls - 1)
        if self.path in ("/live", "/drops"):
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for i in range(30) if self.path == "/live" else range(first, first + 10):
                data = cv2.imencode(".jpg", picture(i))[1].tobytes()
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
                self.wfile.write(data + b"\r\n")
                time.sleep(0.01)
        else:
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def address(clip):
    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # the decoder hangs up when it has seen enough

    with Quiet(("127.0.0.1", 0), Server) as server:
        server.clip, server.calls = clip, 0
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_recording_behind_an_address(address):
    with frames(f"{address}/clip.mp4") as source:
        assert isinstance(source, VideoReader) and source.length == 40
        assert numbers(source) == list(range(40))


def test_live_stream_behind_an_address(address):
    got = []
    with (
        frames(f"{address}/live", patience=0) as source,
        pytest.raises(SourceError, match=r"/live was lost: .* after \d+ frames"),
    ):
        assert isinstance(source, CameraReader) and source.length is None
        for frame in source:
            assert number_of(frame.image) == frame.index
            got.append(frame.index)
    assert len(got) > 1 and got == sorted(got) and got[-1] >= 25
    assert source.dropped == got[-1] + 1 - len(got)


def test_dead_address():
    with pytest.raises(SourceError, match=r"rtsp://127\.0\.0\.1:9/x cannot be opened") as error:
        frames("rtsp://user:secret@127.0.0.1:9/x")
    assert "secret" not in str(error.value)


# --- writing


def test_webm_is_for_browsers_and_nothing_is_printed_past_python(tmp_path, capfd):
    path, images = tmp_path / "out.webm", [np.full((240, 320, 3), 4 * t, np.uint8) for t in range(50)]
    with VideoWriter(path, 29.97, (320, 240)) as writer:
        for image in images:
            writer.write(image)
    assert capfd.readouterr() == ("", "")
    assert path.read_bytes()[:4] == b"\x1a\x45\xdf\xa3" and b"V_VP8" in path.read_bytes()[:1000]  # Matroska, VP8
    with frames(path) as source:
        read = [frame.image.mean() for frame in source]
        assert source.length == 50 and source.fps == pytest.approx(29.97, abs=0.01)
    assert np.allclose(read, [4 * t for t in range(50)], atol=4)
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_writer_makes_a_whole_file_or_none(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoWriter(path, 20, SIZE) as writer:
        for i in range(15):
            writer.write(picture(i))
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    with frames(path) as source:
        assert (source.fps, source.size, source.length) == (20.0, SIZE, 15)
        assert numbers(source) == list(range(15))
    with pytest.raises(ValueError, match="closed"):
        writer.write(picture(0))
    with VideoWriter(tmp_path / "nothing.mp4", 20, SIZE):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_writer_keeps_what_it_has_on_an_exception(tmp_path, kind):
    with pytest.raises(kind), VideoWriter(tmp_path / "out.mp4", 25, SIZE) as writer:
        for i in range(7):
            writer.write(picture(i))
        raise kind
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    with frames(tmp_path / "out.mp4") as source:
        assert numbers(source) == list(range(7))


def test_a_video_that_the_disk_has_no_room_for_is_an_error(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"mine")
    code = f"""
import resource, numpy as np
from tracker.footage.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with VideoWriter({str(path)!r}, 25, (320, 240), force=True) as writer:
    for i in range(100):
        writer.write(np.random.default_rng(i).integers(0, 256, (240, 320, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "could not be written whole and was not kept; is the disk full?" in done.stderr
    assert path.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_writer_refuses_before_the_work(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists"):
        VideoWriter(path, 25, SIZE)
    assert path.read_bytes() == b"mine"
    with VideoWriter(path, 25, SIZE, force=True) as writer:
        assert path.read_bytes() == b"mine"  # the old file stays until the new one is whole
        writer.write(picture(3))
    with frames(path) as source:
        assert numbers(source) == [3]
    with pytest.raises(ValueError, match=r"suffix \.avi; allowed: \.mp4"):
        VideoWriter(tmp_path / "out.avi", 25, SIZE)
    with pytest.raises(FileNotFoundError, match="no folder"):
        VideoWriter(tmp_path / "none" / "out.mp4", 25, SIZE)
    for fps in (0, -1, float("nan"), 1e6):
        with pytest.raises(ValueError, match="fps"):
            VideoWriter(tmp_path / "new.mp4", fps, SIZE)
    with pytest.raises(ValueError, match="at least 2 x 2"):
        VideoWriter(tmp_path / "new.mp4", 25, (1, 50))
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_writer_takes_frames_of_other_and_odd_sizes(tmp_path):
    with VideoWriter(tmp_path / "out.mp4", 29.97, (161, 121)) as writer:
        writer.write(np.full((121, 161, 3), 90, np.uint8))
        writer.write(np.full((60, 300, 3), 90, np.uint8))
        for bad in (np.zeros((121, 161), np.uint8), np.zeros((121, 161, 3)), np.zeros((121, 161, 4), np.uint8)):
            with pytest.raises(ValueError, match=r"takes \(H, W, 3\) uint8"):
                writer.write(bad)
    with frames(tmp_path / "out.mp4") as source:
        got = list(source)
        assert source.size == SIZE and np.isclose(source.fps, 29.97)
    assert len(got) == 2 and all(abs(f.image.mean() - 90) < 3 for f in got)


def test_check_output(tmp_path, monkeypatch):
    assert check_output(str(tmp_path / "a.CSV"), (".csv", ".txt")) == Path(tmp_path / "a.CSV")
    with pytest.raises(ValueError, match=r"suffix missing; allowed: \.csv, \.txt"):
        check_output(tmp_path / "a", (".csv", ".txt"))
    (tmp_path / "dir.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        check_output(tmp_path / "dir.csv", (".csv",), force=True)
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="not writable"):
        check_output(tmp_path / "a.csv", (".csv",))


# --- names that look like something else


def test_what_is_there_is_read_whatever_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("clip.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    for value in (10, 60, 110):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    for name in ("12:30:05.mp4", "7", "tcp:1.mp4"):  # a time, a camera, a protocol
        Path(name).write_bytes(Path("clip.mp4").read_bytes())
    for folder in ("0004", "clip [1080p]"):
        Path(folder).mkdir()
        for i in range(3):
            cv2.imwrite(f"{folder}/{i}.png", np.full((48, 64, 3), 50 * i, np.uint8))
    for source in (
        "12:30:05.mp4",
        "7",
        "tcp:1.mp4",
        "0004",
        "clip [1080p]",
        "clip [1080p]/*.png",
        "clip [1080p]/[01].png",
    ):
        with frames(source) as opened:
            assert len(list(opened)) == (2 if "[01]" in source else 3), source


@pytest.mark.parametrize("suffix", [".tif", ".webp", ".png"])
def test_a_stack_of_pictures_is_refused_by_name(tmp_path, suffix):
    first, *others = [Image.new("RGB", (64, 48), (value,) * 3) for value in (10, 60, 110)]
    first.save(tmp_path / f"stack{suffix}", save_all=True, append_images=others)
    with pytest.raises(SourceError, match=rf"stack\{suffix} holds 3 pictures; write each into a file"):
        frames(tmp_path / f"stack{suffix}")
    first.save(tmp_path / f"one{suffix}")
    with frames(tmp_path / f"one{suffix}") as opened:
        assert len(list(opened)) == 1


# --- pictures that OpenCV does not show


def encode(path, codec, options=None, pixels="yuv420p", images=None, pts=None):
    """A video by PyAV, with what cv2.VideoWriter has no word for."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        try:
            stream = file.add_stream(codec, rate=25, options=options or {})
        except (av.FFmpegError, ValueError):
            pytest.skip(f"this PyAV does not encode {codec}")
        stream.width, stream.height, stream.pix_fmt = *SIZE, pixels
        stream.codec_context.time_base = Fraction(1, 25)
        for i in range(12):
            if images is None:
                frame = av.VideoFrame.from_ndarray(picture(i), format="bgr24").reformat(format=pixels)
            else:
                frame = av.VideoFrame.from_ndarray(images[i], format=pixels)
            frame.pts, frame.time_base = i if pts is None else pts[i], Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def test_interlaced_video_is_shown_or_refused_by_name(tmp_path, monkeypatch):
    path = encode(tmp_path / "tv.mkv", "mpeg2video", {"flags": "+ilme+ildct"})
    with frames(path) as source:
        assert numbers(source) == list(range(12))
    plain = cv2.VideoCapture(str(path))
    if number_of(plain.read()[1]) == 0 and number_of(plain.read()[1]) == 1:
        return  # this OpenCV decodes it
    monkeypatch.setitem(sys.modules, "av", None)  # as where it is not installed
    with pytest.raises(SourceError, match=r"tv\.mkv is interlaced video, which this OpenCV .* install PyAV"):
        frames(path)


def test_av1_is_shown_or_refused_by_name(tmp_path, monkeypatch):
    path = encode(tmp_path / "new.mp4", "libsvtav1", {"preset": "12"})
    with frames(path) as source:
        assert numbers(source) == list(range(12))
    if cv2.VideoCapture(str(path)).read()[0]:
        return
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SourceError, match=r"new\.mp4 is AV1 video, which this OpenCV .* does not decode"):
        frames(path)


def test_a_still_video_is_not_taken_for_a_broken_one(tmp_path):
    path = tmp_path / "still.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE)
    for _ in range(4):
        writer.write(picture(5))
    writer.release()
    with frames(path) as source:
        assert numbers(source) == [5] * 4


def thermal(i):
    """16-bit values around 8000 with a warm square that moves."""
    values = np.full(SIZE[::-1], 7500, np.uint16) + picture(i)[:, :, 0]
    values[40:80, 20 + 5 * i : 60 + 5 * i] = 8400
    return values


@pytest.mark.parametrize("kind", ["png", "tif", "float tif", "video"])
def test_values_of_more_than_8_bits_are_spread_over_the_range_of_the_first(tmp_path, kind):
    if kind == "video":
        path = encode(tmp_path / "t.mkv", "ffv1", pixels="gray16le", images=[thermal(i) for i in range(12)])
    else:
        path = tmp_path / "t"
        path.mkdir()
        for i in range(12):
            values = thermal(i) if kind != "float tif" else thermal(i).astype(np.float32) / 1000
            assert cv2.imwrite(str(path / f"{i}.{kind[-3:]}"), values)
    with pytest.warns(SourceWarning, match=r"values are (uint16|float32); 7.* is shown from black to white") as said:
        got = list(frames(path))
    assert len(said) == 1 and len(got) == 12
    for i, frame in enumerate(got):
        assert frame.image.dtype == np.uint8 and frame.image.shape == (120, 160, 3)
        warm = frame.image[45:75, 25 + 5 * i : 55 + 5 * i]
        assert warm.min() > 240 and frame.image[90:].mean() < 120 and frame.image[90:].std() > 5


# --- what is announced


def test_counts_that_are_estimates_are_not_taken_for_facts(tmp_path):
    varying = encode(tmp_path / "vfr.mkv", "mpeg4", pts=[0, 1, 2, 3, 10, 20, 30, 40, 50, 60, 70, 96])
    late = encode(tmp_path / "late.mkv", "mpeg4", pts=[2500 + i for i in range(12)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in (varying, late):
            with frames(path) as source:
                assert source.count() == 12 and numbers(source) == list(range(12))
                assert source.skipped == 0 and not source.truncated


def test_what_an_edit_list_cuts_away_is_not_missing(clip, tmp_path):
    data = bytearray(clip.read_bytes())
    at = data.index(b"elst") + 12  # version and flags, count, then the duration of the first edit
    whole = int.from_bytes(data[at : at + 4], "big")
    data[at : at + 4] = (whole * 7 // 10).to_bytes(4, "big")
    path = tmp_path / "cut.mp4"
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with frames(path) as source:
            got = numbers(source)
            assert got == list(range(len(got))) and len(got) in (28, 29) and source.count() == len(got)


def test_a_cut_mkv_is_told(tmp_path):
    path = encode(tmp_path / "cut.mkv", "mpeg4", {"g": "1"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with frames(path) as source, pytest.warns(SourceWarning, match=r"ended after \d+ of the 12 frames"):
        assert 0 < len(numbers(source)) < 12
    assert source.truncated


# --- what is opened, and what is not


def test_a_pipe_is_read_as_it_comes(tmp_path):
    clip, pipe = encode(tmp_path / "a.mkv", "mpeg4"), tmp_path / "pipe.mkv"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes(clip.read_bytes()))
    feeder.start()
    with frames(pipe) as source:
        assert numbers(source) == list(range(12))
    feeder.join()
    code = "from tracker import frames\nprint(len(list(frames('/dev/stdin'))))"
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.Popen(["cat", clip], stdout=subprocess.PIPE).stdout,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "12\n", done.stderr


@pytest.mark.parametrize(
    "source", ["file:///etc/passwd", "gopher://127.0.0.1/x", "sftp://u:secret@h/x", "concat://a|b"]
)
def test_only_what_is_documented_is_opened(source):
    with pytest.raises(SourceError, match="is not opened; allowed") as error:
        frames(source)
    assert "secret" not in str(error.value)


def test_other_words_for_a_source():
    for number in (np.int64(63), np.uint8(63)):
        with pytest.raises(SourceError, match="camera 63 cannot be opened"):
            frames(number)
    for text, message in [("a\0b", "no path"), ("x" * 5000, "cannot be read"), ("concat:a|b", "does not exist")]:
        with pytest.raises(SourceError, match=message):
            frames(text)
    with pytest.raises(TypeError, match="float"):
        frames(1.0)


def test_secrets_of_addresses_are_masked():
    for text in ("rtsp://me:s3cret@cam/1", "http://cam/x?user=me&pwd=s3cret&w=9", "http://c/?access_token=s3cret#t",
                 "rtsp://me:p@s3cret@cam/1", "rtsp://me:p/s3cret@cam/1", "rtsp://me:p?s3cret@cam/1",
                 "rtsp://cam:554/user=me_password=s3cret_channel=1.sdp", "rtsp://cam/user=me&password=s3cret&channel=1",
                 "http://cam/x#access_token=s3cret", "http://cam/x?usr=me&loginpas=s3cret&jwt=s3cret"):  # fmt: skip
        assert "s3cret" not in masked(text) and "cam" in masked(text) + "cam" * ("//c/" in text)
    for text in ("rtsp://cam:554/live@home/1", "http://[::1]:80/@me/x.m3u8", "http://cam/x?w=9&h=6"):
        assert masked(text) == text
    assert masked("http://cam/x?pwd=a&w=9") == "http://cam/x?pwd=***&w=9"
    assert masked("/home/me@work/pass=1/a.mp4") == "/home/me@work/pass=1/a.mp4"


# --- live sources that come and go


def test_a_stream_that_drops_is_opened_again(address):
    with pytest.warns(SourceWarning, match=r"/drops was lost for \d+\.\d s and is back"):  # noqa: SIM117
        with frames(f"{address}/drops", stop=25) as source:
            got = [(frame.index, number_of(frame.image), frame.time) for frame in source]
    assert source.reconnects >= 2 and got[-1][0] >= 20
    assert all(index == number for index, number, _ in got)
    assert (np.diff([seconds for *_, seconds in got]) > 0).all()


def test_times_are_those_of_the_capture(clip):
    with CameraReader(Paced(clip, period=0.005), stop=10) as source:
        got = list(source)
    assert len(got) > 3 and [f.time for f in got] == pytest.approx([f.index / 25 for f in got])


def test_a_camera_is_asked_for_size_and_rate(clip, monkeypatch):
    asked = {}

    class Camera(Paced):
        def __init__(self, device):
            super().__init__(clip)

        def isOpened(self):
            return True

        def set(self, prop, value):
            asked[prop] = value
            return True

    monkeypatch.setattr(
        cv2, "VideoCapture", lambda *args, real=cv2.VideoCapture: Camera(*args) if args == (0,) else real(*args)
    )
    with pytest.warns(SourceWarning, match="camera 0 gives 160 x 120 px, not 1280 x 720"):
        frames(0, camera_size=(1280, 720), camera_fps=60).close()
    assert asked == {cv2.CAP_PROP_FRAME_WIDTH: 1280, cv2.CAP_PROP_FRAME_HEIGHT: 720, cv2.CAP_PROP_FPS: 60}
