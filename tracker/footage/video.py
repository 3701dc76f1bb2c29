"""Frames in and video out: files, cameras, streams and image folders behind one iterator, and an mp4 writer."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np

from tracker.crop import Image
from tracker.footage.files import IMAGE_SUFFIXES, SourceError, is_image, natural_key, read_image

DEFAULT_FPS = 30.0  # the clock of sources that carry none
ALLOWED = "a video file, a folder or glob of images, a camera index, or an rtsp:// or http:// address"


class SourceWarning(UserWarning):
    """Frames that a source announced but that could not be read."""


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
    """The part of cv2.VideoCapture that CameraReader uses."""

    def read(self) -> tuple[bool, Any]: ...
    def get(self, prop: int) -> float: ...
    def release(self) -> None: ...


class Source:
    """An iterator of Frame, used once, and a context manager that releases the source.

    name: what was opened, for messages
    length: frames from start to stop as the source announces them; None when unknown
    fps: frames a second; None when unknown
    size: (width, height) of the first frame, pixels
    skipped: announced frames that could not be read so far
    dropped: live frames that nobody took so far
    truncated: decoding ended before the announced end
    """

    length: int | None = None
    fps: float | None = None
    size: tuple[int, int]
    skipped: int = 0
    dropped: int = 0
    truncated: bool = False

    def __init__(self, name: str, start: int, stop: int | None) -> None:
        self.name = name
        self._start, self._stop = start, stop
        self._first: Frame | None = None
        self._ended = self._closed = False

    def _read(self) -> Frame | None:
        raise NotImplementedError

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
    """Every frame of a video file, or of an address that announces its length, in order."""

    def __init__(self, name: str, capture: cv2.VideoCapture, start: int = 0, stop: int | None = None) -> None:
        super().__init__(name, start, stop)
        self._capture = capture
        announced, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps < 1e4 else None
        self._announced = self._end = 0  # unknown
        if 0 < announced < 1e9:
            if start >= announced:
                self.close()
                raise SourceError(f"{name}: start {start} lies past the end, the video has {announced:.0f} frames")
            self._announced = int(announced)
            self._end = self._announced if stop is None else min(self._announced, stop)
            self.length = self._end - start
        self._index, self._time = -1, -1.0
        self._open()

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
            if self._index < self._start:  # grabbing is slower than seeking, but exact in every container
                continue
            ok, image = self._capture.retrieve()
            if ok and image is not None:
                return Frame(np.asarray(image, np.uint8), self._index, self._time)
            self._skip(self._index, self._index + 1)
        return None

    def _recover(self) -> bool:
        """Step over a damaged stretch, at which the decoder stops although the file goes on."""
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
        if self._start < got < self._end:
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
                return Frame(read_image(self._paths[self._index]), self._index, self._index / DEFAULT_FPS)
            except SourceError as error:
                self.skipped += 1
                warnings.warn(f"{error}, skipped", SourceWarning, stacklevel=3)
        return None


class CameraReader(Source):
    """The newest frame of a live source: a thread reads all the time, and what nobody took in time is dropped.

    capture: an opened cv2.VideoCapture or anything with its read, get and release; owned and released by the reader
    start, stop: frames from the opening of the source, half-open
    timeout: seconds without a frame after which the source counts as lost
    """

    def __init__(
        self, capture: Capture, name: str = "camera", start: int = 0, stop: int | None = None, timeout: float = 10.0
    ) -> None:
        super().__init__(name, start, stop)
        self._capture, self._timeout = capture, timeout
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = float(fps) if 0 < fps < 1e4 else None
        self._news = threading.Condition()
        self._slot: Frame | None = None
        self._failure: str | None = None
        self._stopping = False
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
        index, begin, failure = 0, 0.0, ""
        try:
            while not self._stopping and (self._stop is None or index < self._stop):
                ok, image = self._capture.read()
                now = time.monotonic()
                if not ok or image is None:
                    failure = f"{self.name} was lost: it stopped delivering after {index} frames"
                    break
                begin = begin if index else now
                if index >= self._start:
                    with self._news:
                        self.dropped += self._slot is not None
                        self._slot = Frame(image, index, now - begin)
                        self._news.notify()
                index += 1
        except Exception as error:  # of the driver, in a thread that nobody watches: hand it to the reader
            failure = f"{self.name} was lost after {index} frames: {error}"
        finally:
            self._capture.release()  # here, because releasing under a running read crashes some drivers
            with self._news:
                self._failure = failure
                self._news.notify()

    def _read(self) -> Frame | None:
        with self._news:
            if not self._news.wait_for(lambda: self._slot or self._failure is not None, self._timeout):
                raise SourceError(f"{self.name} was lost: no frame for {self._timeout:g} s")
            frame, self._slot = self._slot, None
            if frame is None and self._failure:
                raise SourceError(self._failure)
            return frame

    def _release(self) -> None:
        self._stopping = True
        self._thread.join(self._timeout)  # a read that hangs keeps the daemon thread, not the program


def frames(source: str | Path | int, start: int = 0, stop: int | None = None) -> Source:
    """Open a source of frames; iterate it once, inside a with statement.

    source: path of a video file, of a folder of images or a glob (both in natural order), camera index (int or digits),
        or an address such as rtsp://... or http://... Cameras and live streams hand over their newest frame.
    start, stop: frame indices, half-open; exact, so the frames before start are decoded

    Raises SourceError when the source is missing, empty, truncated beyond use or not a video, and ValueError for a bad
    range.
    Frames in the middle that cannot be read are skipped, counted in .skipped and named in a SourceWarning.
    """
    if isinstance(source, bool) or not isinstance(source, (str, Path, int)):
        raise TypeError(f"source is {type(source).__name__}; allowed: {ALLOWED}")
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"start {start} and stop {stop} must hold 0 <= start < stop")
    text = str(source).strip()
    if not text:
        raise SourceError(f"the source is an empty string; allowed: {ALLOWED}")
    if isinstance(source, int) or (text.isascii() and text.isdigit() and not Path(text).exists()):
        return _open_camera(int(text), start, stop)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", text):
        return _open_address(text, start, stop)
    path = Path(source)
    if path.is_char_device():  # /dev/video0
        return _open_camera(text, start, stop)
    if path.is_dir():
        paths = [p for p in path.iterdir() if is_image(p)]
        if not paths:
            raise SourceError(f"{path}: a folder without images ({', '.join(IMAGE_SUFFIXES)})")
        return ImageReader(str(path), sorted(paths, key=natural_key), start, stop)
    if path.exists():
        return _open_file(path, start, stop)
    if glob.has_magic(text):
        pattern = glob.escape(str(path.parent)) + os.sep + path.name if path.parent.is_dir() else text
        paths = [p for p in map(Path, glob.glob(pattern, recursive=True)) if is_image(p)]
        if not paths:
            raise SourceError(f"{text}: the glob matches no image ({', '.join(IMAGE_SUFFIXES)})")
        return ImageReader(text, sorted(paths, key=natural_key), start, stop)
    raise SourceError(f"{text!r} does not exist; allowed: {ALLOWED}")


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
    capture = cv2.VideoCapture(os.path.abspath(path))  # FFmpeg takes what stands before a colon for a protocol
    if not capture.isOpened():
        raise SourceError(f"{path} is not a video, or truncated beyond use (an mp4 needs its end); allowed: {ALLOWED}")
    return VideoReader(str(path), capture, start, stop)


def _open_camera(device: int | str, start: int, stop: int | None) -> Source:
    if isinstance(device, int) and device < 0:
        raise SourceError(f"camera {device} does not exist; cameras count from 0")
    capture = cv2.VideoCapture(device)
    if not capture.isOpened():
        raise SourceError(f"camera {device} cannot be opened; is it plugged in, free, and are you allowed to use it?")
    return CameraReader(capture, f"camera {device}", start, stop)


def _open_address(address: str, start: int, stop: int | None, timeout: float = 10.0) -> Source:
    wait = int(timeout * 1000)
    capture = cv2.VideoCapture(
        address, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, wait, cv2.CAP_PROP_READ_TIMEOUT_MSEC, wait]
    )
    name = re.sub(r"//[^/@]*@", "//", address)  # a password has no place in messages
    if not capture.isOpened():
        raise SourceError(f"{name} cannot be opened: no answer within {timeout:g} s, or not a video")
    if capture.get(cv2.CAP_PROP_FRAME_COUNT) > 0:  # a recording, not a live stream: nothing need be dropped
        return VideoReader(name, capture, start, stop)
    return CameraReader(capture, name, start, stop, timeout)


def check_output(path: str | Path, suffixes: tuple[str, ...], force: bool = False) -> Path:
    """Return path if a file can be written there; find out before the work, not after it.

    Raises ValueError for another suffix, FileExistsError without force, OSError for a missing or read-only folder.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: suffix {path.suffix or 'missing'}; allowed: {', '.join(suffixes)}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists; remove it, or overwrite it by --force (in Python force=True)")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: the folder {path.parent} is not writable")
    return path


