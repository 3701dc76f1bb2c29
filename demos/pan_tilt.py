"""A camera that turns to keep a target in its middle, in simulation: the error in degrees, printed and plotted.

python pan_tilt.py out.png        needs matplotlib for the plot
The scene is rendered: a target wanders over a wide ground; every third frame is dropped, and for one second a wall
hides the target. The controller steers by the result alone: towards where the target will be when the motor acts, at a
limited rate; in doubt and when lost it stands still.
"""

import sys

import cv2
import numpy as np

from siamtrack import Tracker
from tracker.emit import Motion
from tracker.footage.boxes import Row

FPS, SECONDS, SIZE, SIDE = 30, 16, (320, 240), 40  # frames/s, s, px, px
PX_PER_DEGREE = SIZE[0] / 60  # the camera sees 60 degrees
MOST = 45.0  # degrees/s that the motors manage
GAIN, DELAY = 5.0, 2 / FPS  # 1/s; s from the picture to the motor
SURE = 0.5  # below this score the camera does not act
HIDDEN = 8.0, 9.0  # s, behind a wall


def direction(t):
    """Where the target is: pan and tilt, degrees."""
    return np.array([35 * np.sin(0.55 * t) + 6 * np.sin(1.9 * t), 9 * np.sin(0.8 * t)])


class World:
    """A wide ground with a target, seen by a camera that looks in some direction."""

    def __init__(self):
        rng = np.random.default_rng(5)
        wide = (int(180 * PX_PER_DEGREE), int(110 * PX_PER_DEGREE))
        self.ground = cv2.resize(rng.integers(50, 140, (44, 72, 3), np.uint8), wide, interpolation=cv2.INTER_CUBIC)
        look = rng.integers(0, 255, (5, 5, 3), np.uint8)
        self.target = cv2.resize(look, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)

    def place(self, angles):
        """The pixel of the ground in a direction."""
        return np.array(self.ground.shape[1::-1]) / 2 + np.asarray(angles) * PX_PER_DEGREE

    def see(self, t, camera):
        """The frame of a camera that looks towards (pan, tilt), degrees."""
        x, y = self.place(direction(t)) - self.place(camera) + np.array(SIZE) / 2 - SIDE / 2
        frame = cv2.getRectSubPix(self.ground, SIZE, tuple(map(float, self.place(camera) - 0.5)))
        if not HIDDEN[0] <= t < HIDDEN[1]:
            shift = np.array([[1, 0, x], [0, 1, y]])
            cv2.warpAffine(self.target, shift, SIZE, dst=frame, borderMode=cv2.BORDER_TRANSPARENT)
        return frame


def run(tracker, dropped=3):
    """Times, errors in degrees and states; every `dropped`-th frame never comes."""
    world, camera, motion, rate = World(), np.zeros(2), Motion(), np.zeros(2)
    tracker.init(world.see(0, camera), ((SIZE[0] - SIDE) / 2, (SIZE[1] - SIDE) / 2, SIDE, SIDE))
    times, errors, states = [], [], []
    for index in range(1, SECONDS * FPS):
        t = index / FPS
        camera = camera + rate / FPS
        if index % dropped:
            result = tracker.update(world.see(t, camera))
            # in the ground's pixels, where the camera's own turning is no motion of the target
            x, y = np.array(result.box[:2]) + world.place(camera) - np.array(SIZE) / 2
            velocity = motion.after(Row(index, t, 0, x, y, *result.box[2:], result.score, result.state))
            if result.state == "tracking" and result.score >= SURE:
                off = (np.array(result.box[:2]) + np.array(result.box[2:]) / 2 - np.array(SIZE) / 2) / PX_PER_DEGREE
                speed = np.zeros(2) if velocity is None else np.array(velocity) / PX_PER_DEGREE
                rate = np.clip(GAIN * (off + DELAY * speed) + speed, -MOST, MOST)
            else:
                rate = np.zeros(2)
            states.append(result.state)
        else:
            states.append(states[-1] if states else "tracking")
        times.append(t)
        errors.append(float(np.linalg.norm(direction(t) - camera)))
    return np.array(times), np.array(errors), states


def main(out):
    times, errors, states = run(Tracker.load("swift"))
    sure = np.array([state == "tracking" for state in states])
    middle, most = np.median(errors[sure]), np.quantile(errors[sure], 0.95)
    print(f"error while tracked: median {middle:.2f}, 95 % below {most:.2f} degrees")
    back = times[(times > HIDDEN[1]) & sure][:1]
    seen = f"seen again {back[0] - HIDDEN[1]:.2f} s after it" if len(back) else "not seen again"
    print(f"hidden for {HIDDEN[1] - HIDDEN[0]:.0f} s, {seen}")

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 2.6), layout="constrained")
    axes.axvspan(*HIDDEN, color="0.88", label="hidden")
    axes.plot(times, errors, color="#1b8a6b", label="error of the camera")
    axes.fill_between(times, 0, np.where(sure, np.nan, errors), color="#d9534f", alpha=0.4, label="uncertain or lost")
    axes.set(xlabel="s", ylabel="degrees", ylim=(0, None), xlim=(0, times[-1]))
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1])
