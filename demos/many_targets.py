"""Follow several objects with one network: each Target holds its own state, one pass of the network moves them all.

python many_targets.py clip.mp4 out.mp4 64,34,51,68 10,20,30,40 ...
"""

import sys

from siamtrack import Tracker, frames
from tracker.draw import draw_results
from tracker.footage.video import VideoWriter


def main(path: str, out: str, boxes: list[str], weights: str = "swift") -> None:
    tracker = Tracker.load(weights)
    with frames(path) as source, VideoWriter(out, source.fps or 30, source.size, force=True) as writer:
        first = next(source).image
        targets = [tracker.init(first, [float(v) for v in box.split(",")]) for box in boxes]
        for frame in source:
            results = tracker.update_all(frame.image, targets)
            writer.write(draw_results(frame.image, results))  # dashed: a guess; a tag says who is lost
            print(frame.index, " ".join(",".join(f"{v:.1f}" for v in r.box) if r else "lost" for r in results))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
