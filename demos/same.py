"""Do two images show the same kind of thing? Both beside each other, with the answer on them.

python same.py a.jpg b.jpg answer.png           without the last one, a window shows it
python same.py a.jpg b.jpg answer.png mine      by weights of your own, or `drawings`, in place of `photos`
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from siamtrack import Similarity
from tracker.draw import Window, check_display, draw_lines
from tracker.footage.files import read_image
from tracker.footage.output import check_output, write_whole


def main(first: str, second: str, out: str | None = None, weights: str = "photos", height: int = 320) -> None:
    if out:
        check_output(out, (".png",), force=True)
    similarity = Similarity.load(weights)
    images = [read_image(path) for path in (first, second)]
    probability = similarity(*images)
    answer = f"{'same' if probability >= similarity.threshold else 'different'}: {probability:.2f}"
    beside = [cv2.resize(image, (max(round(image.shape[1] * height / len(image)), 1), height)) for image in images]
    shown = draw_lines(np.hstack(beside), [answer])
    print(f"{answer} ({similarity.threshold:.2f} and more is the same)")
    if out:
        write_whole(Path(out), cv2.imencode(".png", shown)[1].tobytes())
    else:
        check_display()
        window = Window()
        while window.show(shown, 100):  # until q, Esc or the window is closed
            pass


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit(__doc__)
