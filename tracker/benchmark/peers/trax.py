"""TraX, the protocol between the VOT toolkit and trackers (Čehovin, Neurocomputing 2017): messages, and the client.

`TraxPeer` drives any TraX program, up to version 4, as a tracker; `serve.py` serves a tracker to any TraX client.
Messages are lines, so that no native library is needed. Coordinates pass unchanged: 0-based px, a box spans [x, x + w).
"""

import base64
import contextlib
import os
import re
import shlex
import subprocess
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import cv2
import numpy as np

from tracker.benchmark.peers.answer import Answer
from tracker.crop import Image
from tracker.errors import InputError
from tracker.footage.files import read_image
from tracker.footage.masks import decode_runs, mask_box
from tracker.footage.sequence import Sequence
from tracker.geometry import Box

HELLO_SECONDS = 120.0  # a program may take this long to load before it says hello
QUIT_SECONDS = 3.0
PREFIX = "@@TRAX:"
ARGUMENT = re.compile(r'"((?:[^"\\]++|\\.)*+)"|(\S+)')
PROPERTY = re.compile(r"([A-Za-z0-9._]{1,64})=(.*)", re.DOTALL)


class Message(NamedTuple):
    """One line of the protocol: kind is hello, initialize, frame, state or quit."""

    kind: str
    arguments: list[str]
    properties: dict[str, str]


def encode(kind: str, arguments: tuple[str, ...] = (), properties: Mapping[str, str] | None = None) -> bytes:
    """Return a message as a line."""
    words = [*arguments, *(f"{key}={value}" for key, value in (properties or {}).items())]
    escaped = (word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for word in words)
    return (PREFIX + " ".join([kind, *(f'"{word}"' for word in escaped)]) + "\n").encode("utf-8", "surrogateescape")


def decode(line: bytes) -> Message | None:
    """Return the message in a line, None when it holds other output."""
    _, mark, text = line.decode("utf-8", "surrogateescape").partition(PREFIX)
    if not mark:
        return None
    kind, _, rest = text.strip().partition(" ")
    message = Message("state" if kind == "status" else kind, [], {})
    for quoted, plain in ARGUMENT.findall(rest):
        word = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], quoted or plain)
        if pair := PROPERTY.fullmatch(word):
            message.properties[pair[1]] = pair[2]
        else:
            message.arguments.append(word)
    return message


def read_region(text: str) -> Box:
    """Return the upright box around a region: rectangle, polygon or mask; NaN for an empty mask or a special code.

    ValueError: not a region.
    """
    head, _, numbers = text.partition(":") if text.startswith("mask:") else ("", "", text)
    try:
        values = [float(word) for word in numbers.split(",")]
        if head:
            left, top, width, height, *runs = (int(value) for value in values)
            x, y, w, h = mask_box(decode_runs(runs, width, height), left, top)
            return Box(x, y, w, h)
    except (ValueError, OverflowError):
        values = []
    if len(values) == 1:
        return Box(*[float("nan")] * 4)
    if len(values) == 4:
        return Box(*values)
    if len(values) < 6 or len(values) % 2:
        raise InputError(f"not a TraX region: {text[:60]!r}; expected x,y,w,h, a polygon x1,y1,.. or mask:x,y,w,h,..")
    xs, ys = values[0::2], values[1::2]
    return Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))


def read_picture(text: str) -> Image:
    """Return an image argument as (H, W, 3) uint8 BGR: file://PATH, image:W;H;rgb|gray8;BASE64 or data:TYPE;BASE64.

    ValueError, DataError: another form, or not an image.
    """
    scheme = text.partition(":")[0]
    if scheme == "file":
        return read_image(Path(text.removeprefix("file://")))
    try:
        if scheme == "image":
            width, height, kind, data = text.removeprefix("image:").split(";")
            depth, code = {"rgb": (3, cv2.COLOR_RGB2BGR), "gray8": (1, cv2.COLOR_GRAY2BGR)}[kind]
            pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(int(height), int(width), depth)
            return np.asarray(cv2.cvtColor(pixels, code), np.uint8)
        if scheme == "data":
            content = np.frombuffer(base64.b64decode(re.split("[;,]", text)[-1]), np.uint8)
            decoded = cv2.imdecode(content, cv2.IMREAD_COLOR)
            if decoded is not None:
                return np.asarray(decoded, np.uint8)
    except (ValueError, KeyError, cv2.error):
        pass
    allowed = "file://PATH, image:WIDTH;HEIGHT;rgb or gray8;BASE64, data: with a JPEG or PNG"
    raise InputError(f"cannot read the TraX image {text[:60]!r}; allowed: {allowed}")


