"""Make the animation at the top of README: python docs/animate.py [OUT.webp]

It is the street of `siamtrack demo`, as the tracker that ships follows it. Needs the extra `demo` and OpenCV 4.11.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from siamtrack import Tracker
from tracker.demo import follow, street

WIDTH = 480  # px
HOLD = 1500  # milliseconds that the last frame stays
QUALITY = 45  # of WebP, 1 to 100


def main(out: str | None = None) -> int:
    """Write it; 0 done, 2 when the clip is not installed."""
    path = Path(out) if out else Path(__file__).parent / "lost-and-found.webp"
    clip = street()
    if clip is None:
        return 2
    height = round(clip.size[1] * WIDTH / clip.size[0])
    drawn = [image for _, image in follow(Tracker.load("swift", threads=1), clip)]
    animation = cv2.Animation()
    animation.frames = [cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA) for image in drawn]
    durations = np.full(len(drawn), round(1000 / clip.fps))
    durations[-1] = HOLD
    animation.durations = durations
    if not cv2.imwriteanimation(str(path), animation, [cv2.IMWRITE_WEBP_QUALITY, QUALITY]):
        raise OSError(f"{path}: could not be written")
    print(f"{path}: {len(drawn)} frames, {path.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
