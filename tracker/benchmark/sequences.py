"""Sequences of single-object tracking data sets: frames read when asked for, boxes 0-based.

Layouts (the name given to `load` and `check`), as their authors publish them:

folder       <name>/img/*.jpg + <name>/groundtruth_rect.txt; also DTB70 and one single sequence
otb2013, otb50, otb100   the same with the official start and end frames and two-target sequences
got10k       list.txt, <name>/*.jpg, groundtruth.txt, cover.label, meta_info.ini (val, or test with first boxes only)
lasot        <class>/<name>/img/*.jpg, groundtruth.txt, full_occlusion.txt, out_of_view.txt
uav123, uav20l           data_seq/UAV123/<folder>/*.jpg, anno/UAV123/*.txt (or anno/UAV20L)
nfs30, nfs240            <name>/30/<name>/*.jpg, <name>/30/<name>.txt
trackingnet  frames/<name>/*.jpg, anno/<name>.txt (one TEST or TRAIN_k folder)
vot          list.txt, <name>/color/*.jpg or <name>/*.jpg, groundtruth.txt of boxes, polygons or masks
davis        JPEGImages/480p/<name>/*.jpg, Annotations/480p/<name>/*.png: the boxes of the masks, a sequence an object
"""

import configparser
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.metrics import present

Layout = Literal[
    "folder", "otb2013", "otb50", "otb100", "got10k", "lasot", "uav123", "uav20l", "nfs30", "nfs240", "trackingnet",
    "vot", "davis",
]  # fmt: skip
Entry = tuple[str, "Callable[[], Sequence]"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})

# MATLAB data sets count the first pixel as 1; the others were drawn or are used from 0.
ONE_BASED = frozenset({"folder", "otb2013", "otb50", "otb100", "got10k", "lasot", "uav123", "uav20l"})

# First and last frame number of the sequences of which the benchmark uses a part, or whose numbers do not start at 1.
OTB_RANGES = {
    "BlurCar1": (247, 988), "BlurCar3": (3, 359), "BlurCar4": (18, 397), "David": (300, 770), "Diving": (1, 215),
    "Football1": (1, 74), "Freeman3": (1, 460), "Freeman4": (1, 283), "Tiger1": (6, 354),
}  # fmt: skip
OTB2013 = """Basketball Bolt Boy Car4 CarDark CarScale Coke Couple Crossing David David2 David3 Deer Dog1 Doll Dudek
FaceOcc1 FaceOcc2 Fish FleetFace Football Football1 Freeman1 Freeman3 Freeman4 Girl Ironman Jogging Jumping Lemming
Liquor Matrix Mhyang MotorRolling MountainBike Shaking Singer1 Singer2 Skating1 Skiing Soccer Subway Suv Sylvester
Tiger1 Tiger2 Trellis Walking Walking2 Woman"""
OTB50 = """Basketball Biker Bird1 BlurBody BlurCar2 BlurFace BlurOwl Bolt Box Car1 Car4 CarDark CarScale ClifBar Couple
Crowds David Deer Diving DragonBaby Dudek Football Freeman4 Girl Human3 Human4 Human6 Human9 Ironman Jump Jumping Liquor
Matrix MotorRolling Panda RedTeam Shaking Singer2 Skating1 Skating2 Skiing Soccer Surfer Sylvester Tiger2 Trellis
Walking Walking2 Woman"""
OTB100 = f"""{OTB50} Bird2 BlurCar1 BlurCar3 BlurCar4 Board Bolt2 Boy Car2 Car24 Coke Coupon Crossing Dancer Dancer2
David2 David3 Dog Dog1 Doll FaceOcc1 FaceOcc2 Fish FleetFace Football1 Freeman1 Freeman3 Girl2 Gym Human2 Human5 Human7
Human8 Jogging KiteSurf Lemming Man Mhyang MountainBike Rubik Singer1 Skater Skater2 Subway Suv Tiger1 Toy Trans
Twinnings Vase"""
OTB_ATTRIBUTES = "IV OPR SV OCC DEF MB FM IPR OV BC LR"
UAV_ATTRIBUTES = "SV ARC LR FM FOC POC OV BC IV VC CM SOB"
# UAV123 cuts these videos into <name>_1, <name>_2 ..: the first frame number of each part.
UAV_PARTS = {
    "bird1": (1, 775, 1573), "car1": (1, 751, 1627), "car6": (1, 487, 1807, 2953, 3925), "car8": (1, 1357),
    "car16": (1, 415), "group1": (1, 1333, 2515, 3925), "group2": (1, 907, 1771), "group3": (1, 1567, 2827, 4369),
    "person2": (1, 1189), "person4": (1, 1501), "person5": (1, 877), "person7": (1, 1249), "person8": (1, 1075),
    "person12": (1, 601), "person14": (1, 847, 1813), "person17": (1, 1501), "person19": (1, 1243, 2791),
    "truck4": (1, 577), "uav1": (1, 1555, 2473),
}  # fmt: skip


