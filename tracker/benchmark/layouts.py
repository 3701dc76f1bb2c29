"""Readers of the layouts of data sets: each yields the name of a sequence and what reads it; see `sequences`."""

import configparser
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.sequence import (
    DataError,
    Entry,
    Sequence,
    frame_number,
    list_images,
    present,
    read_boxes,
    read_image,
    read_numbers,
    read_text,
    to_zero_based,
)
from tracker.video import natural_key

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
OTB = {"otb2013": OTB2013, "otb50": OTB50, "otb100": OTB100}
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


def _found(
    build: Callable[[Any], Sequence], items: list[Path] | list[str], root: Path, expected: str
) -> Iterator[Entry]:
    if not items:
        raise DataError(f"{root}: no sequence in it; expected {expected}")
    return ((Path(item).name.removesuffix(".txt"), partial(build, item)) for item in items)


def folder(root: Path, one_based: bool) -> Iterator[Entry]:
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


def otb(root: Path, names: list[str], one_based: bool) -> Iterator[Entry]:
    folders = {p.name.lower(): p for p in root.iterdir() if p.is_dir()}  # some mirrors write the names in lower case
    if not any(name.lower() in folders for name in names):
        raise DataError(f"{root}: no OTB sequence in it; expected folders such as {names[0]}/img")

    def build(name: str, truth: Path | None, label: str) -> Sequence:
        if truth is None:
            raise DataError(f"{root / name}: missing, or without groundtruth_rect.txt")
        frames, boxes = list_images(truth.parent / "img"), read_boxes(truth, one_based)
        omitted = _ranges(root / "initOmit" / f"{label}.txt")
        if name in OTB_RANGES:
            first, last = OTB_RANGES[name]
            kept = [first <= (frame_number(path) or 0) <= last for path in frames]
            if len(boxes) == len(frames):
                boxes = boxes[kept]
            frames = tuple(path for path, keep in zip(frames, kept, strict=True) if keep)
        attributes = _flags(root / "anno" / "att" / f"{label.lower()}.txt", OTB_ATTRIBUTES)
        places = (place for place, path in enumerate(frames) if frame_number(path) in omitted)
        return Sequence(label, frames, boxes, attributes, omitted=frozenset(places))

    for name in sorted(names):
        folder = folders.get(name.lower())
        truths = sorted(folder.glob("groundtruth_rect*.txt")) if folder else []
        truths = [path for path in truths if path.stat().st_size > 2]  # Human4 carries an empty first one
        for number, truth in enumerate(truths, 1):
            label = name if len(truths) == 1 else f"{name}-{number}"
            yield label, partial(build, name, truth, label)
        if not truths:
            yield name, partial(build, name, None, name)


def _ranges(path: Path) -> frozenset[int]:
    """Read the frame numbers in lines of first and last one; the OTB toolkit starts no TRE run there."""
    if not path.is_file() or not read_text(path).strip():
        return frozenset()
    rows = read_numbers(path).astype(int)
    if rows.shape[1] != 2:
        raise DataError(f"{path}: {rows.shape[1]} numbers a line, expected the first and the last frame")
    return frozenset(number for first, last in rows.tolist() for number in range(first, last + 1))


