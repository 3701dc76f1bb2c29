"""Turn a robot towards an object: the newest camera frame in, a steering error in [-1, 1] out.

python robot.py 0 280,200,80,80        a camera index, a stream address or a file; the box in its first frame
A live source hands over its newest frame and drops what came in between, so the error is never old.
"""

import sys

from siamtrack import Tracker, frames

SURE = 0.5  # below this score the robot should not act


def main(source_name: str, box: str, weights: str = "swift") -> None:
    tracker = Tracker.load(weights)
    with frames(source_name) as source:
        first = next(source)
        tracker.init(first.image, [float(v) for v in box.split(",")])
        for frame in source:
            result = tracker.update(frame.image)
            x, _, w, _ = result.box
            width = frame.image.shape[1]
            error = (x + w / 2) / (width / 2) - 1  # -1: at the left edge, 1: at the right edge
            command = f"turn {error:+.3f}" if result and result.score >= SURE else "stop"  # false when lost
            print(f"{frame.time:.3f} s {command} score {result.score:.2f} dropped {source.dropped}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
