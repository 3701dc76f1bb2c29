"""Draw how one frame is tracked: python docs/draw_tracking.py [OUT.webp]

Four pictures beside each other: the frame with its search window, the exemplar, the search crop under the score map,
and the boxes of the strongest cells with the one that is taken. It is the street of `siamtrack demo`, or the rendered
scene where that clip is not installed, as the network that ships sees it.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from siamtrack import Tracker, frames, sample
from tracker.crop import crop

HEIGHT = 300  # px of every picture
FRAME = 3  # of the clip: the target is in full view
CELLS = 12  # strongest cells whose boxes are drawn
WHITE, GREY, GREEN, AMBER = (255, 255, 255), (150, 150, 150), (80, 220, 60), (40, 190, 250)


def corners(box: tuple[float, float, float, float], zoom: float = 1.0) -> tuple[tuple[int, int], tuple[int, int]]:
    """Corners of a box as cv2 draws them."""
    x, y, w, h = (round(zoom * v) for v in box)
    return (x, y), (x + w, y + h)


def main(out: str | None = None) -> int:
    """Write it."""
    path = Path(out) if out else Path(__file__).parent / "guide" / "tracking.webp"
    clip = sample()
    images = [frame.image for frame in frames(clip.path, clip.start, clip.start + FRAME + 1)]
    tracker = Tracker.load("swift", device="cpu", threads=1)
    target = tracker.init(images[0], clip.box)
    for image in images[1:-1]:
        tracker.update(image, target)
    before, image, engine = target.box, images[-1], tracker.engine
    window = engine.config.search_window(before, velocity=target.followed.velocity)
    view = engine.look_once(image, target.appearance, window)
    peak = engine.peaks(view, before, 1)[0]
    taken = engine.refine(target.appearance, [(view, peak)])[0].box

    whole = image.copy()
    cv2.rectangle(whole, *corners((window.x, window.y, window.w, window.h)), WHITE, 2, cv2.LINE_AA)
    cv2.rectangle(whole, *corners(before), GREY, 1, cv2.LINE_AA)
    cv2.rectangle(whole, *corners(taken), GREEN, 2, cv2.LINE_AA)

    exemplar = crop(images[0], engine.config.exemplar_window(clip.box), target.appearance.fill)
    search = crop(image, window, target.appearance.fill)
    zoom = HEIGHT / window.size
    large = cv2.resize(search, (HEIGHT, HEIGHT), interpolation=cv2.INTER_CUBIC)

    score = 1 / (1 + np.exp(-view.logits))
    first, stride = engine.grid.first, engine.grid.stride
    place = np.array([[stride * zoom, 0, first * zoom], [0, stride * zoom, first * zoom]])  # cell centres -> picture
    heat = cv2.warpAffine(score, place, (HEIGHT, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colour = cv2.applyColorMap(np.uint8(255 * np.clip(heat, 0, 1)), cv2.COLORMAP_INFERNO)
    mapped = cv2.addWeighted(large, 0.45, colour, 0.75, 0)

    boxes = large.copy()
    assert view.box_map is not None
    strongest = np.argsort(view.logits, axis=None)[::-1][:CELLS]
    for row, column in zip(*np.unravel_index(strongest, view.logits.shape), strict=True):
        cx, cy = engine.grid.centres[column], engine.grid.centres[row]
        left, top, right, bottom = view.box_map[:, row, column]
        cv2.rectangle(boxes, *corners((cx - left, cy - top, left + right, top + bottom), zoom), AMBER, 1, cv2.LINE_AA)
        cv2.circle(boxes, (round(zoom * cx), round(zoom * cy)), 2, AMBER, -1, cv2.LINE_AA)
    cv2.rectangle(boxes, *corners(window.to_crop(taken), zoom), GREEN, 2, cv2.LINE_AA)

    width = round(image.shape[1] * HEIGHT / image.shape[0])
    shown = [
        cv2.resize(whole, (width, HEIGHT), interpolation=cv2.INTER_AREA),
        cv2.resize(exemplar, (HEIGHT, HEIGHT), interpolation=cv2.INTER_CUBIC),
        mapped,
        boxes,
    ]
    gap = np.full((HEIGHT, 8, 3), 255, np.uint8)
    row_of = [part for one in shown for part in (one, gap)][:-1]
    if not cv2.imwrite(str(path), cv2.hconcat(row_of), [cv2.IMWRITE_WEBP_QUALITY, 70]):
        raise OSError(f"{path}: could not be written")
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
