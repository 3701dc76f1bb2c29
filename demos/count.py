"""Follow and count all that moves before a camera that stands still: boxes, ids and the MOT file of a clip.

python count.py clip.mp4 out.txt
Any detector does: give `Crowd.update` what `from_ultralytics`, `from_torchvision`, `from_supervision` or `from_yolo`
make of its answer.
"""

import sys
from pathlib import Path

import cv2

from siamtrack import Tracker, frames
from tracker.detections import Crowd, from_corners
from tracker.footage.boxes import Row, as_mot

LEAST = 400  # px of a moving thing
ground = cv2.createBackgroundSubtractorMOG2(detectShadows=False)


def detect(image):
    things = cv2.connectedComponentsWithStats(cv2.medianBlur(ground.apply(image), 7))[2][1:]
    return from_corners([(x, y, x + w, y + h) for x, y, w, h, area in things.tolist() if area > LEAST])


def main(path: str, out: str, every: int = 5) -> None:
    crowd, rows = Crowd(Tracker.load("swift")), []
    with frames(path) as source:
        for frame in source:
            found = detect(frame.image) if frame.index % every == 0 else None
            for one in crowd.update(frame.image, found):
                rows.append(Row(frame.index, frame.time, one.id, *one.result.box, one.result.score, one.result.state))
    Path(out).write_text(as_mot(rows))
    print(f"{crowd.count} things move in {path}; their boxes are in {out}")


if __name__ == "__main__":
    sys.exit(__doc__ if len(sys.argv) < 3 else main(*sys.argv[1:3]))
