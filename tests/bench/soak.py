"""Does anything grow? Many updates over changing footage, targets that come and go; memory, handles, threads, time.

python tests/bench/soak.py [UPDATES] [--out FILE.csv]: ten lines, each the state after a tenth of the updates.
"""

import argparse
import csv
import gc
import os
import resource
import sys
import threading
import time

import numpy as np

from tracker import Tracker
from tracker.scene import Scene


def resident() -> float:
    """MB of memory of this process now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("updates", nargs="?", type=int, default=10_000)
    parser.add_argument("--weights", default="swift")
    parser.add_argument("--out")
    args = parser.parse_args()
    tracker = Tracker.load(args.weights, device="cpu")
    rng, done, times = np.random.default_rng(0), 0, []
    rows = [("updates", "resident MB", "handles", "threads", "objects", "p50 ms", "p95 ms")]
    print(*rows[0], sep="\t", flush=True)
    while done < args.updates:
        size = [(320, 240), (200, 160), (480, 270)][rng.integers(3)]
        scene = Scene(size, 100, seed=int(rng.integers(1000)))
        targets = [tracker.init(scene.render(0), scene.box(0))]
        for t in range(1, 100):
            frame = scene.render(t)
            if rng.random() < 0.05:  # something else is wanted, too, or no more
                targets = [*targets[:1], tracker.init(frame, (*rng.uniform(0, 150, 2), 30, 30))][: 1 + rng.integers(2)]
            if rng.random() < 0.02:
                frame = np.zeros_like(frame)  # the camera failed
            begin = time.perf_counter()
            tracker.update_all(frame, targets)
            times.append(1e3 * (time.perf_counter() - begin) / len(targets))
            done += len(targets)
            if done * 10 // args.updates >= len(rows):
                gc.collect()
                p50, p95 = np.percentile(times, (50, 95))
                handles, objects = len(os.listdir("/proc/self/fd")), len(gc.get_objects())
                rows.append(
                    (done, f"{resident():.0f}", handles, threading.active_count(), objects, f"{p50:.1f}", f"{p95:.1f}")
                )
                print(*rows[-1], sep="\t", flush=True)
                times = []
                if done >= args.updates:
                    break
    if args.out:
        with open(args.out, "w", newline="") as file:
            csv.writer(file).writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
