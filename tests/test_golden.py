"""The shipped weights track as they did: boxes on a rendered scene, and a floor of accuracy.

After a wanted change (new weights, new constants) write the boxes anew: python tests/test_golden.py
"""

import json
from pathlib import Path

import numpy as np
import pytest

from tracker import Tracker
from tracker.geometry import iou
from tracker.scene import Scene

GOLDEN = Path(__file__).parent / "golden" / "scene.json"
FRAMES = {"swift": 60, "siamfc": 10}
FLOOR = {"swift": 0.5, "siamfc": 0.4}


def run(weights):
    scene = Scene((320, 240), 100, seed=3)
    tracker = Tracker.load(weights, device="cpu", engine="torch")
    tracker.init(scene.render(0), scene.box(0))
    boxes = [tracker.update(scene.render(t)).box for t in range(1, FRAMES[weights])]
    return np.array(boxes), np.array([scene.box(t) for t in range(1, FRAMES[weights])])


@pytest.mark.parametrize("weights", list(FRAMES))
def test_boxes_are_the_golden_ones(weights):
    boxes, truth = run(weights)
    assert iou(boxes, truth).mean() > FLOOR[weights]
    golden = np.array(json.loads(GOLDEN.read_text())[weights])
    # Processors, and versions of OpenCV, which draws the scene, round differently, and a hundredth of a pixel grows
    # over the frames: 6 px after 17 were seen.
    assert boxes[:5] == pytest.approx(golden[:5], abs=0.3)
    overlap = iou(boxes, golden)
    assert overlap.mean() > 0.95 and overlap.min() > 0.75


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps({w: np.round(run(w)[0], 3).tolist() for w in FRAMES}) + "\n")
