"""`siamtrack demo`: a target lost and found again in real footage, and a rendered scene with exact truth, measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.events import Event, Painter
from tracker.benchmark.judge.metrics import success_auc
from tracker.crop import Image, resize
from tracker.draw import draw, draw_results
from tracker.errors import SourceError
from tracker.footage.output import check_output, write_whole
from tracker.footage.sequence import Sequence as Footage
from tracker.footage.video import VideoWriter, frames
from tracker.geometry import Box, iou
from tracker.progress import Progress
from tracker.samples import SCENE_SEED, sample
from tracker.scene import Scene
from tracker.target import Result
from tracker.tracker import Tracker

CUT = 38, 50  # frames of the street, from its first, in which another scene is shown; a van has passed before
SLOW = 2  # the street is shown so many times slower: it lasts two and a half seconds
WORDS = {"tracking": "followed", "uncertain": "in doubt, the box is a guess", "lost": "lost, looked for"}
TRUTH_COLOUR = (255, 255, 255)
TRAIL = 30  # centres drawn behind the box
COLUMNS, ROWS = 3, 2  # of a clip in the contact sheet
TILE_WIDTH, GAP = 384, 8  # px


@dataclass(frozen=True)
class Clip:
    """What is tracked.

    images: each (H, W, 3) uint8 BGR. fps: of the video that is drawn. box: of the target in the first one.
    truth: (length, 4) boxes, or None.
    """

    name: str
    images: Iterable[Image]
    length: int
    fps: float
    size: tuple[int, int]
    box: Box
    truth: NDArray[np.float64] | None


@dataclass(frozen=True)
class Outcome:
    """What came out.

    results: of every frame after the first. success_auc: in [0, 1] over all frames, a perfect run is 1; None without
    truth. video: the overlay. tiles: frames of it that tell what happened.
    """

    name: str
    results: list[Result]
    success_auc: float | None
    video: Path
    tiles: list[Image]

    @property
    def stages(self) -> NDArray[np.float64]:
        """(N - 1, 3) milliseconds of crop, network and post-processing for each update."""
        return np.array([(r.crop_ms, r.network_ms, r.post_ms) for r in self.results])

    @property
    def lost(self) -> list[tuple[int, int]]:
        """First and last frame of each stretch in which the target was lost."""
        edges = np.flatnonzero(np.diff([False, *(not r for r in self.results), False])).reshape(-1, 2)
        return [(int(first) + 1, int(end)) for first, end in edges]  # the results begin with frame 1


def run_demo(
    out_dir: str | Path,
    weights: str | Path = "swift",
    threads: int = 1,
    force: bool = False,
    length: int | None = None,
) -> list[Outcome]:
    """Track both clips, write their overlay videos and a contact sheet to `out_dir`, and print what was measured.

    out_dir: made if it is not there. force: overwrite earlier files. length: frames of each clip at most.
    weights, threads: as for `Tracker.load`.
    Raises FileExistsError without force, OSError for a folder that cannot be written, and what `Tracker.load` raises.
    """
    out = Path(out_dir)
    out.mkdir(parents=True, exist_ok=True)
    videos = {name: check_output(out / f"{name}.webm", (".webm",), force) for name in ("street", "scene")}
    sheet = check_output(out / "sheet.png", (".png",), force)
    print(f"loading {weights} ...", flush=True)
    tracker = Tracker.load(weights, threads=threads)
    outcomes = []
    for clip in (street(length), scene(length)):
        if clip is not None:
            outcomes.append(_track(tracker, clip, videos[clip.name], force))
    _write_sheet(outcomes, sheet)
    print(report(outcomes, f"{weights}, {tracker.device}, {threads} thread{'' if threads == 1 else 's'}"))
    print("\nvideos   " + "  ".join(str(one.video) for one in outcomes) + f"\nsheet    {sheet}")
    return outcomes


def street(length: int | None = None) -> Clip | None:
    """A cyclist whom a van hides, and a cut to another scene and back, made as the benchmark makes its events.

    None, with a line that says how to get it, where the real clip is not installed.
    """
    try:
        clip = sample("street")
    except SourceError as error:
        print(f"{error}\nGoing on with the rendered scene.")
        return None
    with frames(clip.path, clip.start, clip.stop + CUT[1] - CUT[0]) as source:  # another scene follows this one
        images = [frame.image for frame in source]
        fps, size = source.fps or 25.0, source.size
    count = clip.stop - clip.start
    with TemporaryDirectory() as folder:
        files = tuple(Path(folder) / f"{i:03d}.png" for i in range(len(images)))
        for file, image in zip(files, images, strict=True):
            file.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        boxes = np.array([clip.box] * len(files))  # only the first one is known; a cut asks for none
        seen, other = (Footage("street", files[s], boxes[s]) for s in (slice(count), slice(count, None)))
        event, painter = Event(seen, "cut", *CUT, other), Painter(seen)
        images[slice(*CUT)] = [event.image(i, painter) for i in range(*CUT)]
    del images[min(length or count, count) :]
    return Clip("street", images, len(images), fps / SLOW, size, clip.box, None)


def scene(length: int | None = None) -> Clip:
    """A rendered scene whose truth is known."""
    made = Scene((640, 360), min(length or 240, 240), SCENE_SEED)
    truth = np.array([made.box(t) for t in range(len(made))])
    return Clip("scene", made, len(made), 30.0, made.size, Box(*truth[0].tolist()), truth)


def follow(tracker: Tracker, clip: Clip) -> Iterator[tuple[Result, Image]]:
    """What the tracker says of each frame, and the frame with that drawn in; of the first one, what it was given."""
    trail: list[tuple[float, float]] = []
    for t, image in enumerate(clip.images):
        if t == 0:
            tracker.init(image, clip.box)
            result = Result(clip.box, 1.0)
        else:
            result = tracker.update(image)
        trail = [*trail[1 - TRAIL :], result.box.centre] if result else []
        drawn = image if clip.truth is None else draw(image, clip.truth[t], colour=TRUTH_COLOUR)
        yield result, draw_results(drawn, [result], [trail])


def report(outcomes: list[Outcome], how: str) -> str:
    """Text of the measurements; how: with what they were made."""
    lines = [
        f"milliseconds an update ({how}; decoding and drawing not counted)",
        f"{'':15} {'crop':>8} {'network':>8} {'post':>8} {'all':>8} {'fps':>8}",
    ]
    for one in outcomes:
        stages = np.column_stack([one.stages, one.stages.sum(1)])
        median, p95 = np.percentile(stages, (50, 95), axis=0)
        lines.append(f"{one.name:7} median  " + " ".join(f"{ms:8.2f}" for ms in median) + f" {1e3 / median[3]:8.0f}")
        lines.append(f"{'':7} p95     " + " ".join(f"{ms:8.2f}" for ms in p95))
    lines.append("")
    for one in outcomes:
        said = " and ".join(f"{first} to {last}" for first, last in one.lost)
        lines.append(f"{one.name}: {len(one.results) + 1} frames, " + (f"lost in {said}" if said else "never lost"))
        if one.success_auc is not None:
            lines.append(f"success AUC of {one.name}, against its exact truth: {one.success_auc:.3f}")
            lines.append(
                "(mean over 21 thresholds 0..1 of the share of frames with IoU >= threshold; a perfect run is 1)"
            )
    return "\n".join(lines)


def told(states: Sequence[str], count: int) -> list[tuple[int, str]]:
    """The frames that tell best what happened, at most `count`, and what each shows.

    states: of all frames. Each stretch of one state has a frame; the shortest go without where they are too many, and
    where they are few the long ones have several.
    """
    starts = [0, *(t for t in range(1, len(states)) if states[t] != states[t - 1])]
    stretches = list(zip(starts, [*starts[1:], len(states)], strict=True))
    while len(stretches) > count:
        stretches.remove(min(stretches, key=lambda s: s[1] - s[0]))
    shown = [1] * len(stretches)
    while sum(shown) < min(count, len(states)):
        shown[max(range(len(shown)), key=lambda k: (stretches[k][1] - stretches[k][0]) / (shown[k] + 0.5))] += 1
    frames_shown = []
    for (first, end), number in zip(stretches, shown, strict=True):
        words = WORDS[states[first]]
        if states[first] == "tracking" and "lost" in states[:first]:
            words = "found again"
        frames_shown += [(int(first + (k + 0.5) * (end - first) / number), words) for k in range(number)]
    return frames_shown


def _track(tracker: Tracker, clip: Clip, video: Path, force: bool) -> Outcome:
    results, tiles = [], []
    height = round(clip.size[1] * TILE_WIDTH / clip.size[0])
    with VideoWriter(video, clip.fps, clip.size, force) as writer, Progress(clip.name, clip.length) as bar:
        for result, drawn in follow(tracker, clip):
            results.append(result)
            writer.write(drawn)
            tiles.append(resize(drawn, TILE_WIDTH, height))
            bar.update()
    auc = None if clip.truth is None else success_auc(iou([r.box for r in results], clip.truth))
    note = "" if clip.truth is None else "; truth in white"
    story = told([r.state for r in results], COLUMNS * ROWS)
    shown = [_tile(tiles[t], f"frame {t}: {words}{note}") for t, words in story]
    return Outcome(clip.name, results[1:], auc, video, shown)


def _tile(image: Image, caption: str) -> Image:
    """A picture with a caption below and a gap at the right."""
    tile = np.pad(image, ((0, 28), (0, GAP), (0, 0)), constant_values=24)
    at = 2, image.shape[0] + 15
    cv2.putText(tile, caption, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (210, 210, 210), 1, cv2.LINE_AA)
    return tile


def _write_sheet(outcomes: list[Outcome], path: Path) -> None:
    """Write the tiles of all outcomes as one PNG."""
    rows = []
    for one in outcomes:
        rows += [np.hstack(one.tiles[at : at + COLUMNS]) for at in range(0, len(one.tiles), COLUMNS)]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (GAP, width - row.shape[1]), (0, 0)), constant_values=24) for row in rows]
    image = np.pad(np.vstack(rows), ((GAP, 0), (0, 0), (0, 0)), constant_values=24)
    write_whole(path, cv2.imencode(".png", image)[1].tobytes())
