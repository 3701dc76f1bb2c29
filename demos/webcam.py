"""Follow an object in front of a webcam: draw a box with the mouse, press Enter; q or Esc ends.

python webcam.py        the first camera; python webcam.py 1 takes the second
"""

import sys

from siamtrack import Tracker, frames
from tracker.draw import Window, check_display, draw_results, select_box


def main(camera: str = "0", weights: str = "swift") -> None:
    check_display()
    tracker = Tracker.load(weights)
    with frames(camera) as source:
        first = next(source).image
        tracker.init(first, select_box(first))
        window = Window()
        for frame in source:
            result = tracker.update(frame.image)
            if not window.show(draw_results(frame.image, [result])):  # dashed: a guess
                break


if __name__ == "__main__":
    main(*sys.argv[1:])
