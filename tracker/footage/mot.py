"""MOTChallenge: several targets in a video, an identity each."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tracker.errors import DataError
from tracker.footage.clip import Clip, Tally, Target
from tracker.footage.files import folders, frame_number, list_images, read_numbers, read_text

MIN_VISIBLE = 0.2  # share of a target that must be in view


def read_mot(root: Path, tally: Tally) -> Iterator[Clip]:
    """Lines of frame, identity, left, top, width, height, flag[, class, visibility]; pixels count from 1."""
    places = [p for p in (root, *folders(root)) if (p / "gt" / "gt.txt").is_file()]
    if not places:
        raise DataError(f"{root}: no sequence in it; expected <name>/gt/gt.txt and <name>/img1/*.jpg")
    done: set[str] = set()
    for folder in places:
        name = folder.resolve().name
        footage = re.sub(r"-(DPM|FRCNN|SDP)$", "", name)  # MOT17 comes three times, once for each detector
        if footage in done:
            tally.drop("copies of a sequence for another detector", name)
            continue
        try:
            rows = read_numbers(folder / "gt" / "gt.txt")
            if rows.shape[1] < 6:
                raise DataError(f"{folder / 'gt' / 'gt.txt'}: {rows.shape[1]} numbers a line, expected 6 to 10")
            if not np.isfinite(rows[:, :2]).all():
                raise DataError(f"{folder / 'gt' / 'gt.txt'}: frames and ids must be finite numbers")
            info = folder / "seqinfo.ini"
            place = re.search(r"(?m)^imDir\s*=\s*(\S+)", read_text(info)) if info.is_file() else None
            images = list_images(folder / (place[1] if place else "img1"))
        except DataError as error:
            tally.drop("sequences that cannot be used", str(error))
            continue
        done.add(footage)
        boxes: dict[int, dict[int, tuple[float, ...]]] = defaultdict(dict)
        place_of = _numbering(images, {int(number) for number in rows[:, 0]})
        for row in rows.tolist():
            identity, number = int(row[1]), place_of.get(int(row[0]), -1)
            where = f"{name}/{identity} frame {row[0]:g}"
            if len(row) > 6 and row[6] == 0:
                tally.drop("boxes that the data set says to ignore", where)
            elif len(row) == 9 and row[8] < MIN_VISIBLE:
                tally.drop(f"less than {MIN_VISIBLE:.0%} visible", where)
            elif number < 0:
                tally.drop("boxes without a frame", where)
            elif number in boxes[identity]:
                tally.drop("second box of a target in a frame", where)
            else:
                boxes[identity][number] = (row[2] - 1, row[3] - 1, row[4], row[5])
        targets = (Target(str(i), f"{name}/{i}", observed) for i, observed in boxes.items() if observed)
        yield Clip(name, "mot", images, tuple(targets))


def _numbering(images: tuple[Path, ...], used: set[int]) -> dict[int, int]:
    """Frame number -> place among the images: by the numbers in their names, or from 1 where only that fits all."""
    by_place = {place + 1: place for place in range(len(images))}
    by_name = {frame_number(path): place for place, path in enumerate(images)}
    numbers = {number: place for number, place in by_name.items() if number is not None}
    if len(numbers) < len(images) or (used <= set(by_place) and not used <= set(numbers)):
        return by_place
    return numbers
