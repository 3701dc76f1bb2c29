"""Data sets of one target a sequence: each reader yields the name of a sequence and what reads it."""

import configparser
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.errors import DataError
from tracker.footage.clip import Clip, Tally, clips_of
from tracker.footage.files import (
    folders,
    frame_number,
    list_images,
    read_boxes,
    read_corners,
    read_image,
    read_numbers,
    read_text,
    to_zero_based,
    visible,
)
from tracker.footage.masks import decode_runs, mask_box
from tracker.footage.sequence import Entry, Sequence

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
LASOT_ATTRIBUTES = "IV POC DEF MB CM ROT BC VC SV FOC FM OV LR ARC"
LASOT = "<class>/<name>/img/*.jpg and groundtruth.txt"
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


def _sequence(name: str, frames: tuple[Path, ...], boxes: NDArray[np.float64], **more: Any) -> Sequence:
    """As Sequence; one image behind the last box is left out with a word, as the toolkits do."""
    if len(frames) == len(boxes) + 1 and len(boxes) > 1:
        more["note"] = f"{len(frames)} images for {len(boxes)} boxes, the last was left out"
        frames = frames[: len(boxes)]
    return Sequence(name, frames, boxes, **more)


def folder(root: Path, one_based: bool) -> Iterator[Entry]:
    truth = "groundtruth_rect.txt"
    single = (root / truth).is_file()
    found = [root] if single else [p for p in folders(root) if (p / truth).is_file() or (p / "img").is_dir()]

    def build(folder: Path) -> Sequence:
        frames = list_images(folder / "img" if (folder / "img").is_dir() else folder)
        boxes = read_boxes(folder / truth, one_based)
        return _sequence(folder.resolve().name, frames, boxes, attributes=_words(folder / "attributes.txt"))

    return _found(build, found, root, f"<name>/img/*.jpg and <name>/{truth}")


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


def otb(names: list[str], root: Path, one_based: bool) -> Iterator[Entry]:
    there = {p.name.lower(): p for p in folders(root)}  # some mirrors write the names in lower case
    if not any(name.lower() in there for name in names):
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
        return _sequence(label, frames, boxes, attributes=attributes, omitted=frozenset(places))

    for name in sorted(names):
        folder = there.get(name.lower())
        truths = visible(folder, "groundtruth_rect*.txt") if folder else []
        truths = [path for path in truths if path.stat().st_size > 2]  # Human4 carries an empty first one
        for number, truth in enumerate(truths, 1):
            label = name if len(truths) == 1 else f"{name}-{number}"
            yield label, partial(build, name, truth, label)
        if not truths:
            yield name, partial(build, name, None, name)


def otb_or_folder(root: Path, one_based: bool) -> Iterator[Entry]:
    """Sequences that OTB names, with its start and end frames and two targets; others as they lie there."""
    alone = any(root.glob("groundtruth_rect*.txt"))
    root = root.resolve()
    places = [root] if alone else [p for p in folders(root) if any(p.glob("groundtruth_rect*.txt"))]
    if not places:
        other = "; clips with a boxes.csv are read by --data clips" if next(root.glob("**/boxes.csv"), None) else ""
        raise DataError(f"{root}: no sequence in it; expected <name>/img/*.jpg and <name>/groundtruth_rect.txt{other}")
    official = {name.lower(): name for name in (OTB100 + " " + OTB2013).split()}
    for place in places:
        if place.name.lower() in official:
            yield from otb([official[place.name.lower()]], place.parent, one_based)
        else:
            yield from folder(place, one_based)


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


def _inside(root: Path, sign: str, *inner: str) -> Path:
    """Return the folder that holds a sign: the root of a data set, or a split in it."""
    return next((place for place in (root, *(root / name for name in inner)) if (place / sign).exists()), root)