def _hidden_after_first(boxes: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Test sets publish the first box only: the others are NaN, and nothing is scored on them."""
    if len(boxes) != 1 or count == 1:
        return boxes
    return np.vstack([boxes, np.full((count - 1, 4), np.nan)])


def got10k(root: Path, one_based: bool) -> Iterator[Entry]:
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
        first = 1.0 if one_based else 0.0  # its toolkit clips the boxes as they are in the files
        bound = (-first, -first, float(size[1]) - first, float(size[2]) - first) if size else None
        return Sequence(name, frames, boxes, (), float(rate[1]) if rate else 10.0, bound)

    names = read_text(root / "list.txt").split()
    return _found(build, names, root, "names in list.txt")


def lasot(root: Path, one_based: bool) -> Iterator[Entry]:
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


def uav(root: Path, version: str, one_based: bool) -> Iterator[Entry]:
    def build(truth: Path) -> Sequence:
        name, boxes = truth.stem, read_boxes(truth, one_based)
        folder, _, part = name.rpartition("_")
        first = 1
        if version == "UAV123" and folder in UAV_PARTS and part.isdigit() and int(part) <= len(UAV_PARTS[folder]):
            first = UAV_PARTS[folder][int(part) - 1]
        else:
            folder = name
        files = {frame_number(path): path for path in list_images(root / "data_seq" / "UAV123" / folder)}
        missing = [n for n in range(first, first + len(boxes)) if n not in files]
        if missing:
            raise DataError(f"{name}: {len(boxes)} boxes, but frame {missing[0]} of {folder} is missing")
        frames = tuple(files[n] for n in range(first, first + len(boxes)))
        return Sequence(name, frames, boxes, _flags(truth.parent / "att" / truth.name, UAV_ATTRIBUTES))

    truths = sorted((root / "anno" / version).glob("*.txt"), key=natural_key)
    return _found(build, truths, root, f"anno/{version}/*.txt and data_seq/UAV123/<name>/*.jpg")


def nfs(root: Path, rate: int, one_based: bool) -> Iterator[Entry]:
    def build(truth: Path) -> Sequence:
        name = truth.stem
        rows = []
        for number, line in enumerate(read_text(truth).splitlines(), 1):
            try:
                rows.append([float(word) for word in line.split()[1:5]] if line.strip() else [])
            except ValueError:
                raise DataError(f"{truth}, line {number}: expected id x1 y1 x2 y2 .., got {line[:60]!r}") from None
        corners = np.array([row for row in rows if len(row) == 4]).reshape(-1, 4)
        boxes = to_zero_based(np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), one_based)
        frames = list_images(truth.parent / name)
        if rate == 30 and abs(len(boxes) / len(frames) - 8) < 1:
            boxes = boxes[::8]  # the 30 Hz boxes come at 240 Hz, one frame in eight has an image
        if abs(len(boxes) - len(frames)) == 1:  # a known slip of the published files
            frames, boxes = frames[: len(boxes)], boxes[: len(frames)]
        return Sequence(name, frames, boxes, fps=float(rate))

    truths = sorted(root.glob(f"*/{rate}/*.txt"))
    return _found(build, truths, root, f"<name>/{rate}/<name>.txt and <name>/{rate}/<name>/*.jpg")


def trackingnet(root: Path, one_based: bool) -> Iterator[Entry]:
    def build(truth: Path) -> Sequence:
        frames = list_images(root / "frames" / truth.stem)
        return Sequence(truth.stem, frames, _hidden_after_first(read_boxes(truth, one_based), len(frames)))

    truths = sorted((root / "anno").glob("*.txt"))
    return _found(build, truths, root, "anno/<name>.txt and frames/<name>/*.jpg")


def vot(root: Path, one_based: bool) -> Iterator[Entry]:
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
        return Sequence(folder.name, frames, boxes, attributes, rate, anchors=_anchors(folder / "anchor.value"))

    names = read_text(root / "list.txt").split() if (root / "list.txt").is_file() else []
    folders = [root / name for name in names] or sorted(p.parent for p in root.glob("*/groundtruth.txt"))
    return _found(build, folders, root, "list.txt and <name>/groundtruth.txt")


def _anchors(path: Path) -> tuple[int, ...]:
    """Read a value a frame: above 0 a run starts there forwards, below 0 backwards."""
    values = read_numbers(path).ravel() if path.is_file() else np.empty(0)
    return tuple(-1 - frame if values[frame] < 0 else frame for frame in np.flatnonzero(values).tolist())


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
    """Return x, y, w, h of the upright box around an (H, W) mask whose corner is at (left, top); NaN without pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return [np.nan] * 4
    x, y = columns[0], rows[0]
    return [float(left + x), float(top + y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y)]


def davis(root: Path) -> Iterator[Entry]:
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
