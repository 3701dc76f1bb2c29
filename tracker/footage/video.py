"""Frames in and video out: files, cameras, streams and image folders behind one iterator, and an mp4 writer."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.crop import Image
from tracker.errors import InputError, InputTypeError, SourceError
from tracker.extras import how_to_get
from tracker.footage.containers import counted_share
from tracker.footage.files import IMAGE_SUFFIXES, is_image, natural_key, read_values, spread, value_span
from tracker.footage.output import Unfinished, check_output
from tracker.footage.pyav import AvCapture

DEFAULT_FPS = 30.0  # the clock of sources that carry none
SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "udp", "rtp", "srt")  # others are not handed to FFmpeg
ALLOWED = "a video file or pipe, a folder or glob of images, a camera index, or an rtsp:// or http:// address"
PATIENCE = 30.0  # seconds for which a camera or stream that drops is opened again and again
LONGEST_WAIT = 8.0  # seconds between two tries
GREY_16 = int.from_bytes(b"Y1\x00\x10", "little")  # FFmpeg's tag of 16-bit grey
# of an address, each before what is hidden: a name and password (one with a slash, too, where no port is), and a value
USER = r"//(?:(?!\[)[^/?#:@]*:(?!\d+(?:/|$)).*|[^/?#]*)@"
SECRETS = r"(?i)([?&;#/_][^=&;#/]*(?:pas|pwd|token|key|secret|auth|sig|jwt)[^=&;#/]*=)[^&;#/]*"


class SourceWarning(UserWarning):
    """Frames that a source announced but that could not be read, or are not shown as they are."""


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One frame of a source.

    image: (H, W, 3) uint8, BGR
    index: position in the source, 0-based; unread and dropped frames count
    time: seconds since the first frame of the source
    """

    image: Image
    index: int
    time: float


class Capture(Protocol):
    """The part of cv2.VideoCapture that the readers use."""

    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def set(self, prop: int, value: float) -> bool: ...
    def read(self) -> tuple[bool, Any]: ...
    def get(self, prop: int) -> float: ...
    def release(self) -> None: ...


PTS = getattr(cv2, "CAP_PROP_PTS", -1)  # time stamp in frames; OpenCV before 4.11 has none, and gives 0


