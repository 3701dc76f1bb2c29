"""Runs that were finished elsewhere: the result files of the usual toolkits, read without decoding an image.

For a sequence NAME, in the folder that is given or in its baseline, longterm or unsupervised:

NAME.txt, NAME.csv           a row a frame: x, y, w, h; or with a score behind; or the corners of a polygon
NAME/NAME_001.txt            the same, as the GOT-10k and VOT toolkits keep it; NAME_time.txt or NAME_001_time.value are
                             seconds, NAME_001_confidence.value scores; 1, 2 and 0 alone on a line: started, failed,
                             skipped (VOT 2013 to 2019); NAME_00000050.txt: the run from that anchor (VOT 2020 on)
NAME.mat, NAME_TRACKER.mat   the toolkit of OTB (needs scipy)

Upper and lower case and the marks between words do not matter (Jogging.1, jogging-1), and Human4-2 is Human4.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.protocols import Part, Protocol
from tracker.benchmark.results import CUT, FAILED, SKIPPED, STARTED, TRACKED, Run, new_rows
from tracker.crop import Image
from tracker.errors import DataError, InputError
from tracker.footage.files import list_files, numbered_rows, present, read_text
from tracker.footage.sequence import Sequence
from tracker.geometry import Box

PROTOCOLS: tuple[Protocol, ...] = ("ope", "longterm", "supervised", "anchors")  # that files can answer
SUFFIXES = (".txt", ".csv", ".mat")
ROOMS = ("baseline", "longterm", "unsupervised")
ALIASES = {"human42": "human4"}  # the second target of Human4 is the only one that has boxes
CODES = {0: SKIPPED, 1: STARTED, 2: FAILED}  # of the VOT toolkit


class Rows(NamedTuple):
    """One file: boxes (N, 4) as they stand there, NaN where there is none; scores (N,), NaN unknown; states (N,)."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    states: NDArray[np.int64]


class ResultFiles:
    """The runs of one tracker in a folder; also a tracker, which replays them frame by frame.

    one_based: the files count the first pixel as 1. ValueError: there are none.
    """

    def __init__(self, folder: Path, one_based: bool) -> None:
        self.folder, self.one_based = folder, one_based
        self.files = {_plain(name): path for name, path in self._found()}
        if not self.files:
            raise InputError(f"{folder}: no result files in it ({', '.join(SUFFIXES)})")

    def _found(self) -> list[tuple[str, Path]]:
        folders = [self.folder, *(self.folder / room for room in ROOMS if (self.folder / room).is_dir())]
        folders += [inner for place in folders for inner in sorted(place.iterdir()) if inner.is_dir()]
        paths = [path for folder in folders for path in list_files(folder) if path.suffix.lower() in SUFFIXES]
        ends = Counter(path.stem.rpartition("_")[2] for path in paths if "_" in path.stem)
        shared = [end for end, count in ends.items() if count == len(paths) > 1 and not end.isdigit()]
        # what all names end with is the tracker's
        return [(path.stem.removesuffix(f"_{shared[0]}") if shared else path.stem, path) for path in paths]

    def path(self, sequence: str, label: str = "") -> Path:
        """Return the file of a run; ValueError: there is none. label: of the run, "" for the first."""
        name = _plain(sequence)
        for known in (name, ALIASES.get(name, name), *(k for k, v in ALIASES.items() if v == name)):
            anchor, _, time = label.partition("r")
            start = f"{int(anchor):08d}" if anchor else ""
            for end in [f"{start}{int(time):03d}"] if time else [start, f"{start}001"]:
                if known + end in self.files:
                    return self.files[known + end]
        raise InputError(f"no result file of {sequence}{f' @{label}' if label else ''} in {self.folder}")

    def finished(self, part: Part, protocol: Protocol) -> Run:
        """Return a run of a protocol; ValueError: its file cannot say, or is missing, damaged or of another length."""
        if protocol not in PROTOCOLS:
            raise InputError(f"result files cannot answer {protocol}: a tracker would have seen other frames")
        path = self.path(part.sequence.name, part.label)
        found, count = read_rows(path), len(part.sequence)
        restarts = bool((found.states != TRACKED).any())
        if protocol == "supervised" and not restarts:
            raise InputError(f"{path}: one pass without restarts, which supervised cannot judge")
        if protocol != "supervised" and (found.states[1:] != TRACKED).any():
            raise InputError(f"{path}: a run with restarts, which only supervised can judge")
        given = len(found.boxes)
        if abs(given - count) > 1:
            raise InputError(f"{path}: {given} boxes for {count} frames")
        rows = new_rows(count)
        both = min(given, count)
        rows[:both, :4] = _zero_based(found.boxes[:both], self.one_based)
        rows[:both, 4] = found.scores[:both]
        rows[:both, 9] = found.states[:both]
        rows[both:, 9] = CUT
        if not restarts:
            rows[0, 9] = STARTED
        started = rows[:, 9] == STARTED
        truth = part.sequence.boxes
        rows[started & ~present(rows[:, :4]), :4] = truth[started & ~present(rows[:, :4])]
        seconds = _values(path, ("_time.value", "_time.txt"), given)
        confidence = _values(path, ("_confidence.value",), given)
        if seconds is not None:
            rows[:both, 5] = seconds[:both] * 1e3
        if confidence is not None:
            rows[:both, 4] = confidence[:both]
        word = f"{path.name}: {given} boxes for {count} frames, "
        note = "" if given == count else word + ("the last was cut" if given > count else "the last frame is left out")
        return Run(rows, note=note)

    def start_sequence(self, sequence: Sequence) -> None:
        """Read the one pass over a sequence; ValueError as `finished`."""
        self.rows = self.finished(Part("", sequence, Box(0, 0, 0, 0), len(sequence)), "ope").rows

    def init(self, frame: Image, box: Box) -> None:
        """Go to the first frame."""
        self.index = 0

    def update(self, frame: Image) -> NDArray[np.float64]:
        """Return the box of the next frame."""
        self.index += 1
        return self.rows[self.index, :4]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _zero_based(boxes: NDArray[np.float64], one_based: bool) -> NDArray[np.float64]:
    return boxes - np.array([1, 1, 0, 0]) if one_based else boxes


