"""What the container of a video says of its own length, which decoders hand on without saying how they know it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tracker.errors import InputError


class Atom(NamedTuple):
    """A box of an mp4 file: its kind, and where its content lies, bytes."""

    kind: bytes
    begin: int
    end: int


def counted_share(path: Path) -> float | None:
    """Of the frames that a container counts, the share that it shows.

    1 for most mp4, mov and avi files, less where the edit list of an mp4 cuts some away. None: it counts no frames, and
    what a decoder gives as their number is duration x frame rate, which is wrong where the rate varies or the first
    time stamp is not 0 (mkv, webm, ts, and mp4 in fragments).
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            return 1.0
        if head[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return None
        try:
            return _shown_share(file, Atom(b"", 0, path.stat().st_size))
        except (struct.error, StopIteration, ValueError):
            return 1.0  # damaged: what is lost must not pass for cut away


def _shown_share(file: BinaryIO, root: Atom) -> float | None:
    movie = _child(file, root, b"moov")
    ticks, _ = _clock(file, _child(file, movie, b"mvhd"))
    for track in _children(file, movie):
        if track.kind != b"trak":
            continue
        media = _child(file, track, b"mdia")
        handler = _child(file, media, b"hdlr")
        if _read(file, handler.begin + 8, "4s")[0] != b"vide":
            continue
        rate, duration = _clock(file, _child(file, media, b"mdhd"))
        if not (ticks and rate and duration):
            return None
        edits = next((atom for atom in _children(file, track) if atom.kind == b"edts"), None)
        if edits is None:
            return 1.0
        return min(_edited(file, _child(file, edits, b"elst")) / ticks / (duration / rate), 1.0)
    return None


def _children(file: BinaryIO, parent: Atom) -> Iterator[Atom]:
    at = parent.begin
    while at + 8 <= parent.end:
        size, kind = _read(file, at, ">I4s")
        begin = at + 8
        if size == 1:
            (size,), begin = _read(file, begin, ">Q"), begin + 8
        end = at + size if size else parent.end
        if end < begin:
            raise InputError("a box that ends before it begins")
        yield Atom(kind, begin, min(end, parent.end))
        at = end


def _child(file: BinaryIO, parent: Atom, kind: bytes) -> Atom:
    return next(atom for atom in _children(file, parent) if atom.kind == kind)


def _clock(file: BinaryIO, header: Atom) -> tuple[int, int]:
    """Ticks a second and duration in ticks of a movie or media header."""
    (version,) = _read(file, header.begin, "B")
    ticks, duration = _read(file, header.begin + (20 if version else 12), ">IQ" if version else ">II")
    return ticks, duration


def _edited(file: BinaryIO, edits: Atom) -> int:
    """Ticks of the movie in which an edit list shows the track."""
    version, entries = _read(file, edits.begin, ">B3xI")
    form = ">Qq4x" if version else ">Ii4x"
    step, total = struct.calcsize(form), 0
    for number in range(min(entries, (edits.end - edits.begin) // step)):
        duration, start = _read(file, edits.begin + 8 + number * step, form)
        total += duration if start >= 0 else 0
    return total


def _read(file: BinaryIO, at: int, form: str) -> tuple[Any, ...]:
    file.seek(at)
    return struct.unpack(form, file.read(struct.calcsize(form)))