class Source:
    """An iterator of Frame, used once, and a context manager that releases the source.

    name: what was opened, for messages
    length: frames from start to stop as the source announces them; None when unknown
    fps: frames a second; None when unknown
    size: (width, height) of the first frame, pixels
    skipped: announced frames that could not be read so far
    dropped: live frames that nobody took so far
    truncated: decoding ended before the announced end
    reconnects: how often a live source was lost and came back
    begun: UNIX time at which the first frame of a live source came; None: a recording
    """

    length: int | None = None
    fps: float | None = None
    size: tuple[int, int]
    skipped: int = 0
    dropped: int = 0
    truncated: bool = False
    reconnects: int = 0
    begun: float | None = None

    def __init__(self, name: str, start: int, stop: int | None) -> None:
        self.name = name
        self._start, self._stop = start, stop
        self._first: Frame | None = None
        self._span: tuple[float, float] | None = None  # of the values of the first frame, if they are no bytes
        self._ended = self._closed = False

    def _read(self) -> Frame | None:
        raise NotImplementedError

    def _picture(self, image: NDArray[Any]) -> Image:
        """What a decoder or a camera gave, as (H, W, 3) uint8; more than 8 bits are spread, and that is said."""
        if image.dtype != np.uint8:
            if self._span is None:
                self._span = value_span(image)
                shown = f"{self._span[0]:g} to {self._span[1]:g}, the range of the first image"
                told = f"{self.name}: values are {image.dtype}; {shown}, is shown from black to white"
                warnings.warn(told, SourceWarning, stacklevel=4)
            image = spread(image, self._span)
        return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)

    def _release(self) -> None:
        """Free what the source holds; called once."""

    def _open(self) -> None:
        """Read the first frame, so that a bad source fails here and not in the middle of the work."""
        try:
            self._first = self._read()
            if self._first is None:
                raise SourceError(f"{self.name}: damaged, no frame could be decoded from frame {self._start} on")
        except BaseException:
            self.close()
            raise
        self.size = (self._first.image.shape[1], self._first.image.shape[0])

    def count(self) -> int | None:
        """Frames from start to stop as they are, which may be others than announced; None when unknown."""
        return self.length

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._ended:
            raise StopIteration
        if self._closed:
            raise SourceError(f"{self.name} is closed")
        frame, self._first = self._first, None
        if frame is None:
            frame = self._read()
        if frame is None:
            self._ended = True
            self.close()
            raise StopIteration
        return frame

    def close(self) -> None:
        """Release the source; safe to call twice."""
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class VideoReader(Source):
    """Every frame of a video file or pipe, or of an address that announces its length, in order.

    shown: of the frames that are announced, see `containers.counted_share`. path: the file; None: a pipe or an address.
    """

    def __init__(
        self,
        name: str,
        capture: Capture,
        start: int = 0,
        stop: int | None = None,
        shown: float | None = 1.0,
        path: Path | None = None,
    ) -> None:
        super().__init__(name, start, stop)
        self._capture, self._path = capture, path
        announced, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps < 1e4 else None
        if announced > 0 and shown is not None and shown < 1 - 0.5 / announced:
            announced, shown = round(announced * shown), None
        self._counted = shown is not None
        if capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT) == GREY_16:  # OpenCV would show the upper 8 bits alone
            capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
        self._announced = self._end = 0  # unknown
        if 0 < announced < 1e9:
            if start >= announced:
                self.close()
                raise SourceError(f"{name}: start {start} lies past the end, the video has {announced:.0f} frames")
            self._announced = int(announced)
            self._end = self._announced if stop is None else min(self._announced, stop)
            self.length = self._end - start
        self._index, self._time = -1, -1.0
        self._reached = 0.0  # the end of the last frame by the clock of the stream, in frames
        self._open()

    def count(self) -> int | None:
        """See `Source.count`; where the container does not count its frames, the file is decoded once more."""
        if self._counted or self._path is None:
            return self.length
        capture, got = _open_capture(self._path), 0
        while (self._stop is None or got < self._stop) and capture.grab():
            got += 1
        capture.release()
        return max(got - self._start, 0)

    def _read(self) -> Frame | None:
        while self._stop is None or self._index + 1 < self._stop:
            if not (self._capture.grab() or self._recover()):
                self._report_end()
                return None
            self._index += 1
            seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # the decoder's time stamp of this frame
            if seconds <= self._time:  # none in this stream
                seconds = self._index / (self.fps or DEFAULT_FPS)
            self._time = max(seconds, 0.0)
            self._reached = 1 + max(self._time * (self.fps or 0), self._capture.get(PTS))
            if self._index < self._start:  # grabbing is slower than seeking, but exact in every container
                continue
            ok, image = self._capture.retrieve()
            if ok and image is not None and image.size:
                return Frame(self._picture(image), self._index, self._time)
            self._skip(self._index, self._index + 1)
        return None

    def _complete(self) -> bool:
        """Whether what was announced is only an estimate, and the clock of the stream has come to its end."""
        return not self._counted and self._reached >= self._announced - 1

    def _recover(self) -> bool:
        """Step over a damaged stretch, at which the decoder stops although the file goes on."""
        if self._complete():
            return False
        # AVI has no time stamps to tell where a seek has led, and its decoder goes on by itself
        if not self._announced or self.fps is None or self.name.lower().endswith(".avi"):
            return False
        lost, step = self._index + 1, 1
        while lost + step < self._announced:
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, lost + step)
            while self._capture.grab():
                seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                if seconds > self._time + 0.5 / self.fps:
                    found = max(lost, round(seconds * self.fps))
                    self._skip(max(lost, self._start), found)
                    self._index = found - 1
                    return True
            step *= 2
        return False

    def _skip(self, first: int, end: int) -> None:
        if first < end:
            self.skipped += end - first
            what = f"frame {first}" if end - first == 1 else f"frames {first} to {end - 1}"
            warnings.warn(f"{self.name}: {what} cannot be decoded, skipped", SourceWarning, stacklevel=4)

    def _report_end(self) -> None:
        got = self._index + 1
        if self._start < got < self._end and not self._complete():
            self.skipped += self._end - got
            self.truncated = True
            warnings.warn(
                f"{self.name}: decoding ended after {got} of the {self._announced} frames that the file announces",
                SourceWarning,
                stacklevel=4,
            )

    def _release(self) -> None:
        self._capture.release()