def got10k(root: Path, one_based: bool) -> Iterator[Entry]:
    root = _inside(root, "list.txt", "val", "test")

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
        kind = re.search(r"object_class:\s*(\S.*)", meta)
        return _sequence(
            name,
            frames,
            boxes,
            fps=float(rate[1]) if rate else 10.0,
            bound=bound,
            category=kind[1].strip() if kind else "",
        )

    names = read_text(root / "list.txt").split()
    return _found(build, names, root, "names in list.txt")


def lasot(root: Path, one_based: bool) -> Iterator[Entry]:
    """The sequences kept for testing, where a list names them, else all."""
    found = _lasot_folders(root)
    listed = root / "testing_set.txt"
    if listed.is_file():
        by_name = {folder.name: folder for folder in found}
        names = read_text(listed).split()
        found = [by_name.get(name, root / name.rpartition("-")[0] / name) for name in names]
    return _found(partial(_lasot, one_based), found, root, LASOT)


def lasot_to_train(root: Path, tally: Tally) -> Iterator[Clip]:
    """Clips of the sequences that are not kept for testing."""
    listed = root / "testing_set.txt"
    testing = set(read_text(listed).split()) if listed.is_file() else set()
    kept = []
    for folder in _lasot_folders(root):
        if folder.name in testing:
            tally.drop("sequences kept for testing (testing_set.txt)", folder.name)
        else:
            kept.append(folder)
    return clips_of(_found(partial(_lasot, True), kept, root, LASOT), "lasot", tally)


def _lasot_folders(root: Path) -> list[Path]:
    return sorted({p.parent for p in (*visible(root, "*/groundtruth.txt"), *visible(root, "*/*/groundtruth.txt"))})


def _lasot(one_based: bool, folder: Path) -> Sequence:
    boxes = read_boxes(folder / "groundtruth.txt", one_based)
    for name in ("full_occlusion.txt", "out_of_view.txt"):
        if (folder / name).is_file():
            absent = read_numbers(folder / name).ravel()
            if len(absent) != len(boxes):
                raise DataError(f"{folder / name}: {len(absent)} values for {len(boxes)} boxes")
            boxes[absent > 0] = np.nan
    places = [up / inner / f"{folder.name}.txt" for up in folder.parents[:2] for inner in ("att", "annos/att")]
    flags = next((path for path in places if path.is_file()), places[0])
    attributes = _flags(flags, LASOT_ATTRIBUTES)
    return _sequence(folder.name, list_images(folder / "img"), boxes, attributes=attributes)


def uav(version: str, root: Path, one_based: bool) -> Iterator[Entry]:
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

    truths = visible(root / "anno" / version, "*.txt")
    return _found(build, truths, root, f"anno/{version}/*.txt and data_seq/UAV123/<name>/*.jpg")


def nfs(rate: int, root: Path, one_based: bool) -> Iterator[Entry]:
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

    truths = visible(root, f"*/{rate}/*.txt")
    return _found(build, truths, root, f"<name>/{rate}/<name>.txt and <name>/{rate}/<name>/*.jpg")


def trackingnet(root: Path, one_based: bool) -> Iterator[Entry]:
    root = _inside(root, "anno", "TEST")

    def build(truth: Path) -> Sequence:
        frames = list_images(root / "frames" / truth.stem)
        return _sequence(truth.stem, frames, _hidden_after_first(read_boxes(truth, one_based), len(frames)))

    truths = visible(root / "anno", "*.txt")
    return _found(build, truths, root, "anno/<name>.txt and frames/<name>/*.jpg")


TC128_ATTRIBUTES = "IV OPR SV OCC DEF MB FM IPR OV BC LR"
UAVDT_ATTRIBUTES = "BC CR OR SO IV OB SV LO LT"
VISDRONE_ATTRIBUTES = "ARC BC CM FM FOC IV LR OV POC SOB SV VC"


