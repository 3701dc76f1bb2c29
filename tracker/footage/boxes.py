"""Boxes of targets as text, in the formats that other tools read. What reads them back is in `layouts`."""

from __future__ import annotations

import csv
import json
import math
import xml.etree.ElementTree as ElementTree
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tracker.errors import DataError, InputError
from tracker.footage.files import as_table, read_json, read_numbers, read_text
from tracker.footage.output import Appended, Unfinished
from tracker.footage.video import Frame
from tracker.geometry import Box, clip_box

BOX_SUFFIXES = (".csv", ".json", ".txt")
STATES = ("tracking", "uncertain", "lost")
GIVEN_UP = 200  # frames whose rows may make room for the end of a file on a full disk


class Row(NamedTuple):
    """The box of one target in one frame.

    frame and time as in video.Frame, id of the target (from 0), box in frame pixels (0-based), score in [0, 1], state.
    """

    frame: int
    time: float
    id: int
    x: float
    y: float
    w: float
    h: float
    score: float
    state: str = "tracking"  # uncertain; lost: then the box is a guess

    @classmethod
    def of(cls, frame: Frame, id: int, box: Sequence[float], score: float = 1.0, state: str = "tracking") -> Row:
        """The box of a target in a frame."""
        x, y, w, h = map(float, box)
        return cls(frame.index, frame.time, id, x, y, w, h, float(score), state)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, w, h, frame px."""
        return self.x, self.y, self.w, self.h


def of_one_target(path: Path) -> bool:
    """Whether a file of this name has room for the boxes of one target only."""
    return path.suffix.lower() == ".txt" and not _is_mot(path)


def _is_mot(path: Path) -> bool:
    """Whether a name ends in .mot.txt; also of what a killed run left, NAME.mot.unfinished.txt."""
    return path.suffix.lower() == ".txt" and ".mot." in path.name.lower()


def read_rows(path: Path) -> list[Row]:
    """Read what `as_csv`, `as_json`, `as_mot` and `RowWriter` wrote (.csv, .json, .mot.txt), by frame and id.

    Of a .csv only the columns frame, x, y, w, h must be there. Raises DataError: what is no row, with its place;
    InputError: another suffix.
    """
    kind = path.suffix.lower()
    found: Any
    if _is_mot(path):
        names = ("frame", "id", *"xywh", "score")
        found = [dict(zip(names, values, strict=False)) for values in read_numbers(path)[:, :7].tolist()]
        for one in found:
            one |= {name: one.get(name, 0) - 1 for name in ("frame", "id", "x", "y")}  # which count from 1
    elif kind == ".json":
        found = read_json(path).get("boxes")
    elif kind == ".csv":
        with as_table(path):
            found = list(csv.DictReader(read_text(path).splitlines()))
    else:
        raise InputError(f"{path}: suffix {path.suffix or 'missing'}; boxes are read from .csv, .json and .mot.txt")
    if not isinstance(found, list):
        raise DataError(f"{path}: no list of boxes in it")
    rows: dict[tuple[int, int], Row] = {}
    for place, one in enumerate(found, 1):
        try:
            known: dict[str, Any] = {"time": 0, "id": 0, "score": 1, "state": "tracking"}
            known |= {name: value for name, value in one.items() if value not in (None, "")}
            frame, number = int(known["frame"]), int(known["id"])
            time, x, y, w, h, score = (float(known[name]) for name in ("time", *"xywh", "score"))
            row = Row(frame, time, number, x, y, w, h, score, known["state"])
            if not all(map(math.isfinite, (time, *row.box))) or min(w, h) <= 0 or not 0 <= score <= 1:
                raise InputError
            if row.state not in STATES or min(frame, number) < 0 or (frame, number) in rows:
                raise InputError
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            wanted = "frame, x, y, w, h and, if any, time, id, score, state, once for each frame and id"
            raise DataError(f"{path}: row {place} is no box: {str(one)[:80]}; expected {wanted}") from None
        rows[frame, number] = row
    return [rows[key] for key in sorted(rows)]


def as_csv(rows: Iterable[Row]) -> str:
    """Header frame,time,id,x,y,w,h,score,state; 0-based px."""
    return _lines([",".join(Row._fields), *(",".join(map(str, row)) for row in _rounded(rows))])


def as_json(rows: Iterable[Row], meta: dict[str, Any]) -> str:
    """{"meta": {...}, "boxes": [{"frame": ..., ...}]}; 0-based px."""
    return json.dumps({"meta": meta, "boxes": [row._asdict() for row in _rounded(rows)]}, indent=1) + "\n"


def as_otb(rows: Sequence[Row], length: int) -> str:
    """One target as OTB's groundtruth_rect.txt: x,y,w,h a line, from frame 0 to `length`, pixels count from 1.

    nan for a frame that has no row, and for one in which the target is lost.
    """
    return _frame_lines([row for row in _rounded(rows) if row.state != "lost"], 0, length, 1)


def as_mot(rows: Iterable[Row], truth: bool = False) -> str:
    """MOTChallenge: frame,id,x,y,w,h,score,-1,-1,-1 a line; frames, identities and pixels count from 1.

    truth: as in gt.txt, where flag, class and visibility, all 1, follow the box. Frames in which a target is lost have
    no line.
    """
    lines = []
    for row in sorted(_rounded(rows), key=lambda row: (row.frame, row.id)):
        if row.state != "lost":
            end = "1,1,1" if truth else f"{row.score},-1,-1,-1"
            lines.append(
                f"{row.frame + 1},{row.id + 1},{round(row.x + 1, 4)},{round(row.y + 1, 4)},{row.w},{row.h},{end}"
            )
    return _lines(lines)


def as_coco(rows: Iterable[Row], size: tuple[int, int], names: dict[int, str] | None = None) -> str:
    """COCO: an image for each frame with a box, an annotation for each box, a category for each name; 0-based px.

    size: (width, height) of the frames. names: id of a target -> its class; without, all are called target. The file of
    frame 7 is called 00000007.jpg. Annotations carry track_id and score. Boxes of lost targets are left out.
    """
    known = [row for row in _rounded(rows) if row.state != "lost"]
    called = {row.id: (names or {}).get(row.id, "target") for row in known}
    categories = {name: number for number, name in enumerate(sorted(set(called.values())), 1)}
    images = [
        {"id": number + 1, "file_name": image_name(number), "width": size[0], "height": size[1], "frame": number}
        for number in sorted({row.frame for row in known})
    ]
    annotations = [
        {
            "id": number,
            "image_id": row.frame + 1,
            "category_id": categories[called[row.id]],
            "bbox": list(row.box),
            "area": round(row.w * row.h, 4),
            "iscrowd": 0,
            "track_id": row.id,
            "score": row.score,
        }
        for number, row in enumerate(known, 1)
    ]
    classes = [{"id": number, "name": name} for name, number in categories.items()]
    return json.dumps({"images": images, "annotations": annotations, "categories": classes}) + "\n"


def as_yolo(rows: Iterable[Row], size: tuple[int, int], names: dict[int, str] | None = None) -> dict[str, str]:
    """YOLO: name of a file -> its lines of class, centre x, y, width, height as shares of the frame; and classes.txt.

    size, names: as for `as_coco`. Boxes of lost targets are left out; what passes the edge of the frame is cut off.
    """
    known = [row for row in rows if row.state != "lost"]
    called = {row.id: (names or {}).get(row.id, "target") for row in known}
    classes = sorted(set(called.values()))
    files: dict[str, list[str]] = defaultdict(list)
    for row in known:
        box = clip_box(Box(*row.box), *size)
        if min(box.w, box.h) > 0:
            cx, cy = box.centre
            shares = cx / size[0], cy / size[1], box.w / size[0], box.h / size[1]
            words = " ".join(f"{share:.8f}" for share in shares)
            files[Path(image_name(row.frame)).with_suffix(".txt").name].append(
                f"{classes.index(called[row.id])} {words}"
            )
    return {name: _lines(lines) for name, lines in files.items()} | {"classes.txt": _lines(classes)}


def as_cvat(
    rows: Iterable[Row],
    size: tuple[int, int],
    length: int,
    names: dict[int, str] | None = None,
    keys: dict[int, set[int]] | None = None,
) -> str:
    """CVAT for video 1.1: a track for each target with its boxes, then a box `outside` where it is gone; 0-based px.

    size, names: as for `as_coco`. length: frames of the clip. keys: id of a target -> frames in which a person gave its
    box; without, every frame counts as one.
    """
    found = by_target(row for row in _rounded(rows) if row.state != "lost")
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(root, "meta"), "task")
    for name, value in (("size", length), ("mode", "interpolation"), ("start_frame", 0), ("stop_frame", length - 1)):
        ElementTree.SubElement(task, name).text = str(value)
    labels = ElementTree.SubElement(task, "labels")
    for name in sorted({(names or {}).get(number, "target") for number in found}):
        ElementTree.SubElement(ElementTree.SubElement(labels, "label"), "name").text = name
    original = ElementTree.SubElement(task, "original_size")
    for name, side in zip(("width", "height"), size, strict=True):
        ElementTree.SubElement(original, name).text = str(side)
    for number, boxes in found.items():
        label = (names or {}).get(number, "target")
        track = ElementTree.SubElement(root, "track", id=str(number), label=label, source="manual")
        for row, after in zip(boxes, [*boxes[1:], None], strict=True):
            _cvat_box(track, row, row.frame, keys is None or row.frame in keys.get(number, ()), outside=False)
            if row.frame + 1 < (length if after is None else after.frame):
                _cvat_box(track, row, row.frame + 1, True, outside=True)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _cvat_box(track: ElementTree.Element, row: Row, frame: int, key: bool, outside: bool) -> None:
    corners = {"xtl": row.x, "ytl": row.y, "xbr": row.x + row.w, "ybr": row.y + row.h}
    words: dict[str, float] = {"frame": frame, "outside": int(outside), "occluded": 0, "keyframe": int(key)}
    words |= {name: round(value, 4) for name, value in corners.items()} | {"z_order": 0}
    ElementTree.SubElement(track, "box", {name: str(value) for name, value in words.items()})


def image_name(number: int) -> str:
    """The file that a data set of images calls frame `number`."""
    return f"{number:08d}.jpg"


def by_target(rows: Iterable[Row]) -> dict[int, list[Row]]:
    """The rows of each target, by frame."""
    found: dict[int, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.frame):
        found[row.id].append(row)
    return dict(sorted(found.items()))


class RowWriter:
    """A file of boxes (0-based frame pixels), in the format that the suffix names; see `Unfinished` for its name.

    .csv: header frame,time,id,x,y,w,h,score,state. .json: {"boxes": [{"frame": ..., ...}], "meta": {...}}.
    .mot.txt: see `as_mot`. Another .txt (one target only): x,y,w,h a line as in OTB, but 0-based; nan,nan,nan,nan for a
    frame that was skipped or dropped.

    Raises ValueError: another suffix. OSError: another run writes the file, or the disk is full; what was written
    before is kept by `close`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._kind = path, path.suffix.lower()
        if self._kind not in BOX_SUFFIXES:
            raise InputError(f"{path}: suffix {path.suffix or 'missing'}; allowed: {', '.join(BOX_SUFFIXES)}")
        self._mot = _is_mot(path)
        self._unfinished = Unfinished(path)
        self._file = Appended(self._unfinished.part, path)
        self._ends: deque[int] = deque(maxlen=GIVEN_UP)  # of the last rows
        self._last: int | None = None  # frame of the last row
        try:
            self._file.put({".csv": ",".join(Row._fields) + "\n", ".json": '{"boxes": [', ".txt": ""}[self._kind])
        except OSError:
            self._file.close()
            self._unfinished.drop()
            raise

    def write(self, rows: Sequence[Row]) -> None:
        """Append the rows of one frame."""
        texts = [as_mot(rows)] if self._mot else []
        for row in () if self._mot else _rounded(rows):
            if self._kind == ".csv":
                texts.append(",".join(map(str, row)) + "\n")
            elif self._kind == ".json":
                texts.append(("\n " if self._last is None else ",\n ") + json.dumps(row._asdict()))
            else:
                gap = 0 if self._last is None else row.frame - self._last - 1
                texts.append("nan,nan,nan,nan\n" * gap + ",".join(map(str, row[3:7])) + "\n")
            self._last = row.frame
        before = self._file.end
        self._file.put("".join(texts))
        self._ends.append(before)

    def close(self, meta: dict[str, Any]) -> None:
        """Finish the file and give it its name. meta: what the file says of itself (.json)."""
        end = f'\n],\n"meta": {json.dumps(meta, indent=1)}}}\n' if self._kind == ".json" else ""
        try:
            self._file.cut(self._file.end)  # of half a row, where Ctrl-C came into one
            while True:
                try:
                    self._file.put(end)
                    break
                except OSError:
                    if not self._ends:
                        raise
                    self._file.cut(self._ends.pop())  # of a full disk: the last rows make room
        finally:
            self._file.close()
        self._unfinished.keep()


def _frame_lines(rows: Iterable[Row], start: int, stop: int, first_pixel: int) -> str:
    lines = ["nan,nan,nan,nan"] * (stop - start)
    for row in rows:
        lines[row.frame - start] = ",".join(
            str(round(v, 4)) for v in (row.x + first_pixel, row.y + first_pixel, row.w, row.h)
        )
    return _lines(lines)


def _rounded(rows: Iterable[Row]) -> list[Row]:
    return [Row._make(round(v, 4) if isinstance(v, float) else v for v in row) for row in rows]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
