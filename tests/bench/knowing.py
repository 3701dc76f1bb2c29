"""What knowing costs: a calibrated `Tracker` beside one that only follows, frame by frame in one run, one thread;
and what one verification costs.

python tests/bench/knowing.py DATA [--weights swift] [--frames 120]   (DATA: sequences in a layout that bench knows)
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from tracker import Tracker
from tracker.checkpoints import load_network
from tracker.footage.layouts import load
from tracker.machine import processor
from tracker.tracks import TrackPolicy


def main() -> None:
    """Print a line for each sequence and one for all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="swift")
    parser.add_argument("--frames", type=int, default=120, help="of each sequence")
    args = parser.parse_args()
    tracker = Tracker.load(args.weights)
    net = load_network(f"tracker/weights/{args.weights}.safetensors")
    net.config = replace(net.config, confidence=None)
    trackers = tracker, Tracker(net)
    ratios, sums, looks = [], np.zeros(2), []
    for sequence in load(args.data):
        frames = [sequence.image(i) for i in range(min(len(sequence), args.frames))]
        targets = [t.init(frames[0], sequence.boxes[0].tolist()) for t in trackers]
        times: list[list[float]] = [[], []]
        for frame in frames[1:]:
            for which, (one, target) in enumerate(zip(trackers, targets, strict=True)):
                begin = time.perf_counter()
                one.update(frame, target)
                times[which].append(time.perf_counter() - begin)
            if isinstance(tracker.policy, TrackPolicy) and targets[0].seen:
                begin = time.perf_counter()
                tracker.policy.judge.verify(targets[0], targets[0].seen)
                looks.append(time.perf_counter() - begin)
        own, plain = np.median(times, axis=1)
        ratios.append(own / plain)
        sums += np.sum(times, axis=1)
        print(f"{sequence.name:14s} {1e3 * own:6.2f} ms, plain {1e3 * plain:6.2f} ms, ratio {own / plain:.2f}")
    print(f"{processor()}: ratio of medians {np.median(ratios):.2f} in the median, at most {max(ratios):.2f};")
    print(f"of all time {sums[0] / sums[1]:.2f}, with the frames in which a target is lost")
    print(f"one verification: {1e3 * np.median(looks):.2f} ms in the median")


if __name__ == "__main__":
    main()