def tc128(root: Path, one_based: bool) -> Iterator[Entry]:
    """Temple Color 128: <name>/img/*.jpg, <name>_gt.txt, <name>_frames.txt with the first and last frame number."""

    def build(folder: Path) -> Sequence:
        name = folder.name
        images, ends = list_images(folder / "img"), _ranges(folder / f"{name}_frames.txt")
        frames = tuple(path for path in images if frame_number(path) in ends) if ends else images
        attributes = _flags(folder / f"{name}_att.txt", TC128_ATTRIBUTES)
        return _sequence(name, frames, read_boxes(folder / f"{name}_gt.txt", one_based), attributes=attributes)

    found = [folder for folder in folders(root) if (folder / f"{folder.name}_gt.txt").is_file()]
    return _found(build, found, root, "<name>/img/*.jpg and <name>/<name>_gt.txt")


def uavdt(root: Path, one_based: bool) -> Iterator[Entry]:
    """UAVDT for single objects: anno/<name>_gt.txt (also in a folder of its own), the images in a folder <name>."""
    truths = visible(root, "anno/*_gt.txt") or visible(root, "*/anno/*_gt.txt")

    def build(truth: Path) -> Sequence:
        name = truth.name.removesuffix("_gt.txt")
        places = [root / name, *visible(root, f"*/{name}"), *visible(root, f"*/*/{name}")]
        images = next((place for place in places if place.is_dir()), places[0])
        attributes = _flags(truth.parent.parent / "att" / f"{name}_att.txt", UAVDT_ATTRIBUTES)
        return _sequence(name, list_images(images), read_boxes(truth, one_based), attributes=attributes)

    return (
        (name.removesuffix("_gt"), build)
        for name, build in _found(build, truths, root, "anno/<name>_gt.txt and <name>/*.jpg")
    )


def visdrone(root: Path, one_based: bool) -> Iterator[Entry]:
    """VisDrone-SOT: sequences/<name>/*.jpg, annotations/<name>.txt, attributes/<name>_attr.txt."""

    def build(truth: Path) -> Sequence:
        frames = list_images(root / "sequences" / truth.stem)
        boxes = _hidden_after_first(read_boxes(truth, one_based), len(frames))
        attributes = _flags(root / "attributes" / f"{truth.stem}_attr.txt", VISDRONE_ATTRIBUTES)
        return _sequence(truth.stem, frames, boxes, attributes=attributes)

    truths = visible(root / "annotations", "*.txt") or visible(root / "initialization", "*.txt")
    return _found(build, truths, root, "annotations/<name>.txt and sequences/<name>/*.jpg")


def imgs(truth: str, root: Path, one_based: bool) -> Iterator[Entry]:
    """TNL2K and VastTrack: <name>/imgs/* beside a file of boxes, also a folder deeper (by class)."""

    def build(path: Path) -> Sequence:
        boxes = read_boxes(path / truth, one_based)
        return _sequence(path.name, list_images(path / "imgs"), boxes)

    found = [path.parent for path in visible(root, f"*/{truth}") or visible(root, f"*/*/{truth}")]
    return _found(build, found, root, f"<name>/imgs/* and <name>/{truth}")


def avist(root: Path, one_based: bool) -> Iterator[Entry]:
    """AVisT: sequences/<name>/*.jpg, anno/<name>.txt; full_occlusion/ and out_of_view/ say where it is not seen."""

    def build(truth: Path) -> Sequence:
        name, boxes = truth.stem, read_boxes(truth, one_based)
        for what in ("full_occlusion", "out_of_view"):
            path = root / what / f"{name}_{what}.txt"
            if path.is_file():
                absent = read_numbers(path).ravel()
                if len(absent) != len(boxes):
                    raise DataError(f"{path}: {len(absent)} values for {len(boxes)} boxes")
                boxes[absent > 0] = np.nan
        return _sequence(name, list_images(root / "sequences" / name), boxes)

    return _found(build, visible(root / "anno", "*.txt"), root, "anno/<name>.txt and sequences/<name>/*.jpg")


