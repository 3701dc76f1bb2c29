"""Follow an object through a video file and print its box in every frame.

python file.py clip.mp4 64,34,51,68        the box is x,y,w,h in the first frame, pixels
"""

import sys

from siamtrack import Tracker, frames


def main(path: str, box: str, weights: str = "swift") -> None:
    tracker = Tracker.load(weights)
    with frames(path) as source:
        first = next(source)
        tracker.init(first.image, [float(v) for v in box.split(",")])
        for frame in source:
            result = tracker.update(frame.image)
            place = ",".join(f"{v:.1f}" for v in result.box) if result else "lost"  # a result is false when lost
            print(f"{frame.index} {frame.time:.3f} s: {place} score {result.score:.2f}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
