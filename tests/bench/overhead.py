"""What is not tracking: python tests/bench/overhead.py measures what the benchmark's runner costs over the bare loop of
decode and update, and with --recorder what a frame in a flight log costs.

The same sequence, rendered by tracker/scene.py and read from JPEG files, is run in turn by the bare loop, by the runner
in this process and by the runner's worker process, with the tracker loaded and warm in both. Printed is the median of
the ratios of neighbouring passes, so that other jobs on the machine weigh on both sides, of the time on the clock and
of the processors' time (Linux only), which counts the parent of the worker process, too.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from tracker import Result, Tracker
from tracker.benchmark.peers.peers import load_tracker
from tracker.benchmark.protocols import plan
from tracker.benchmark.run.runner import run_part, warm_up
from tracker.benchmark.run.workers import Job, Worker, pause
from tracker.footage.layouts import load_folder
from tracker.footage.video import Frame
from tracker.geometry import Box
from tracker.recorder import Recorder
from tracker.scene import Scene


class Silent:
    """Takes the place of the progress bar."""

    def update(self, count: int) -> None:
        """Do nothing."""


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="swift")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--passes", type=int, default=7)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    parser.add_argument("--recorder", action="store_true", help="milliseconds and bytes of a frame in a flight log")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        (record if args.recorder else measure)(Path(folder), args)


def record(folder: Path, args: argparse.Namespace) -> None:
    """The median of 200 writes of a frame with one target, for two sizes; bytes of a line."""
    for size in ((640, 360), (1920, 1080)):
        rng = np.random.default_rng(0)
        frame = Frame(rng.integers(0, 255, (*size[::-1], 3), np.uint8), 1, 0.04)
        path, times = folder / f"{size[0]}.siamlog", []
        with Recorder(path, Tracker.load(args.weights)) as recorder:
            head = path.stat().st_size
            for _ in range(200):
                x, y, w, h, *rest = rng.uniform(0, 100, 8).tolist()
                result = Result(Box(x, y, w, h), *rest)
                begin = time.perf_counter()
                recorder.write(frame, {0: result})
                times.append(1e3 * (time.perf_counter() - begin))
            line = (path.stat().st_size - head) / len(times)
        print(f"recorder, {size[0]} x {size[1]}: {np.median(times):.2f} ms and {line:.0f} bytes a frame")


def measure(folder: Path, args: argparse.Namespace) -> None:
    """Render, run in turn, print."""
    scene = Scene(tuple(args.size), args.frames, seed=1)
    (folder / "scene" / "img").mkdir(parents=True)
    for t in range(args.frames):
        cv2.imwrite(str(folder / "scene" / "img" / f"{t:04d}.jpg"), scene.render(t))
    np.savetxt(folder / "scene" / "groundtruth_rect.txt", [scene.box(t) for t in range(args.frames)], delimiter=",")
    part = plan("ope", load_folder(folder / "scene", one_based=False)[0])[0]
    tracker = load_tracker(args.weights)
    warm_up(tracker, part)
    worker = Worker(args.frames)
    job = Job(args.weights, {}, part, "ope", folder / "unused.csv")

    def bare() -> None:
        tracker.init(cv2.imread(str(part.sequence.frames[0])), part.box)
        for path in part.sequence.frames[1:]:
            tracker.update(cv2.imread(str(path)))

    def here() -> None:
        assert run_part(tracker, part, "ope").error == ""

    def process() -> None:
        worker.give(job)
        while (run := worker.poll(600, Silent())) is None:
            pause([worker])
        assert run.error == ""

    ways: dict[str, Callable[[], None]] = {"runner, this process": here, "runner, worker process": process}
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}

    def clocks() -> tuple[float, float]:
        own, other = time.process_time(), 0.0
        stat = Path(f"/proc/{worker.process.pid}/stat")
        if stat.is_file():
            words = stat.read_text().rpartition(")")[2].split()
            other = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), own + other

    try:
        for way in (bare, *ways.values()):  # the worker loads its tracker here
            way()
        for index in range(args.passes):
            for name, way in ways.items():
                pair = {}
                for turn in (bare, way) if index % 2 else (way, bare):
                    begin = clocks()
                    turn()
                    pair[turn] = np.subtract(clocks(), begin)
                times[name].append((*pair[bare], *pair[way]))
    finally:
        worker.stop()
    loop = np.median([pair[0] for pairs in times.values() for pair in pairs]) / args.frames
    print(f"{args.weights}, {args.size[0]} x {args.size[1]} JPEG, {args.frames} frames, {args.passes} passes in turn")
    print(f"bare loop of decode and update: {1e3 * loop:.2f} ms a frame")
    for name, pairs in times.items():
        for clock, kind in enumerate(("clock", "processor")):
            ratios = [row[2 + clock] / row[clock] for row in pairs]
            low, middle, high = np.percentile(ratios, (25, 50, 75))
            print(f"{name}, {kind} time: {middle:.3f} times the bare loop (quartiles {low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
