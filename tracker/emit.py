"""Results for other programs, one JSON object each, while they are made: to a file, over UDP, over ZeroMQ."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np

from tracker.errors import InputError, MissingError
from tracker.extras import how_to_get
from tracker.footage.boxes import Row

KINDS = "jsonl:FILE (- is stdout), udp:HOST:PORT, zmq:tcp://*:PORT"
MEMORY = 0.3  # seconds of centres that a velocity is made of
LEAST = 3  # of them


class Motion:
    """How fast targets move: the slope of a straight line through their last centres."""

    def __init__(self) -> None:
        self._past: dict[int, deque[tuple[float, float, float]]] = defaultdict(deque)

    def after(self, row: Row) -> tuple[float, float] | None:
        """Velocity of a target after one more row, px/s to the right and down; None: lost, or seen for too short."""
        past = self._past[row.id]
        if row.state == "lost":
            past.clear()
        if row.state != "tracking":  # in doubt the box is held, which is no motion
            return None
        past.append((row.time, row.x + row.w / 2, row.y + row.h / 2))
        while row.time - past[0][0] > MEMORY and len(past) > LEAST:
            past.popleft()
        times, *places = np.array(past).T
        spread = times - times.mean()
        if len(past) < LEAST or not spread.any():
            return None
        vx, vy = (float(spread @ place / (spread @ spread)) for place in places)
        return vx, vy


class Channel(Protocol):
    """Where lines go."""

    def send(self, line: str) -> None: ...
    def close(self) -> None: ...


class Emitter:
    """Sends every row at once; a context manager.

    where: see `KINDS`. begun: UNIX time of a live source's first frame; None: a recording, whose frames have no stamp.
    An object has id, frame, time (s since the first frame), stamp (UNIX time of the capture, or null), box (x, y, w, h,
    px, 0-based), velocity (px/s, or null), score, state (tracking, uncertain, lost: then the box is a guess).
    Who listens too slowly or not at all loses objects (udp, zmq) and never slows the tracker.
    force: write over a file that exists.
    Raises ValueError: another kind. OSError: the file, the port; FileExistsError without force. ImportError: pyzmq is
    not installed.
    """

    def __init__(self, where: str, begun: float | None = None, force: bool = False) -> None:
        self._begun, self._motion = begun, Motion()
        kind, _, rest = where.partition(":")
        if kind == "jsonl" and rest:
            self._channel: Channel = _Lines(rest, force)
        elif kind == "udp" and rest:
            self._channel = _Udp(rest)
        elif kind == "zmq" and rest:
            self._channel = _Zmq(rest)
        else:
            raise InputError(f"--emit {where}: allowed: {KINDS}")

    def send(self, rows: Sequence[Row]) -> None:
        """Send the rows of a frame, an object each."""
        for row in rows:
            velocity = self._motion.after(row)
            self._channel.send(json.dumps(self._facts(row, velocity), separators=(",", ":")))

    def _facts(self, row: Row, velocity: tuple[float, float] | None) -> dict[str, Any]:
        return {
            "id": row.id,
            "frame": row.frame,
            "time": round(row.time, 6),
            "stamp": None if self._begun is None else round(self._begun + row.time, 6),
            "box": [round(v, 3) for v in row.box],
            "velocity": None if velocity is None else [round(v, 2) for v in velocity],
            "score": round(row.score, 4),
            "state": row.state,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._channel.close()


class _Lines:
    """A line each, flushed, so that a reader of the file or pipe has it at once."""

    def __init__(self, path: str, force: bool) -> None:
        if os.path.isfile(path) and not force:  # pipes and devices are there to be written to
            raise FileExistsError(f"{path} exists; remove it, or overwrite it by --force (in Python force=True)")
        self._file = sys.stdout if path == "-" else open(path, "w", encoding="utf-8")  # noqa: SIM115

    def send(self, line: str) -> None:
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except BrokenPipeError:  # who reads has enough of it
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"--emit jsonl:{self._file.name}") from None

    def close(self) -> None:
        if self._file is not sys.stdout:
            with contextlib.suppress(OSError):  # of a line that could not be written, which `send` has told
                self._file.close()


class _Udp:
    """A datagram each; nobody need listen."""

    def __init__(self, place: str) -> None:
        host, _, port = place.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise InputError(f"--emit udp:{place}: wanted udp:HOST:PORT")
        self._to: Any
        try:
            (family, *_, self._to), *_ = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
        except (OSError, UnicodeError) as error:
            raise InputError(f"--emit udp:{place}: no such host: {error}") from None
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def send(self, line: str) -> None:
        with contextlib.suppress(OSError):  # its buffer is full, or nobody listens: as with any datagram
            self._socket.sendto(line.encode(), self._to)

    def close(self) -> None:
        self._socket.close()


class _Zmq:
    """A message each on a PUB socket; who is slow loses the oldest."""

    def __init__(self, address: str) -> None:
        try:
            import zmq
        except ImportError as error:
            raise MissingError(f"--emit zmq needs pyzmq: {how_to_get('zmq')}") from error
        port = re.search(r":(\d+)$", address)
        if port and int(port[1]) > 65535:  # of which ZeroMQ takes the rest
            raise InputError(f"--emit zmq:{address}: ports are from 1 to 65535")
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.linger = 200  # ms
        try:
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self._context.destroy()
            raise OSError(f"--emit zmq:{address}: {error}; as zmq:tcp://*:5555") from error

    def send(self, line: str) -> None:
        self._socket.send_string(line)

    def close(self) -> None:
        self._context.destroy()