def partial_path(path: Path) -> Path:
    """A temporary name in the folder of path, with its suffix; to be moved onto path by os.replace when whole."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


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


CODECS = {".mp4": ("avc1", "mp4v"), ".webm": ("VP80",)}  # the first that this OpenCV can encode


class VideoWriter:
    """A video file that appears whole when it is closed, also when the work ends by an exception or Ctrl-C.

    path: ends in .webm (VP8, which browsers play) or .mp4 (H.264 where this OpenCV can encode it, as that from PyPI on
        Linux cannot; else MPEG-4 part 2, eight times as fast as VP8, but not played by browsers); an existing file is
        refused unless force
    fps: frames a second, in (0, 1000]
    size: (width, height), pixels; an odd last column or row is cut off, the codec wants even sizes

    codec: the one that was taken, of CODECS

    Raises what check_output raises, ValueError for a bad fps or size, OSError when the encoder cannot start.
    """

    def __init__(self, path: str | Path, fps: float, size: tuple[int, int], force: bool = False) -> None:
        self.path = check_output(path, tuple(CODECS), force)
        if not 0 < fps <= 1000:
            raise ValueError(f"fps {fps} must be in (0, 1000]")
        self.size = (int(size[0]), int(size[1]))
        if min(self.size) < 2:
            raise ValueError(f"video size {self.size} must be at least 2 x 2 pixels")
        self.count, self.saved = 0, False
        self._part = partial_path(self.path)
        for codec in CODECS[self.path.suffix.lower()]:
            self.codec, code = codec, cv2.VideoWriter.fourcc(*codec)
            with _hushed():
                self._writer: cv2.VideoWriter | None = cv2.VideoWriter(str(self._part), code, float(fps), self.size)
            if self._writer.isOpened():
                return
        self._part.unlink(missing_ok=True)
        raise OSError(f"{self.path}: the encoder did not start at {fps:g} fps and {self.size} pixels")

    def write(self, image: Image) -> None:
        """Append an (H, W, 3) uint8 BGR image; another size than the video's is scaled to it."""
        if self._writer is None:
            raise ValueError(f"{self.path} is closed")
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image of shape {image.shape}, {image.dtype}; a video takes (H, W, 3) uint8 BGR")
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
            os.replace(self._part, self.path)
            return
        self._part.unlink(missing_ok=True)
        if self.count:
            raise OSError(f"{self.path}: the video could not be written whole and was not kept; is the disk full?")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
