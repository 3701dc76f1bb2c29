"""The labels of one clip behind a session: what a person says is kept on the disk at once."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from tracker.crop import Image
from tracker.errors import DataError, InputError
from tracker.footage import layouts
from tracker.footage.boxes import Row, as_csv
from tracker.footage.clip import Tally
from tracker.footage.dataset import Labels, write_dataset
from tracker.footage.files import read_json
from tracker.footage.output import write_whole
from tracker.footage.video import Frame
from tracker.geometry import Box, check_box
from tracker.label import Labeller
from tracker.target import Result
from tracker.tracker import Tracker
from tracker.web.following import Reader
from tracker.web.reel import Recording

SAVED = "labels.json"
IMPORTED = ("boxes", "mot", "cvat")  # layouts with identities and the clip's own frame numbers


class Labelling:
    """A labeller as a session takes it, see `session.Follower`.

    folder: where labels.json and boxes.csv are kept. What labels.json says already is taken over.
    Raises DataError: labels.json cannot be read, or is of another clip.
    """

    live = False
    at: int | None = None

    def __init__(self, tracker: Tracker, reel: Recording, video: Path, folder: Path) -> None:
        self.labeller = Labeller(tracker, reel.frame, reel.start, reel.stop, reel.fps)
        self.results: dict[int, Result] = {}
        self._reel, self._video, self._folder, self._saved = reel, video, folder, True
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / SAVED).exists():
            self._load(folder / SAVED)

    @property
    def ids(self) -> list[int]:
        """Ids of the targets."""
        return list(self.labeller.targets)

    @property
    def given(self) -> dict[int, dict[int, Box | None]]:
        """The keys of each target."""
        return {n: target.keys for n, target in self.labeller.targets.items()}

    @property
    def rows(self) -> dict[int, dict[int, Row]]:
        """Id -> frame -> row."""
        return {n: target.rows for n, target in self.labeller.targets.items()}

    @property
    def names(self) -> dict[int, str]:
        """What the targets are."""
        return {n: target.name for n, target in self.labeller.targets.items()}

    def add(self, frame: Frame, box: Sequence[float]) -> int:
        """A new target."""
        number = self.labeller.add(frame, box)
        self._keep()
        return number

    def redraw(self, frame: Frame, number: int, box: Sequence[float]) -> None:
        """A key."""
        self.labeller.set_key(number, frame, box)
        self._keep()

    def gone(self, number: int, frame: Frame) -> None:
        """The target is not in the picture from this frame on."""
        self.labeller.set_key(number, frame, None)
        self._keep()

    def drop_key(self, number: int, index: int) -> None:
        """Take a key back."""
        self.labeller.drop_key(number, index)
        self._keep()

    def rename(self, number: int, name: str) -> None:
        """Say what a target is."""
        self.labeller.rename(number, name)
        self._keep()

    def remove(self, number: int) -> None:
        """Forget a target."""
        self.labeller.remove(number)
        self._keep()

    def undo(self) -> bool:
        """Take the last change back."""
        undone = self.labeller.undo()
        self._keep()
        return undone

    def use(self, tracker: Tracker, frame: Frame) -> None:
        """Propose with another network."""
        self.labeller.use(tracker)
        self._keep()

    def step(self, frame: Frame) -> None:
        """Nothing: frames are shown in any order."""

    def go_to(self, index: int, read: Reader) -> None:
        """Nothing, as `step`."""

    def work(self) -> list[tuple[int, int]] | None:
        """Track one frame more, see `Labeller.work`; when all is done boxes.csv is written."""
        found = self.labeller.work()
        if found is None and not self._saved:
            write_whole(self._folder / "boxes.csv", as_csv(r for r in self.labeller.rows() if r.state != "lost"))
            self._saved = True
        return found

    def write(self, layout: str) -> Path:
        """Write a data set, see `dataset.write_dataset`; returns its folder."""
        keys = {n: {f for f, box in boxes.items() if box} for n, boxes in self.given.items()}
        rows = self.labeller.rows()
        length = self._reel.stop if self._reel.stop is not None else max((row.frame for row in rows), default=0) + 1
        video = self._video if self._video.is_file() else None
        name = self._video.stem or "clip"
        labels = Labels(name, self._reel.size, length, rows, self.names, keys, video)

        def read(index: int) -> Image | None:
            frame = self._reel.frame(index)
            return None if frame is None else frame.image

        return write_dataset(self._folder, layout, labels, read)

    def take(self, path: Path) -> None:
        """Take the boxes of a data set as keys, one in each frame that has a box.

        Raises DataError: not one clip in a layout of `IMPORTED`.
        """
        layout = layouts.detect(path)
        if layout not in IMPORTED:
            raise DataError(f"{path}: layout {layout}; labels are taken from {', '.join(IMPORTED)}")
        tally = Tally()
        clips = list(layouts.read(path, layout, tally))
        if len(clips) != 1:
            raise DataError(f"{path}: {len(clips)} clips; labels are taken from one: {'; '.join(tally.lines())}")
        for target in clips[0].targets:
            boxes = {
                f: Box(*box) for f, box in target.boxes.items() if min(box[2:]) > 0 and all(map(math.isfinite, box))
            }
            name = target.label.split("/")[-1]
            frames = [frame for f in sorted(boxes) if (frame := self._reel.frame(f)) and frame.index == f]
            if not frames:
                continue
            number = self.labeller.add(frames[0], boxes[frames[0].index], "target" if name.isdigit() else name)
            keys: dict[int, Box | None] = {}
            for frame in frames:
                keys[frame.index] = boxes[frame.index]
                if frame.index + 1 not in boxes and frame is not frames[-1]:
                    keys[frame.index + 1] = None
            self.labeller.targets[number].keys = keys
            self.labeller.rewrite(number)
        self._keep()

    def _keep(self) -> None:
        targets = {
            str(n): {"name": t.name, "keys": {str(f): list(box) if box else None for f, box in sorted(t.keys.items())}}
            for n, t in self.labeller.targets.items()
        }
        clip = {"clip": self._video.name, "size": list(self._reel.size), "fps": self._reel.fps}
        write_whole(self._folder / SAVED, json.dumps(clip | {"targets": targets}, indent=1) + "\n")
        self._saved = False

    def _load(self, path: Path) -> None:
        data = read_json(path)
        if data.get("clip") != self._video.name or data.get("size") != list(self._reel.size):
            raise DataError(f"{path} is of {data.get('clip')}; choose another folder by --out")
        try:
            for number, one in data["targets"].items():
                size = self._reel.size
                keys = {int(f): check_box(box, *size) if box else None for f, box in one["keys"].items()}
                if not all(self._reel.start <= f < (self._reel.stop or math.inf) for f in keys):
                    raise InputError(f"keys of target {number} lie outside of the clip")
                self.labeller.restore(int(number), str(one["name"]), keys)
                self._saved = False
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise DataError(f"{path}: not labels of ours: {type(error).__name__} {error}") from None