def _values(path: Path, ends: tuple[str, ...], count: int) -> NDArray[np.float64] | None:
    """Read a value a frame beside a result file: its name with another end; None where there are not so many."""
    stem = re.sub(r"_\d+$", "", path.stem)
    for name in (f"{base}{end}" for end in ends for base in (path.stem, stem)):
        file = path.with_name(name)
        if file.is_file() and file != path:
            words = [re.split(r"[,;\s]+", line)[0] for line in read_text(file).split("\n") if line.strip()]
            try:
                values = np.array([float(word) for word in words])
            except ValueError:
                raise InputError(f"{file}: not numbers") from None
            return values if len(values) == count else None
    return None


def read_rows(path: Path) -> Rows:
    """Read one result file; ValueError names what is wrong in which line."""
    if path.suffix.lower() == ".mat":
        found = _read_mat(path)
        return Rows(found, np.full(len(found), np.nan), np.full(len(found), TRACKED))
    try:
        lines = list(numbered_rows(path))
    except DataError as error:
        raise InputError(str(error)) from error
    boxes, scores, states = [], [], []
    for number, _, row in lines:
        if len(row) == 1 and row[0] in CODES:
            box, score, state = [np.nan] * 4, np.nan, CODES[int(row[0])]
        elif len(row) in (4, 5):
            box, score, state = row[:4], row[4] if row[4:] else np.nan, TRACKED
        elif len(row) >= 6 and len(row) % 2 == 0:
            points = np.array(row).reshape(-1, 2)
            box, score, state = [*points.min(axis=0), *np.ptp(points, axis=0)], np.nan, TRACKED
        else:
            raise InputError(f"{path}, line {number}: {len(row)} numbers, expected x, y, w, h, a polygon, or 0, 1, 2")
        boxes.append(box)
        scores.append(score)
        states.append(state)
    if not boxes:
        raise InputError(f"{path}: empty")
    return Rows(np.array(boxes, float), np.array(scores, float), np.array(states))


def _read_mat(path: Path) -> NDArray[np.float64]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise InputError(f"{path.name} needs scipy: pip install scipy ({error})") from error
    try:
        content = loadmat(str(path), squeeze_me=True, struct_as_record=False)
    except (OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: not a Matlab file that can be read ({error})") from error
    run: Any = content.get("results")
    while isinstance(run, np.ndarray) and run.dtype == object and run.size:  # a cell for each run: the first is OPE
        run = run.ravel()[0]
    kind, boxes = str(getattr(run, "type", "")), np.asarray(getattr(run, "res", []), float)
    if kind != "rect" or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"{path}: expected results of type rect with a res of N x 4, found {kind or 'none'}")
    return boxes
