"""Does anything grow? Many updates over changing footage, targets that come and go; memory, handles, threads, time.

python tests/bench/soak.py [UPDATES] [--minutes M] [--out FILE.csv] [--plot FILE.svg]: a line after each twentieth of
the updates, or of the minutes where those end first.
"""

import argparse
import csv
import gc
import os
import resource
import sys
import time

import numpy as np

from tracker import Tracker
from tracker.scene import Scene

LENGTH = 60  # frames of a rendered film
ROWS = 20


def resident() -> float:
    """MB of memory of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def share(done: int, start: float, args: argparse.Namespace) -> float:
    """How much of the run is over, 0 to 1."""
    return max(done / args.updates, (time.monotonic() - start) / 60 / args.minutes)


def state() -> tuple[int, int, int, int]:
    """MB of memory, open handles, threads (of the system, not of Python only) and Python objects."""
    gc.collect()
    counts = (len(os.listdir(f"/proc/self/{name}")) for name in ("fd", "task"))
    return (round(resident()), *counts, len(gc.get_objects()))


def plot(rows: list[tuple], path: str) -> None:
    """One small chart a column, over the updates."""
    from matplotlib import pyplot

    names, (updates, *columns) = rows[0], zip(*rows[1:], strict=True)
    figure, axes = pyplot.subplots(1, len(columns), figsize=(2.2 * len(columns), 2.2), layout="constrained")
    for axis, name, column in zip(axes, names[1:], columns, strict=True):
        axis.plot([n / 1000 for n in updates], column)
        axis.set(title=name, ylim=(0, 1.25 * max(column)), xlabel="thousand updates")
    figure.savefig(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("updates", nargs="?", type=int, default=10_000)
    parser.add_argument("--weights", default="swift")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--out")
    parser.add_argument("--plot")
    args = parser.parse_args()
    tracker = Tracker.load(args.weights, device="cpu", engine=args.engine)
    pool = [Scene(size, LENGTH, seed) for seed in range(8) for size in ((320, 240), (200, 160), (480, 270))]
    films = [([scene.render(t) for t in range(LENGTH)], scene.box(0)) for scene in pool]
    rng, done, times, start = np.random.default_rng(0), 0, [], time.monotonic()
    rows = [("updates", "resident MB", "handles", "threads", "objects", "p50 ms", "p95 ms")]
    print(*rows[0], sep="\t", flush=True)
    while done < args.updates and share(done, start, args) < 1:
        images, box = films[rng.integers(len(films))]
        targets = [tracker.init(images[0], box)]
        for image in images[1:]:
            if rng.random() < 0.05:  # something else is wanted, too, or no more
                targets = [*targets[:1], tracker.init(image, (*rng.uniform(0, 150, 2), 30, 30))][: 1 + rng.integers(2)]
            if rng.random() < 0.02:
                image = np.zeros_like(image)  # the camera failed
            begin = time.perf_counter()
            tracker.update_all(image, targets)
            times.append(1e3 * (time.perf_counter() - begin) / len(targets))
            done += len(targets)
            if share(done, start, args) * ROWS >= len(rows):
                rows.append((done, *state(), *np.percentile(times, (50, 95)).round(2).tolist()))
                print(*rows[-1], sep="\t", flush=True)
                times = []
    if args.out:
        with open(args.out, "w", newline="") as file:
            csv.writer(file).writerows(rows)
    if args.plot:
        plot(rows, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