class DataError(OSError):
    """A data set that is missing, incomplete or inconsistent; the message names the file."""


@dataclass(frozen=True)
class Sequence:
    """One video with the boxes of one target.

    name: unique in its data set.
    frames: (N,) image files in order, read when asked for.
    boxes: (N, 4) float64 x, y, w, h, 0-based continuous px; a row of NaN is a frame where the target is absent.
    attributes: names such as "IV" or "OCC", for tables by attribute.
    fps: rate of the video in frames a second, for the latency-aware protocol.
    bound: (width, height) px to which the data set's own measure clips boxes (GOT-10k), or None.
    """

    name: str
    frames: tuple[Path, ...]
    boxes: NDArray[np.float64]
    attributes: tuple[str, ...] = ()
    fps: float = 30.0
    bound: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.frames:
            raise DataError(f"{self.name}: no frames")
        if self.boxes.shape != (len(self.frames), 4):
            raise DataError(f"{self.name}: {len(self.frames)} frames but {len(self.boxes)} boxes")
        if not present(self.boxes[:1])[0]:
            raise DataError(f"{self.name}: the first box {self.boxes[0].tolist()} is empty, nothing to start on")

    def __len__(self) -> int:
        return len(self.frames)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Read frame `index` as (H, W, 3) uint8 BGR; DataError names an unreadable file."""
        return read_image(self.frames[index])

    def part(self, start: int, stop: int | None = None) -> "Sequence":
        """Return frames start .. stop - 1 as a sequence of the same name."""
        cut = slice(start, stop)
        return Sequence(self.name, self.frames[cut], self.boxes[cut], self.attributes, self.fps, self.bound)

    def fingerprint(self) -> str:
        """Return 16 hex digits over the names and sizes of the frame files and the boxes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.boxes).tobytes())
        for path in self.frames:
            digest.update(f"{path.name}:{path.stat().st_size};".encode())
        return digest.hexdigest()[:16]


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    """Read one image file as (H, W, 3) uint8 BGR; DataError names a file that is missing or cannot be decoded."""
    try:
        data = np.fromfile(path, np.uint8)  # cv2.imread fails on some non-ASCII paths and prints to stderr
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        image = cv2.imdecode(data, flags) if data.size else None
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{path}: not an image that can be decoded")
    return image.astype(np.uint8, copy=False)


