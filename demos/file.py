"""Follow an object through a video file and print its box in every frame.

python file.py clip.mp4 64,34,51,68        the box is x,y,w,h in the first frame, pixels
"""

import sys

from tracker import Tracker, frames


def main(path: str, box: str, weights: str = "swift") -> None:
    tracker = Tracker.load(weights)
    with frames(path) as source:
        first = next(source)
        tracker.init(first.image, [float(v) for v in box.split(",")])
        for frame in source:
            result = tracker.update(frame.image)
            x, y, w, h = result.box
            print(f"{frame.index} {frame.time:.3f} s: {x:.1f},{y:.1f},{w:.1f},{h:.1f} score {result.score:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
