"""What trackers do with the same bad input: ours, OpenCV's, and peers. A process each, since some end it.

python tests/bench/hostile.py --trackers swift,opencv-mil,nanotrack-v3=onnx/,fear=onnx/ (specs as for `siamtrack bench`)
writes a Markdown table: the mean IoU in the last ten frames of a rendered scene, after what came in between.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable

import numpy as np

from tracker.benchmark.peers.answer import read_answer
from tracker.benchmark.peers.peers import load_tracker, tracker_name
from tracker.geometry import iou
from tracker.scene import Scene

LENGTH, AT = 40, 12  # frames; the one at which the bad input comes
SCENE = Scene((640, 360), LENGTH, seed=4, occlusion=False)
FRAMES: dict[str, Callable] = {
    "nothing bad": lambda image: image,
    "a frame of 1 x 1": lambda image: image[:1, :1],
    "a frame of 8 x 8": lambda image: image[:8, :8],
    "a strip of 4 rows": lambda image: image[:4],
    "a black frame": np.zeros_like,
    "the picture at half size, once": lambda image: image[::2, ::2],
    "a grey frame (H, W)": lambda image: image[:, :, 0],
    "a frame of floats": lambda image: image / 255.0,
}
BOXES = {
    "box of no size": (100, 100, 0, 0),
    "box of 1e-6 x 50": (100, 100, 1e-6, 50),
    "box outside the frame": (900, 100, 40, 40),
    "box of NaN": (float("nan"), 100, 40, 40),
    "two corners": ((100, 100), (140, 140)),
}


def answer(tracker, image):
    return read_answer(tracker.update(np.ascontiguousarray(image)))[0]


def after_frame(tracker, change) -> str:
    images = [SCENE.render(t) for t in range(LENGTH)]
    tracker.init(images[0], SCENE.box(0))
    for t in range(1, AT):
        answer(tracker, images[t])
    said = ""
    try:
        box = answer(tracker, change(images[AT]))
        if not np.isfinite(box).all():
            said = "a box of NaN; "
    except Exception as error:
        said = f"{type(error).__name__}; "
    found = [answer(tracker, images[t]) for t in range(AT + 1, LENGTH)][-10:]
    overlap = float(np.nan_to_num(iou(found, [SCENE.box(t) for t in range(LENGTH - 10, LENGTH)])).mean())
    return f"{said}{overlap:.2f}"


def with_box(tracker, box) -> str:
    try:
        tracker.init(SCENE.render(0), box)
    except Exception as error:
        return f"refused: {type(error).__name__}"
    try:
        found = [answer(tracker, SCENE.render(t)) for t in (1, 2, 3)]
    except Exception as error:
        return f"taken, then {type(error).__name__}"
    return "taken, finite boxes" if np.isfinite(found).all() else "taken, then boxes of NaN"


def one(spec: str, case: str) -> str:
    tracker = load_tracker(spec)
    return after_frame(tracker, FRAMES[case]) if case in FRAMES else with_box(tracker, BOXES[case])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trackers", default="swift,swift-nano,opencv-mil")
    parser.add_argument("--only", nargs=2, metavar=("TRACKER", "CASE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(one(*args.only))
        return
    specs = args.trackers.split(",")
    print("|".join(["| input ", *(f" {tracker_name(spec)} " for spec in specs), ""]))
    print("|" + " --- |" * (len(specs) + 1))
    for case in (*FRAMES, *BOXES):
        cells = []
        for spec in specs:
            words = [sys.executable, __file__, "--only", spec, case]
            try:
                done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
                lines = done.stdout.splitlines()
                said = lines[-1] if done.returncode == 0 else done.stderr.strip().splitlines()[-1].split(":")[0]
                cells.append(said if done.returncode == 0 else f"{said}, for good" if done.returncode > 0 else "crash")
            except subprocess.TimeoutExpired:
                cells.append("hangs")
        print("|".join([f"| {case} ", *(f" {cell} " for cell in cells), ""]), flush=True)


if __name__ == "__main__":
    main()