def oxuva(root: Path, one_based: bool) -> Iterator[Entry]:
    """OxUvA, the dev set: annotations/dev.csv and images/dev/<video>/<frame>.jpeg; boxes are shares of the image.

    Frames without a line are neither present nor absent. Both count from 0.
    """
    path = root / "annotations" / "dev.csv"
    rows: dict[tuple[str, str], list[list[str]]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        words = line.split(",")
        if len(words) != 12:
            raise DataError(f"{path}, line {number}: {len(words)} columns, expected 12")
        rows.setdefault((words[0], words[1]), []).append(words)

    def build(key: tuple[str, str]) -> Sequence:
        images = {frame_number(image): image for image in list_images(root / "images" / "dev" / key[0])}
        labels = [(int(words[6]), words[7], [float(word) for word in words[8:]]) for words in rows[key]]
        first, last = min(label[0] for label in labels), max(label[0] for label in labels)
        missing = [number for number in range(first, last + 1) if number not in images]
        if missing:
            raise DataError(f"{key[0]}: frame {missing[0]} is missing")
        height, width = read_image(images[first]).shape[:2]
        boxes = np.full((last - first + 1, 4), np.nan)
        absent = frozenset(number - first for number, state, _ in labels if state == "absent")
        for number, state, (left, right, top, bottom) in labels:
            if state == "present":
                corners = left * width, top * height, (right - left) * width, (bottom - top) * height
                boxes[number - first] = corners
        frames = tuple(images[number] for number in range(first, last + 1))
        return Sequence("_".join(key), frames, boxes, category=rows[key][0][3], absent=absent)

    if not rows:
        raise DataError(f"{path}: empty")
    return (("_".join(key), partial(build, key)) for key in rows)


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
        truth = folder / "groundtruth.txt"
        boxes = _read_vot_regions(truth, one_based)
        corners = None if _has_masks(truth) else read_corners(truth, one_based)
        tags = {path.stem: _tagged(path, len(boxes)) for path in visible(folder, "*.tag")}
        attributes = tuple(name for name, tagged in tags.items() if tagged.any())
        anchors = _anchors(folder / "anchor.value")
        return Sequence(folder.name, frames, boxes, attributes, rate, anchors=anchors, polygons=corners, tags=tags)

    names = read_text(root / "list.txt").split() if (root / "list.txt").is_file() else []
    found = [root / name for name in names] or [p.parent for p in visible(root, "*/groundtruth.txt")]
    return _found(build, found, root, "list.txt and <name>/groundtruth.txt")


def _tagged(path: Path, count: int) -> NDArray[np.bool_]:
    """Read 0 or 1 a frame, (count,) bool; frames behind the end of the file are not tagged, as in the toolkit."""
    values = read_numbers(path).ravel()[:count] > 0
    return np.pad(values, (0, count - len(values)))


def _anchors(path: Path) -> tuple[int, ...]:
    """Read a value a frame: above 0 a run starts there forwards, below 0 backwards."""
    values = read_numbers(path).ravel() if path.is_file() else np.empty(0)
    return tuple(-1 - frame if values[frame] < 0 else frame for frame in np.flatnonzero(values).tolist())


def _has_masks(path: Path) -> bool:
    return any(line.lstrip().startswith("m") for line in read_text(path).splitlines())


def _read_vot_regions(path: Path, one_based: bool) -> NDArray[np.float64]:
    if not _has_masks(path):
        return read_boxes(path, one_based)
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.startswith("m"):  # a special code: the target is not there
            rows.append([np.nan] * 4)
            continue
        try:
            left, top, width, height, *runs = (int(word) for word in line[1:].split(","))
            rows.append(mask_box(decode_runs(runs, width, height), left, top))
        except ValueError:
            raise DataError(f"{path}, line {number}: not a mask m<x>,<y>,<w>,<h>,<runs>: {line[:60]!r}") from None
    return np.array(rows, dtype=np.float64)  # masks are 0-based by definition


def is_region(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        line = file.readline(400).strip()
    return line.startswith("m") or len(re.findall(r"[^,;\s]+", line)) >= 6