def _natural(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts 2.jpg before 10.jpg."""
    parts = re.split(r"(\d+)", path.name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts if part)


def list_images(folder: Path) -> tuple[Path, ...]:
    """Return the image files of a folder in natural order; DataError when there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of frames")
    found = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    if not found:
        raise DataError(f"{folder}: no image files ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return tuple(sorted(found, key=_natural))


def read_text(path: Path) -> str:
    """Read a text file; DataError names one that is missing or not text."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file") from error


def read_numbers(path: Path) -> NDArray[np.float64]:
    """Read a text file of numbers separated by commas, semicolons, tabs or spaces, (N, K) float64; "nan" is allowed.

    DataError: a file that is missing, empty, ragged or not numeric, with the line.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        parts = [part for part in re.split(r"[,;\s]+", line) if part]
        if not parts:
            continue
        try:
            row = [float(part) for part in parts]
        except ValueError:
            raise DataError(f"{path}, line {number}: not numbers: {line.strip()[:60]!r}") from None
        if rows and len(row) != len(rows[0]):
            raise DataError(f"{path}, line {number}: {len(row)} numbers, the lines before have {len(rows[0])}")
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: empty")
    return np.array(rows, dtype=np.float64)


def read_boxes(path: Path, one_based: bool) -> NDArray[np.float64]:
    """Read x, y, w, h rows, or polygons of 3 and more points, as (N, 4) 0-based boxes; absent targets become NaN.

    one_based: True when the file counts its first pixel as 1; 1 is taken off x and y here and nowhere else.
    DataError: see `read_numbers`, or rows that are neither boxes nor polygons.
    """
    rows = read_numbers(path)
    if rows.shape[1] >= 6 and rows.shape[1] % 2 == 0:
        points = rows.reshape(len(rows), -1, 2)
        rows = np.hstack([points.min(axis=1), np.ptp(points, axis=1)])
    elif rows.shape[1] != 4:
        raise DataError(f"{path}: {rows.shape[1]} numbers a line, expected 4 (x, y, w, h) or a polygon (x1, y1, ..)")
    return _to_zero_based(rows, one_based)


def _to_zero_based(rows: NDArray[np.float64], one_based: bool) -> NDArray[np.float64]:
    rows = np.where(present(rows)[:, None], rows, np.nan)
    rows[:, :2] -= 1 if one_based else 0
    return rows


def load(path: str | Path, layout: Layout = "folder", one_based: bool | None = None) -> list[Sequence]:
    """Read every sequence of a data set.

    path: the folder that the layout (see the module) describes.
    one_based: whether the text boxes count the first pixel as 1; None takes what the layout's authors used.
    DataError: the first sequence that is missing or inconsistent; `check` lists them all.
    """
    return [build() for _, build in _entries(Path(path), layout, one_based)]


def load_folder(path: str | Path, one_based: bool = True) -> list[Sequence]:
    """Read a folder of sequences, each `img/` + `groundtruth_rect.txt`, or one such sequence; see `load`."""
    return load(path, "folder", one_based)


def check(path: str | Path, layout: Layout = "folder", one_based: bool | None = None, decode: bool = True) -> list[str]:
    """Return one line for each thing that is missing or inconsistent in a data set; an empty list when all is well.

    decode: also decode every frame (slow, complete); otherwise only the first and the last.
    """
    problems: list[str] = []
    try:
        entries = list(_entries(Path(path), layout, one_based))
    except DataError as error:
        return [str(error)]
    for name, build in entries:
        try:
            sequence = build()
        except DataError as error:
            problems.append(str(error))
            continue
        problems += [f"{name}: {line}" for line in _check_one(sequence, decode)]
    return problems


def _check_one(sequence: Sequence, decode: bool) -> Iterator[str]:
    numbers = [_frame_number(path) for path in sequence.frames]
    for before, after in itertools.pairwise(numbers):
        if before is not None and after is not None and after != before + 1:
            yield f"frame numbers jump from {before} to {after}"
    size: tuple[int, int] | None = None
    wanted = range(len(sequence)) if decode else sorted({0, len(sequence) - 1})
    for index in wanted:
        try:
            height, width = sequence.image(index).shape[:2]
        except DataError as error:
            yield str(error)
            continue
        size = size or (width, height)
        if (width, height) != size:
            yield f"{sequence.frames[index].name} is {width} x {height}, the first frame {size[0]} x {size[1]}"
    if size:
        x, y, w, h = sequence.boxes.T
        with np.errstate(invalid="ignore"):
            outside = np.flatnonzero((x >= size[0]) | (y >= size[1]) | (x + w <= 0) | (y + h <= 0))
        if outside.size:
            which = sequence.frames[outside[0]].name
            yield f"{outside.size} boxes lie wholly outside the {size[0]} x {size[1]} image, the first at {which}"


def _frame_number(path: Path) -> int | None:
    digits = re.findall(r"\d+", path.stem)
    return int(digits[-1]) if digits else None


def _entries(root: Path, layout: Layout, one_based: bool | None) -> Iterator[Entry]:
    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    base = layout in ONE_BASED if one_based is None else one_based
    if layout == "folder":
        return _folder(root, base)
    if layout in ("otb2013", "otb50", "otb100"):
        return _otb(root, {"otb2013": OTB2013, "otb50": OTB50, "otb100": OTB100}[layout].split(), base)
    if layout == "got10k":
        return _got10k(root, base)
    if layout == "lasot":
        return _lasot(root, base)
    if layout in ("uav123", "uav20l"):
        return _uav(root, layout.upper(), base)
    if layout in ("nfs30", "nfs240"):
        return _nfs(root, int(layout[3:]), base)
    if layout == "trackingnet":
        return _trackingnet(root, base)
    if layout == "vot":
        return _vot(root, base)
    return _davis(root)


def _found(
    build: Callable[[Any], Sequence], items: list[Path] | list[str], root: Path, expected: str
) -> Iterator[Entry]:
    if not items:
        raise DataError(f"{root}: no sequence in it; expected {expected}")
    return ((Path(item).name.removesuffix(".txt"), partial(build, item)) for item in items)


def _folder(root: Path, one_based: bool) -> Iterator[Entry]:
    truth = "groundtruth_rect.txt"
    single = (root / truth).is_file()
    folders = [root] if single else sorted(p for p in root.iterdir() if (p / truth).is_file() or (p / "img").is_dir())

    def build(folder: Path) -> Sequence:
        frames = list_images(folder / "img" if (folder / "img").is_dir() else folder)
        boxes = read_boxes(folder / truth, one_based)
        return Sequence(folder.resolve().name, frames, boxes, _words(folder / "attributes.txt"))

    return _found(build, folders, root, f"<name>/img/*.jpg and <name>/{truth}")


def _words(path: Path) -> tuple[str, ...]:
    return tuple(re.findall(r"[^,;\s]+", read_text(path))) if path.is_file() else ()


def _flags(path: Path, words: str) -> tuple[str, ...]:
    """Read a file of 0 and 1, one for each attribute name."""
    if not path.is_file():
        return ()
    names, values = words.split(), read_numbers(path).ravel()
    if len(values) != len(names):
        raise DataError(f"{path}: {len(values)} flags, expected {len(names)}")
    return tuple(name for name, value in zip(names, values, strict=True) if value)


def _otb(root: Path, names: list[str], one_based: bool) -> Iterator[Entry]:
    folders = {p.name.lower(): p for p in root.iterdir() if p.is_dir()}  # some mirrors write the names in lower case
    if not any(name.lower() in folders for name in names):
        raise DataError(f"{root}: no OTB sequence in it; expected folders such as {names[0]}/img")

    def build(name: str, truth: Path | None, label: str) -> Sequence:
        if truth is None:
            raise DataError(f"{root / name}: missing, or without groundtruth_rect.txt")
        frames, boxes = list_images(truth.parent / "img"), read_boxes(truth, one_based)
        if name in OTB_RANGES:
            first, last = OTB_RANGES[name]
            kept = [first <= (_frame_number(path) or 0) <= last for path in frames]
            if len(boxes) == len(frames):
                boxes = boxes[kept]
            frames = tuple(path for path, keep in zip(frames, kept, strict=True) if keep)
        attributes = _flags(root / "anno" / "att" / f"{label.lower()}.txt", OTB_ATTRIBUTES)
        return Sequence(label, frames, boxes, attributes)

    for name in sorted(names):
        folder = folders.get(name.lower())
        truths = sorted(folder.glob("groundtruth_rect*.txt")) if folder else []
        truths = [path for path in truths if path.stat().st_size > 2]  # Human4 carries an empty first one
        for number, truth in enumerate(truths, 1):
            label = name if len(truths) == 1 else f"{name}-{number}"
            yield label, partial(build, name, truth, label)
        if not truths:
            yield name, partial(build, name, None, name)


def _hidden_after_first(boxes: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Test sets publish the first box only: the others are NaN, and nothing is scored on them."""
    if len(boxes) != 1 or count == 1:
        return boxes
    return np.vstack([boxes, np.full((count - 1, 4), np.nan)])


def _got10k(root: Path, one_based: bool) -> Iterator[Entry]:
    def build(name: str) -> Sequence:
        folder = root / name
        frames = list_images(folder)
        boxes = _hidden_after_first(read_boxes(folder / "groundtruth.txt", one_based), len(frames))
        if (folder / "cover.label").is_file():
            cover = read_numbers(folder / "cover.label").ravel()
            if len(cover) != len(boxes):
                raise DataError(f"{folder / 'cover.label'}: {len(cover)} values for {len(boxes)} boxes")
            cover[0] = max(cover[0], 1)
            boxes = np.where(cover[:, None] > 0, boxes, np.nan)
        meta = read_text(folder / "meta_info.ini") if (folder / "meta_info.ini").is_file() else ""
        rate = re.search(r"anno_fps:\s*([\d.]+)", meta)
        size = re.search(r"resolution:\s*\(([\d.]+),\s*([\d.]+)\)", meta)
        bound = (float(size[1]), float(size[2])) if size else None
        return Sequence(name, frames, boxes, (), float(rate[1]) if rate else 10.0, bound)

    names = read_text(root / "list.txt").split()
    return _found(build, names, root, "names in list.txt")


def _lasot(root: Path, one_based: bool) -> Iterator[Entry]:
    def build(folder: Path) -> Sequence:
        boxes = read_boxes(folder / "groundtruth.txt", one_based)
        for name in ("full_occlusion.txt", "out_of_view.txt"):
            if (folder / name).is_file():
                absent = read_numbers(folder / name).ravel()
                if len(absent) != len(boxes):
                    raise DataError(f"{folder / name}: {len(absent)} values for {len(boxes)} boxes")
                boxes[absent > 0] = np.nan
        return Sequence(folder.name, list_images(folder / "img"), boxes)

    folders = sorted({p.parent for p in (*root.glob("*/groundtruth.txt"), *root.glob("*/*/groundtruth.txt"))})
    if (root / "testing_set.txt").is_file():
        by_name = {folder.name: folder for folder in folders}
        wanted = read_text(root / "testing_set.txt").split()
        folders = [by_name.get(name, root / name.rpartition("-")[0] / name) for name in wanted]
    return _found(build, folders, root, "<class>/<name>/img/*.jpg and groundtruth.txt")


def _uav(root: Path, version: str, one_based: bool) -> Iterator[Entry]:
    def build(truth: Path) -> Sequence:
        name, boxes = truth.stem, read_boxes(truth, one_based)
        folder, _, part = name.rpartition("_")
        first = 1
        if version == "UAV123" and folder in UAV_PARTS and part.isdigit() and int(part) <= len(UAV_PARTS[folder]):
            first = UAV_PARTS[folder][int(part) - 1]
        else:
            folder = name
        files = {_frame_number(path): path for path in list_images(root / "data_seq" / "UAV123" / folder)}
        missing = [n for n in range(first, first + len(boxes)) if n not in files]
        if missing:
            raise DataError(f"{name}: {len(boxes)} boxes, but frame {missing[0]} of {folder} is missing")
        frames = tuple(files[n] for n in range(first, first + len(boxes)))
        return Sequence(name, frames, boxes, _flags(truth.parent / "att" / truth.name, UAV_ATTRIBUTES))

    truths = sorted((root / "anno" / version).glob("*.txt"), key=_natural)
    return _found(build, truths, root, f"anno/{version}/*.txt and data_seq/UAV123/<name>/*.jpg")


def _nfs(root: Path, rate: int, one_based: bool) -> Iterator[Entry]:
    def build(truth: Path) -> Sequence:
        name = truth.stem
        rows = []
        for number, line in enumerate(read_text(truth).splitlines(), 1):
            try:
                rows.append([float(word) for word in line.split()[1:5]] if line.strip() else [])
            except ValueError:
                raise DataError(f"{truth}, line {number}: expected id x1 y1 x2 y2 .., got {line[:60]!r}") from None
        corners = np.array([row for row in rows if len(row) == 4]).reshape(-1, 4)
        boxes = _to_zero_based(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), one_based)
        frames = list_images(truth.parent / name)
        if rate == 30 and abs(len(boxes) / len(frames) - 8) < 1:
            boxes = boxes[::8]  # the 30 Hz boxes come at 240 Hz, one frame in eight has an image
        if abs(len(boxes) - len(frames)) == 1:  # a known slip of the published files
            frames, boxes = frames[: len(boxes)], boxes[: len(frames)]
        return Sequence(name, frames, boxes, fps=float(rate))

    truths = sorted(root.glob(f"*/{rate}/*.txt"))
    return _found(build, truths, root, f"<name>/{rate}/<name>.txt and <name>/{rate}/<name>/*.jpg")


def _trackingnet(root: Path, one_based: bool) -> Iterator[Entry]:
    def build(truth: Path) -> Sequence:
        frames = list_images(root / "frames" / truth.stem)
        return Sequence(truth.stem, frames, _hidden_after_first(read_boxes(truth, one_based), len(frames)))

    truths = sorted((root / "anno").glob("*.txt"))
    return _found(build, truths, root, "anno/<name>.txt and frames/<name>/*.jpg")


def _vot(root: Path, one_based: bool) -> Iterator[Entry]:
    def build(folder: Path) -> Sequence:
        rate, pattern = 30.0, ""
        if (folder / "sequence").is_file():
            parser = configparser.ConfigParser(interpolation=None)
            try:
                parser.read_string("[sequence]\n" + read_text(folder / "sequence"))
                rate = float(parser["sequence"].get("fps", "30"))
            except (configparser.Error, ValueError) as error:
                raise DataError(f"{folder / 'sequence'}: {error}") from None
            pattern = parser["sequence"].get("channels.color", "")
        images = folder / Path(pattern).parent if pattern else folder / "color"
        frames = list_images(images if images.is_dir() else folder)
        boxes = _read_vot_regions(folder / "groundtruth.txt", one_based)
        tags = sorted(p for p in folder.glob("*.tag"))
        attributes = tuple(p.stem for p in tags if read_numbers(p).any())
        return Sequence(folder.name, frames, boxes, attributes, rate)

    names = read_text(root / "list.txt").split() if (root / "list.txt").is_file() else []
    folders = [root / name for name in names] or sorted(p.parent for p in root.glob("*/groundtruth.txt"))
    return _found(build, folders, root, "list.txt and <name>/groundtruth.txt")


def _read_vot_regions(path: Path, one_based: bool) -> NDArray[np.float64]:
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not any(line.startswith("m") for line in lines):
        return read_boxes(path, one_based)
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.startswith("m"):  # a special code: the target is not there
            rows.append([np.nan] * 4)
            continue
        try:
            left, top, width, height, *runs = (int(word) for word in line[1:].split(","))
        except ValueError:
            raise DataError(f"{path}, line {number}: not a mask m<x>,<y>,<w>,<h>,<runs>: {line[:60]!r}") from None
        rows.append(mask_box(decode_runs(runs, width, height), left, top))
    return np.array(rows, dtype=np.float64)  # masks are 0-based by definition


def decode_runs(runs: list[int], width: int, height: int) -> NDArray[np.bool_]:
    """Expand run lengths, row by row, background first, into an (H, W) mask."""
    flat = np.zeros(width * height, bool)
    ends = np.cumsum(runs)
    for start, end in zip(ends[0::2], ends[1::2], strict=False):
        flat[start:end] = True
    return flat.reshape(height, width)


def mask_box(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [np.nan] * 4
    x, y = columns[0], rows[0]
    return [float(left + x), float(top + y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]


def _davis(root: Path) -> Iterator[Entry]:
    masks = sorted(p for p in (root / "Annotations" / "480p").glob("*") if p.is_dir())
    listed = root / "ImageSets" / "2017" / "val.txt"
    if listed.is_file():
        masks = [root / "Annotations" / "480p" / name for name in read_text(listed).split()]
    if not masks:
        raise DataError(f"{root}: no sequence in it; expected JPEGImages/480p/<name> and Annotations/480p/<name>")

    def build(folder: Path, number: int, boxes: NDArray[np.float64]) -> Sequence:
        frames = list_images(root / "JPEGImages" / "480p" / folder.name)
        name = f"{folder.name}-{number}"
        if len(frames) != len(boxes):
            raise DataError(f"{name}: {len(frames)} frames but {len(boxes)} masks")
        start = int(np.flatnonzero(present(boxes))[0])
        return Sequence(name, frames[start:], boxes[start:], fps=24.0)

    def fail(error: DataError) -> Sequence:
        raise error

    for folder in masks:
        try:
            objects = _davis_boxes(list_images(folder))
        except DataError as error:
            yield folder.name, partial(fail, error)
            continue
        for number, boxes in objects.items():
            yield f"{folder.name}-{number}", partial(build, folder, number, boxes)


def _davis_boxes(files: tuple[Path, ...]) -> dict[int, NDArray[np.float64]]:
    """Return the boxes of every object of a clip: {object number: (N, 4)}, NaN where it has no mask."""
    boxes: dict[int, NDArray[np.float64]] = {}
    for index, path in enumerate(files):
        blue, green, red = np.moveaxis(read_image(path).astype(np.int32), 2, 0)
        number = np.zeros(red.shape, np.int32)
        for bit in range(8):  # undo the palette: bit k of the number is bit 7 - k//3 of red, green or blue
            for channel, colour in enumerate((red, green, blue)):
                if 3 * bit + channel < 8:
                    number |= ((colour >> (7 - bit)) & 1) << (3 * bit + channel)
        for value in np.unique(number[number > 0]).tolist():
            boxes.setdefault(value, np.full((len(files), 4), np.nan))[index] = mask_box(number == value)
    return dict(sorted(boxes.items()))
