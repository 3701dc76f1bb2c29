"""The `trax` sub-command: serve a tracker to any TraX client. It speaks version 3, which every client does."""

import argparse
import contextlib
import math
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from tracker.benchmark.peers.answer import read_answer
from tracker.benchmark.peers.peers import load_tracker, tracker_name
from tracker.benchmark.peers.trax import decode, encode, read_picture, read_region
from tracker.errors import InputError
from tracker.geometry import Box, check_box


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `trax` to a parser."""
    parser.description = "Serve a tracker to a TraX client such as the VOT toolkit, on standard input and output."
    what = "as in `siamtrack bench --trackers` [swift]"
    parser.add_argument("tracker", nargs="?", default="swift", metavar="TRACKER", help=what)


def run(args: argparse.Namespace) -> int:
    """Serve a tracker until the client quits.

    ValueError, OSError: the tracker cannot be loaded, or the client sent what cannot be used; the client is told, too.
    """
    tracker = load_tracker(args.tracker)
    if hasattr(tracker, "start_sequence"):
        raise InputError(f"tracker {args.tracker!r} cannot be served; allowed: those that see nothing but frames")
    noise = np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)
    tracker.init(noise, (40.0, 40.0, 40.0, 40.0))
    for _ in range(3):  # what compiles on the first call does so before the hello, not on the client's clock
        tracker.update(noise)
    with _streams() as (source, sink):
        serve(tracker, source, sink, tracker_name(args.tracker))
    return 0


@contextmanager
def _streams() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield the streams to the client: a socket where it asks for one, else standard input and output."""
    port = os.environ.get("TRAX_SOCKET", "")
    if port:
        if not port.isdigit():
            raise InputError(f"TRAX_SOCKET must be a port number, got {port!r}")
        with socket.create_connection(("127.0.0.1", int(port))) as line, line.makefile("rwb") as both:
            yield both, both  # type: ignore[misc]
        return
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)  # whatever else prints does so on stderr
        yield sys.stdin.buffer, sink


def serve(tracker: Any, source: BinaryIO, sink: BinaryIO, name: str) -> None:
    """Say hello and answer the messages of a client until it quits or closes its end.

    ValueError, OSError, or what the tracker raises: after the client has been told.
    """

    def send(kind: str, *arguments: str, **properties: str) -> None:
        sink.write(encode(kind, arguments, {key.replace("_", "."): value for key, value in properties.items()}))
        sink.flush()

    send("hello", trax_version="3", trax_name=name, trax_family="siamtrack", trax_description="",
         trax_image="path;memory;buffer;", trax_region="rectangle;polygon;mask;", trax_channels="color;")  # fmt: skip
    started = False
    try:
        for line in source:
            message = decode(line)
            if message is None:
                continue
            if message.kind == "quit":
                return
            if message.kind == "initialize" and len(message.arguments) == 2:
                box = read_region(message.arguments[1])
                if not np.isfinite(box).all():
                    raise InputError(f"no target in the region {message.arguments[1][:60]!r}")
                picture = read_picture(message.arguments[0])
                height, width = picture.shape[:2]
                tracker.init(picture, check_box(box, width, height))
                score = math.nan  # on the frame given there is nothing to be sure of
                started = True
            elif message.kind == "frame" and message.arguments and started:
                values, score, _ = read_answer(tracker.update(read_picture(message.arguments[0])))
                if not np.isfinite(values).all():
                    raise InputError(f"the tracker answered {values.tolist()}: not finite")
                box = Box(*values.tolist())
            else:
                expected = "frame IMAGE" if started else "initialize IMAGE REGION"
                given = f"{message.kind} with {len(message.arguments)} arguments"
                raise InputError(f"TraX message {given}; expected {expected}")
            known = {} if np.isnan(score) else {"confidence": f"{score:.9g}"}
            send("state", ",".join(f"{value:.9g}" for value in box), **known)
    except Exception as error:
        with contextlib.suppress(OSError):
            send("quit", trax_reason=str(error))
        raise