class ImageReader(Source):
    """The images of a list of files in order; they carry no clock, so time counts 30 frames a second."""

    def __init__(self, name: str, paths: list[Path], start: int = 0, stop: int | None = None) -> None:
        super().__init__(name, start, stop)
        if start >= len(paths):
            raise SourceError(f"{name}: start {start} lies past the end, there are {len(paths)} images")
        self._paths = paths[:stop]
        self.length = len(self._paths) - start
        self._index = start - 1
        self._open()

    def _read(self) -> Frame | None:
        while self._index + 1 < len(self._paths):
            self._index += 1
            try:
                image = self._picture(read_values(self._paths[self._index]))
                return Frame(image, self._index, self._index / DEFAULT_FPS)
            except SourceError as error:
                self.skipped += 1
                warnings.warn(f"{error}, skipped", SourceWarning, stacklevel=3)
        return None


class CameraReader(Source):
    """The newest frame of a live source: a thread reads all the time, and what nobody took in time is dropped.

    capture: an opened cv2.VideoCapture or anything with its read, get and release; owned and released by the reader
    start, stop: frames from the opening of the source, half-open
    timeout: seconds without a frame after which the source counts as lost
    reopen: opens the source again once it is lost, or returns None; None: it is not opened again
    patience: seconds for which that is tried, after waits that double from half a second to `LONGEST_WAIT`

    Times are those of the capture's clock where it has one, else of the arrival.
    """

    def __init__(
        self,
        capture: Capture,
        name: str = "camera",
        start: int = 0,
        stop: int | None = None,
        timeout: float = 10.0,
        reopen: Callable[[], Capture | None] | None = None,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(name, start, stop)
        self._capture, self._timeout = capture, timeout
        self._reopen, self._patience = reopen, patience
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps < 1e4 else None
        self._news = threading.Condition()
        self._slot: Frame | None = None
        self._failure: str | None = None
        self._returns: list[str] = []  # what is to be said of them
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._pump, name=f"siamtrack {name}", daemon=True)
        self._thread.start()
        self._open()

    def __next__(self) -> Frame:
        with self._news:
            if self._first and self._slot:  # the frame of the opening is old by now
                self._first = None
                self.dropped += 1
        return super().__next__()

    def _pump(self) -> None:
        index, clock, failure = 0, _Clock(), ""
        try:
            while not self._stopping.is_set() and (self._stop is None or index < self._stop):
                ok, image, why = self._next_image()
                if not ok or image is None:
                    failure = f"{self.name} was lost: it stopped delivering after {index} frames{why}"
                    if index and self._come_back():
                        clock.restart()
                        continue
                    break
                seconds = clock.read(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
                if index == 0:
                    self.begun = time.time() - seconds
                if not image.size:  # some drivers hand over nothing and say that all is well
                    self.dropped += 1
                elif index >= self._start:
                    with self._news:
                        self.dropped += self._slot is not None
                        self._slot = Frame(image, index, seconds)
                        self._news.notify()
                index += 1
            else:
                failure = ""
        except Exception as error:  # in a thread that nobody watches: hand it to the reader
            failure = f"{self.name} was lost after {index} frames: {error}"
        finally:
            self._capture.release()  # here, because releasing under a running read crashes some drivers
            with self._news:
                self._failure = failure
                self._news.notify()

    def _next_image(self) -> tuple[bool, Any, str]:
        try:
            return *self._capture.read(), ""
        except Exception as error:  # of the driver
            return False, None, f": {error}"

    def _come_back(self) -> bool:
        """Open the source again, with longer and longer waits; False when it does not come back."""
        if self._reopen is None:
            return False
        lost, wait = time.monotonic(), 0.5
        while time.monotonic() - lost < self._patience and not self._stopping.wait(wait):
            wait = min(2 * wait, LONGEST_WAIT)
            again = self._reopen()
            if again is not None:
                self._capture.release()
                self._capture = again
                with self._news:
                    self.reconnects += 1
                    self._returns.append(f"{self.name} was lost for {time.monotonic() - lost:.1f} s and is back")
                return True
        return False

    def _read(self) -> Frame | None:
        wait = self._timeout + (self._patience + self._timeout if self._reopen else 0)
        with self._news:
            if not self._news.wait_for(lambda: self._slot or self._failure is not None, wait):
                raise SourceError(f"{self.name} was lost: no frame for {wait:g} s")
            frame, self._slot = self._slot, None
            returns, self._returns = self._returns, []
        for text in returns:
            warnings.warn(text, SourceWarning, stacklevel=3)
        if frame is None and self._failure:
            raise SourceError(self._failure)
        return frame and replace(frame, image=self._picture(frame.image))

    def _release(self) -> None:
        self._stopping.set()
        self._thread.join(self._timeout)  # a read that hangs keeps the daemon thread, not the program


class _Clock:
    """Seconds since the first frame: by the time stamps of a capture where they go on, else by the time of arrival."""

    def __init__(self) -> None:
        self._seconds = self._stamp = self._wall = -1.0

    def restart(self) -> None:
        """The capture is another one: its time stamps begin anew."""
        self._stamp = -1.0

    def read(self, stamp: float) -> float:
        """stamp: of the capture, seconds; 0 where it has none."""
        now, step = time.monotonic(), stamp - self._stamp
        passed = now - self._wall
        if self._seconds < 0:
            self._seconds = 0.0
        elif 0 < step < LONGEST_WAIT and self._stamp >= 0:
            self._seconds += step
        else:
            self._seconds += passed
        self._stamp, self._wall = stamp, now
        return self._seconds


def frames(
    source: str | Path | int,
    start: int = 0,
    stop: int | None = None,
    *,
    camera_size: tuple[int, int] | None = None,
    camera_fps: float | None = None,
    patience: float = PATIENCE,
) -> Source:
    """Open a source of frames; iterate it once, inside a with statement.

    source: path of a video file or pipe (/dev/stdin too), of a folder of images or a glob (both in natural order),
        camera index (int or digits), or an address (rtsp, rtmp, http, udp, rtp, srt). What exists is opened, whatever
        it is called. Cameras and live streams hand over their newest frame.
    start, stop: frame indices, half-open; exact, so the frames before start are decoded
    camera_size, camera_fps: (width, height) and frames a second that a camera is asked for
    patience: seconds for which a camera or live stream that drops is opened again and again; 0 gives up at once

    Raises SourceError when the source is missing, empty, truncated beyond use or not a video, and ValueError for a bad
    range.
    Frames in the middle that cannot be read are skipped, counted in .skipped and named in a SourceWarning. So is a
    stream that came back, and an image of more than 8 bits, which is spread over the range of the first one.
    """
    if isinstance(source, bool) or not isinstance(source, str | Path | Integral):
        raise InputTypeError(f"source is {type(source).__name__}; allowed: {ALLOWED}")
    if not all(isinstance(number, Integral) for number in (start, 0 if stop is None else stop)):
        raise InputTypeError(f"start {start!r} and stop {stop!r} must be whole numbers")
    if start < 0 or (stop is not None and stop <= start):
        raise InputError(f"start {start} and stop {stop} must hold 0 <= start < stop")
    if not 0 <= patience <= 1e6:
        raise InputError(f"patience {patience} must be in [0, 1e6] s")
    if camera_size is not None and not (len(camera_size) == 2 and min(camera_size) > 0):
        raise InputError(f"camera_size {camera_size} must be a width and a height above 0")
    if camera_fps is not None and not 0 < camera_fps <= 1e4:
        raise InputError(f"camera_fps {camera_fps} must be in (0, 10000]")
    text = str(source).strip()
    if not text:
        raise SourceError(f"the source is an empty string; allowed: {ALLOWED}")
    if "\0" in text:
        raise SourceError(f"{text!r} is no path; allowed: {ALLOWED}")
    wanted = Wanted(camera_size, camera_fps)
    path = Path(source) if isinstance(source, str | Path) else None
    there = path is not None and _exists(path)
    if path is None or (text.isascii() and text.isdigit() and not there):
        return _open_camera(int(text), start, stop, wanted, patience)
    if found := re.match(r"([a-zA-Z][a-zA-Z0-9+.-]+)://", text):
        if found[1].lower() not in SCHEMES:
            raise SourceError(f"{masked(text)}: {found[1]}:// is not opened; allowed: {ALLOWED}")
        return _open_address(text, start, stop, patience)
    if path.is_char_device():  # /dev/video0
        return _open_camera(text, start, stop, wanted, patience)
    if path.is_dir():
        paths = [p for p in path.iterdir() if is_image(p)]
        if not paths:
            raise SourceError(f"{path}: a folder without images ({', '.join(IMAGE_SUFFIXES)})")
        return ImageReader(str(path), sorted(paths, key=natural_key), start, stop)
    if path.is_fifo() or path.is_socket():  # which can be read only once: nothing is looked up in it before
        return VideoReader(str(path), _decodable(cv2.VideoCapture(str(path)), str(path)), start, stop, None)
    if there:
        return _open_file(path, start, stop)
    if glob.has_magic(text):
        pattern = glob.escape(str(path.parent)) + os.sep + path.name if path.parent.is_dir() else text
        paths = [p for p in map(Path, glob.glob(pattern, recursive=True)) if is_image(p)]
        if not paths:
            raise SourceError(f"{text}: the glob matches no image ({', '.join(IMAGE_SUFFIXES)})")
        return ImageReader(text, sorted(paths, key=natural_key), start, stop)
    raise SourceError(f"{masked(text)!r} does not exist; allowed: {ALLOWED}")


def masked(text: str) -> str:
    """An address without the password and the other secrets in it, which have no place in messages and files."""
    scheme, mark, rest = text.partition("://")
    return scheme + re.sub(SECRETS, r"\1***", re.sub(USER, "//", mark + rest)) if mark else text


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise SourceError(f"{str(path)[:200]} cannot be read: {error.strerror}") from None


def _open_file(path: Path, start: int, stop: int | None) -> Source:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    if empty:
        raise SourceError(f"{path} is empty; allowed: {ALLOWED}")
    pages = cv2.imcount(str(path)) if path.suffix.lower() in IMAGE_SUFFIXES else 1
    if pages > 1:
        raise SourceError(f"{path} holds {pages} pictures; write each into a file of its own and give their folder")
    return VideoReader(str(path), _open_capture(path), start, stop, counted_share(path), path)


def _open_capture(path: Path) -> Capture:
    """What decodes a file: OpenCV, or PyAV where OpenCV does not. Raises SourceError: neither."""
    name = os.path.abspath(path)  # FFmpeg takes what stands before a colon for a protocol
    capture = _decodable(cv2.VideoCapture(name), str(path))
    why = ""
    first, second = capture.read(), capture.read()
    if not first[0] and _codec(capture) in ("AV01", "av01"):
        why = "is AV1 video"
    elif second[0] and np.array_equal(first[1], second[1]) and not _shown(name):
        why = "is interlaced video"
    capture.release()
    if not why:
        return cv2.VideoCapture(name)
    try:
        return AvCapture(name)
    except ImportError:
        raise SourceError(
            f"{path} {why}, which this OpenCV ({cv2.__version__}) does not decode; install PyAV: {how_to_get('video')}"
            f" or convert the file: ffmpeg -i IN -vf yadif -c:v libx264 OUT.mp4"
        ) from None
    except OSError as error:
        raise SourceError(str(error)) from None


def _decodable(capture: cv2.VideoCapture, name: str) -> cv2.VideoCapture:
    if not capture.isOpened():
        raise SourceError(f"{name} is not a video, or truncated beyond use (an mp4 needs its end); allowed: {ALLOWED}")
    return capture


def _codec(capture: cv2.VideoCapture) -> str:
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("ascii", "replace")


def _shown(name: str) -> bool:
    """Whether OpenCV writes the frames of a file into its pictures.

    OpenCV 4.13 and 5.0 fail at interlaced ones, call that success, and hand over the same garbage for every frame.
    FFmpeg complains, but how much it says is settled once in a process; so another one is asked.
    """
    code = "import cv2, sys; cv2.VideoCapture(sys.argv[1]).read()"
    said = subprocess.run(
        [sys.executable, "-c", code, name],
        env={**os.environ, "OPENCV_FFMPEG_LOGLEVEL": "16", "OPENCV_LOG_LEVEL": "ERROR"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return b"interlaced" not in said.stdout


class Wanted(NamedTuple):
    """What a camera is asked for; None: what it gives by itself."""

    size: tuple[int, int] | None = None
    fps: float | None = None


def _open_camera(device: int | str, start: int, stop: int | None, wanted: Wanted, patience: float) -> Source:
    if isinstance(device, int) and not 0 <= device < 1000:
        raise SourceError(f"camera {device} does not exist; cameras count from 0")

    def open_it() -> cv2.VideoCapture | None:
        capture = cv2.VideoCapture(device)
        if not capture.isOpened():
            return None
        if wanted.size:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, wanted.size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, wanted.size[1])
        if wanted.fps:
            capture.set(cv2.CAP_PROP_FPS, wanted.fps)
        return capture

    capture = open_it()
    if capture is None:
        raise SourceError(f"camera {device} cannot be opened; is it plugged in, free, and are you allowed to use it?")
    source = CameraReader(capture, f"camera {device}", start, stop, reopen=open_it, patience=patience)
    if wanted.size and source.size != wanted.size:
        got = f"{source.size[0]} x {source.size[1]}"
        asked = f"{wanted.size[0]} x {wanted.size[1]}"
        warnings.warn(f"camera {device} gives {got} px, not {asked}", SourceWarning, stacklevel=3)
    return source


def _open_address(address: str, start: int, stop: int | None, patience: float, timeout: float = 10.0) -> Source:
    wait = int(timeout * 1000)

    def open_it() -> cv2.VideoCapture | None:
        capture = cv2.VideoCapture(
            address, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait]
        )
        return capture if capture.isOpened() else None

    name, capture = masked(address), open_it()
    if capture is None:
        raise SourceError(f"{name} cannot be opened: no answer within {timeout:g} s, or not a video")
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:  # a recording, not a live stream: nothing need be dropped
        counted = Path(urlsplit(address).path).suffix.lower() in (".mp4", ".m4v", ".mov", ".avi")
        return VideoReader(name, capture, start, stop, 1.0 if counted else None)
    return CameraReader(capture, name, start, stop, timeout, open_it, patience)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without what OpenCV prints past Python when it tries a codec; of the whole process, so only for a moment."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


MOST_FPS = 1000.0  # of a video that is written
CODECS = {".mp4": ("avc1", "mp4v"), ".webm": ("VP80",)}  # the first that this OpenCV can encode


class VideoWriter:
    """A video file that appears whole when it is closed, also when the work ends by an exception or Ctrl-C.

    After a kill or a power cut a .webm can be played up to its last seconds, see `output.Unfinished`; an .mp4 cannot,
    it needs its end.

    path: ends in .webm (VP8, which browsers play) or .mp4 (H.264 where this OpenCV can encode it, as that from PyPI on
        Linux cannot; else MPEG-4 part 2, eight times as fast as VP8, but not played by browsers); an existing file is
        refused unless force
    fps: frames a second, in (0, `MOST_FPS`]
    size: (width, height), pixels; an odd last column or row is cut off, the codec wants even sizes

    codec: the one that was taken, of CODECS

    Raises what check_output raises, ValueError for a bad fps or size, OSError when the encoder cannot start.
    """

    def __init__(self, path: str | Path, fps: float, size: tuple[int, int], force: bool = False) -> None:
        self.path = check_output(path, tuple(CODECS), force)
        if not 0 < fps <= MOST_FPS:
            raise InputError(f"fps {fps} must be in (0, {MOST_FPS:g}]")
        self.size = (int(size[0]), int(size[1]))
        if min(self.size) < 2:
            raise InputError(f"video size {self.size} must be at least 2 x 2 pixels")
        self.count, self.saved = 0, False
        self._unfinished = Unfinished(self.path)
        self._part = self._unfinished.part
        for codec in CODECS[self.path.suffix.lower()]:
            self.codec, code = codec, cv2.VideoWriter.fourcc(*codec)
            with _hushed():
                self._writer: cv2.VideoWriter | None = cv2.VideoWriter(str(self._part), code, float(fps), self.size)
            if self._writer.isOpened():
                return
        self._unfinished.drop()
        raise OSError(f"{self.path}: the encoder did not start at {fps:g} fps and {self.size} pixels")

    def write(self, image: Image) -> None:
        """Append an (H, W, 3) uint8 BGR image; another size than the video's is scaled to it."""
        if self._writer is None:
            raise InputError(f"{self.path} is closed")
        if not isinstance(image, np.ndarray):
            raise InputTypeError(f"image is {type(image).__name__}; a video takes (H, W, 3) uint8 BGR")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise InputError(f"image of shape {image.shape}, {image.dtype}; a video takes (H, W, 3) uint8 BGR")
        if image.shape[1::-1] != self.size:
            image = np.asarray(cv2.resize(image, self.size, interpolation=cv2.INTER_AREA), np.uint8)
        self._writer.write(image)
        self.count += 1

    def close(self) -> None:
        """Finish the file; a video without frames leaves none. Safe to call twice.

        Raises OSError: what was written is damaged; what stood at the path before stays.
        """
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.release()
        finally:  # a second Ctrl-C must not lose the first one's file
            self._keep()

    def _keep(self) -> None:
        """Give the file its name if all of it is there: the encoder does not tell when the disk was full."""
        capture = cv2.VideoCapture(str(self._part))
        written = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
        self.saved = 0 < self.count <= written  # one more where Ctrl-C came before it was counted
        if self.saved:
            self._unfinished.keep()
            return
        self._unfinished.drop()
        if self.count:
            raise OSError(f"{self.path}: the video could not be written whole and was not kept; is the disk full?")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
