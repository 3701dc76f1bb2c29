"""What a tracker must keep to be measured: `check_tracker`."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.benchmark.judge import metrics
from tracker.benchmark.peers.answer import read_answer
from tracker.footage.files import present
from tracker.footage.sequence import Sequence


class ContractError(AssertionError):
    """A tracker breaks the contract; the message lists every breach."""


def check_tracker(tracker: Any, sequence: Sequence) -> None:
    """Run a tracker on a few real frames and hold it to the contract of the benchmark.

    init(frame, box) and update(frame) leave the frame alone; update returns a finite box with an area, and a score in
    [0, 1] if any; the same frames give the same boxes again, unless the tracker has `deterministic` = False; a target
    that stands still is not lost.
    ContractError: with every breach.
    """
    images = [sequence.image(index) for index in range(min(len(sequence), 6))]
    still = [images[0]] * 6
    box = tuple(float(v) for v in sequence.boxes[0])
    breaches: list[str] = []

    def run(frames: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        boxes = []
        for index, frame in enumerate(frames):
            given = frame.copy()
            answer = tracker.update(given) if index else tracker.init(given, box)
            if not np.array_equal(given, frame):
                breaches.append(f"{'update' if index else 'init'} changed the frame it was given")
            if not index:
                boxes.append(np.array(box))
                continue
            values, score, _ = read_answer(answer)
            boxes.append(values)
            if not present(values)[0]:
                breaches.append(f"update returned the box {values.tolist()}: not finite, or without area")
            if not (math.isnan(score) or 0 <= score <= 1):
                breaches.append(f"the score {score:g} is outside [0, 1]")
        return np.array(boxes)

    try:
        if hasattr(tracker, "start_sequence"):
            tracker.start_sequence(sequence)
        first, again = run(images), run(images)
        if getattr(tracker, "deterministic", True) and not np.array_equal(first, again):
            breaches.append("a second run over the same frames gave other boxes")
        stood = metrics.iou(run(still)[-1:], [box])[0]
        if not stood > 0.5:
            breaches.append(
                f"on a still picture the box left its target (IoU {stood:.2f} after {len(still) - 1} frames)"
            )
    except Exception as failure:
        breaches.append(f"{type(failure).__name__}: {failure}")
    if breaches:
        raise ContractError("; ".join(dict.fromkeys(breaches)))