class TraxPeer:
    """A TraX program as a tracker. Frames go to it as PNG files, as PNG buffers or raw, by the first that it takes.

    The time of an update includes handing over the frame; `network_ms` is from the last byte sent to the answer.
    command: as in a shell, run in the current folder.
    ValueError: it cannot be started, or does not speak TraX; with the end of what it printed.
    """

    def __init__(self, command: str) -> None:
        self.command, self._words = command, shlex.split(command)
        if not self._words:
            raise InputError("tracker 'trax': expected trax=COMMAND")
        self._folder = tempfile.TemporaryDirectory(prefix="trax-")
        self._numbers = count()
        self._start()

    def _start(self) -> None:
        self._printed: deque[str] = deque(maxlen=3)
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TRAX": "1"},
            )
        except OSError as error:
            raise InputError(f"trax={self.command}: cannot be started: {error}") from error
        self._process = process
        self._end = weakref.finalize(self, _stop, process)
        clock = threading.Timer(HELLO_SECONDS, process.kill)
        clock.daemon = True
        clock.start()
        try:
            hello = self._read("hello")
            self._hello = hello.properties
            if not set(self._list("channels", "color")) <= {"color"}:
                raise RuntimeError(f"it wants the channels {self._hello['trax.channels']}, of which we have color only")
            formats = self._list("image", "path")
            self._format = next((kind for kind in ("path", "buffer", "memory") if kind in formats), "")
            if not self._format or "rectangle" not in self._list("region", "rectangle"):
                raise RuntimeError("it takes neither path, buffer nor memory, or no rectangle")
        except RuntimeError as error:
            self._end()
            raise InputError(str(error)) from None
        finally:
            clock.cancel()
        self._version = int(self._hello.get("trax.version", "1"))
        self._used = False

    def _list(self, name: str, default: str) -> list[str]:
        return [word for word in self._hello.get(f"trax.{name}", default).split(";") if word]

    def _send(self, kind: str, *arguments: str) -> None:
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # the read that follows says what happened
            self._process.stdin.write(encode(kind, arguments))
            self._process.stdin.flush()

    def _read(self, kind: str) -> Message:
        """Return the next message; RuntimeError when it is not of this kind."""
        assert self._process.stdout
        for line in self._process.stdout:
            message = decode(line)
            if message is None:
                if line.strip():
                    self._printed.append(line.decode("utf-8", "replace").strip()[:200])
            elif message.kind == kind:
                return message
            else:
                reason = message.properties.get("trax.reason", "")
                raise RuntimeError(f"trax={self.command}: it said {message.kind} {reason}".rstrip() + self._tail())
        self._end()
        raise RuntimeError(f"trax={self.command}: it ended with code {self._process.returncode}{self._tail()}")

    def _tail(self) -> str:
        return f"; it printed: {' | '.join(self._printed)}" if self._printed else ""

    def start_sequence(self, sequence: Sequence) -> None:
        """Start the program again if it has ended, or follows one target only, as those wrapped by the VOT toolkit."""
        if not self._end.alive or (self._used and "vot" in self._hello):
            self._end()
            self._start()

    def init(self, frame: Image, box: Box) -> None:
        """Give the program the target."""
        if self._used and "vot" in self._hello:
            self._end()
            self._start()
        region = ",".join(f"{value:.9g}" for value in box)
        with self._picture(frame) as picture:
            if self._version < 4:
                self._send("initialize", picture, region)
            else:
                if self._used:
                    self._send("initialize")  # forget the target before
                self._send("initialize", region)
                self._send("frame", picture)
            self._used = True
            self._ask()

    def update(self, frame: Image) -> Answer:
        """Return the program's box, and its confidence if it names one; NaN where it says it has none."""
        with self._picture(frame) as picture:
            self._send("frame", picture)
            sent = perf_counter()
            state = self._ask()
        milliseconds = (perf_counter() - sent) * 1e3
        score = state.properties.get("confidence", state.properties.get("score", "nan"))
        return Answer(read_region(state.arguments[0]), float(score), network_ms=milliseconds)

    def _ask(self) -> Message:
        try:
            state = self._read("state")
            if not state.arguments:
                raise RuntimeError(f"trax={self.command}: a state without a region{self._tail()}")
        except RuntimeError:
            self._end()  # out of step: the next sequence starts it again
            raise
        return state

    @contextmanager
    def _picture(self, frame: Image) -> Iterator[str]:
        """Yield a frame as the program takes it."""
        if not self._end.alive:
            raise RuntimeError(f"trax={self.command}: the program has ended{self._tail()}")
        if self._format == "memory":
            height, width = frame.shape[:2]
            data = base64.b64encode(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).tobytes()).decode("ascii")
            yield f"image:{width};{height};rgb;{data}"
            return
        content = cv2.imencode(".png", frame, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        if self._format == "buffer":
            yield f"data:image/png;{base64.b64encode(content).decode('ascii')}"
            return
        path = Path(self._folder.name, f"{next(self._numbers):08d}.png")  # a new name each, programs keep files open
        path.write_bytes(content)
        try:
            yield f"file://{path}"
        finally:
            path.unlink(missing_ok=True)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Say quit and close the streams, which ends a program that listens; end the others."""
    assert process.stdin and process.stdout
    with contextlib.suppress(OSError, ValueError):
        process.stdin.write(encode("quit"))
        process.stdin.flush()
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(QUIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
