"""Pictures for people: box, score and trail on a copy of the frame; windows, where there is a display."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracker.crop import Image, resize
from tracker.errors import InputError
from tracker.footage.output import write_whole

Colour = tuple[int, int, int]

_SHIFT = 4  # cv2 draws at 1/16 px
_DARK: Colour = (24, 20, 16)
_LIGHT: Colour = (255, 255, 255)
_RAMP = np.array([(64, 64, 240), (40, 190, 250), (90, 220, 60)], float)  # score 0, 0.5, 1: red, amber, green
_FONT = cv2.FONT_HERSHEY_SIMPLEX
COLOURS: tuple[Colour, ...] = (  # of targets, BGR; those of the page
    (164, 208, 63), (247, 169, 90), (208, 139, 245), (74, 185, 245),
    (255, 155, 179), (92, 138, 255), (79, 219, 143), (232, 216, 79),
)  # fmt: skip
_GAP = 5  # between dashes, widths of the line, whose round ends and dark rim take half of it
_MOST_DASHES = 400  # of one side
_HEAT = 0.55  # most of a picture that a map covers


def draw(
    frame: Image,
    box: Sequence[float] | NDArray[Any] | None,
    score: float | None = None,
    trail: ArrayLike | None = None,
    label: str | None = None,
    colour: Colour | None = None,
    dashed: bool = False,
) -> Image:
    """Return a copy of the frame with a box, its score and the way it came; lines scale with the frame.

    frame: (H, W, 3) uint8, BGR; not changed
    box: (x, y, w, h), frame pixels, sub-pixel positions kept; None draws no box (the target is lost)
    score: in [0, 1], a bar and a number above the box; it colours the box from red to green
    trail: (N, 2) centres, oldest first, frame pixels
    label: text beside the score
    colour: BGR, instead of the colour of the score
    dashed: the box is a guess

    Raises ValueError for another frame or a box that is not four finite numbers with a positive size.
    """
    _check_frame(frame)
    out = np.array(frame, order="C")
    paint = colour or _score_colour(score)
    unit = max(0.6, min(out.shape[:2]) / 360)
    if trail is not None:
        _draw_trail(out, np.asarray(trail, float).reshape(-1, 2), paint, unit)
    if box is None:
        if label or score is not None:
            _draw_tag(out, 0.0, 0.0, 0.0, score, label, paint, unit)
        return out
    x, y, w, h = (float(v) for v in box)
    if not np.isfinite((x, y, w, h)).all() or w <= 0 or h <= 0:
        raise InputError(f"box {tuple(box)} is not four finite numbers x, y, w, h with w > 0 and h > 0")
    corners = np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])
    width = max(2, round(1.6 * unit))  # one pixel would be blurred away between two
    lines = _dashes(corners, _GAP * width) if dashed else [corners]
    for tone, wide in ((_DARK, width + 2 * max(1, round(0.7 * unit))), (paint, width)):
        for line in lines:
            _polyline(out, line, tone, wide, closed=not dashed)
    if label or score is not None:
        _draw_tag(out, x, y, h, score, label, paint, unit)
    return out


class Shown(Protocol):
    """What is drawn of a tracker's Result."""

    @property
    def box(self) -> Sequence[float]: ...
    @property
    def score(self) -> float: ...
    @property
    def state(self) -> str: ...


def draw_results(
    frame: Image, results: Sequence[Shown], trails: Sequence[ArrayLike] = (), ids: Sequence[int] | None = None
) -> Image:
    """A copy of the frame with what was found in it: a guess (uncertain) is dashed, and a tag says who is lost.

    results: of one target, whose colour is that of its score, or of several, which are numbered and each have a colour.
    trails: (N, 2) centres of each, as for `draw`. ids: their numbers; None: 0, 1, 2 ...
    """
    _check_frame(frame)
    numbers = list(range(len(results)) if ids is None else ids)
    several = len(results) > 1 or numbers not in ([], [0])
    for place, (number, result) in enumerate(zip(numbers, results, strict=True)):
        if result.state != "lost":
            words = [str(number)] * several + [result.state] * (result.state != "tracking")
            trail = trails[place] if trails else None
            colour = COLOURS[number % len(COLOURS)] if several else None
            guess = result.state == "uncertain"
            frame = draw(frame, result.box, result.score, trail, " ".join(words), colour, guess)
    lost = [number for number, result in zip(numbers, results, strict=True) if result.state == "lost"]
    if not lost:
        return frame if results else frame.copy()
    if several:
        return draw(frame, None, label=f"lost: {', '.join(map(str, lost))}")
    return draw(frame, None, results[0].score, label="lost")


def draw_heat(frame: Image, values: NDArray[Any], region: Sequence[float]) -> Image:
    """A copy of the frame, on which a map lies: nothing where it is 0, red where it is 1.

    values: (h, w) in [0, 1]. region: x, y, w, h that the map covers, frame px; may reach beyond the frame.
    """
    x, y, w, h = region
    (rows, columns), (height, width) = values.shape, frame.shape[:2]
    place = np.array([[w / columns, 0, x + w / columns / 2 - 0.5], [0, h / rows, y + h / rows / 2 - 0.5]])
    spread = cv2.warpAffine(values.astype(np.float32), place, (width, height), flags=cv2.INTER_LINEAR)
    share = _HEAT * np.clip(spread, 0, 1)[:, :, None]
    heat = cv2.applyColorMap(np.uint8(255 * np.clip(spread, 0, 1)), cv2.COLORMAP_JET)  # type: ignore[call-overload]
    return np.rint(frame * (1 - share) + heat * share).astype(np.uint8)


def draw_lines(frame: Image, lines: Sequence[str]) -> Image:
    """A copy of the frame with lines of text on a dark plate at the bottom."""
    out = frame.copy()
    if not lines:
        return out
    unit = max(0.6, min(out.shape[:2]) / 360)
    thick, pad = max(1, round(0.9 * unit)), round(5 * unit)
    scale = 0.42 * max(unit, 0.8)
    widest = max(cv2.getTextSize(line, _FONT, scale, thick)[0][0] for line in lines)
    scale *= min(1.0, (out.shape[1] - 2 * pad) / max(widest, 1))
    step = cv2.getTextSize("g", _FONT, scale, thick)[0][1] + round(6 * unit)
    top = max(0, out.shape[0] - step * len(lines) - pad)
    out[top:] = np.rint(out[top:] * 0.3 + np.array(_DARK) * 0.7).astype(np.uint8)
    for k, line in enumerate(lines, 1):
        cv2.putText(out, line, (pad, top + k * step), _FONT, scale, _LIGHT, thick, cv2.LINE_AA)
    return out


@dataclass(frozen=True, eq=False)
class Picture:
    """An image that notebooks display. image: (H, W, 3) uint8 BGR."""

    image: Image

    def save(self, path: str | Path) -> None:
        """Write it; the suffix names the format."""
        write_whole(Path(path), cv2.imencode(Path(path).suffix, self.image)[1].tobytes())

    def _repr_png_(self) -> bytes:
        return cv2.imencode(".png", self.image)[1].tobytes()

    def __repr__(self) -> str:
        height, width = self.image.shape[:2]
        return f"a picture of {width} x {height} px; notebooks display it, .save(path) keeps it"


def show(frame: Any, results: Shown | Sequence[Shown]) -> Picture:
    """What a tracker found in a frame, as a picture for notebooks.

    frame: (H, W, 3) uint8 BGR, or a `Frame` of `frames`. results: a Result, or one of each target.
    """
    found = list(results) if isinstance(results, Sequence) else [results]
    return Picture(draw_results(getattr(frame, "image", frame), found))


def as_jpeg(image: Image, width: int, quality: int = 80) -> bytes:
    """JPEG of an (H, W, 3) uint8 BGR image, scaled down to `width` px where it is wider."""
    if image.shape[1] > width:
        image = resize(image, width, max(1, round(image.shape[0] * width / image.shape[1])))
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def from_jpeg(data: bytes) -> Image:
    """(H, W, 3) uint8 BGR. Raises ValueError: no picture."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:  # more pixels than OpenCV allows
        image = None
    if image is None:
        raise InputError("not a picture")
    return np.asarray(image, np.uint8)


def _check_frame(frame: Image) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        what = f"{frame.shape} {frame.dtype}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"frame is {what}; draw takes (H, W, 3) uint8 BGR")


def _score_colour(score: float | None) -> Colour:
    if score is None or not np.isfinite(score):
        return (255, 190, 40)
    mixed = [np.interp(score, (0.0, 0.5, 1.0), channel) for channel in _RAMP.T]
    return (int(mixed[0]), int(mixed[1]), int(mixed[2]))


def _fixed(points: NDArray[Any]) -> NDArray[np.int32]:
    """Frame coordinates (pixel i covers [i, i+1)) to the fixed point of cv2 (pixel i has its centre at i)."""
    return np.clip(np.rint((points - 0.5) * 2**_SHIFT), -(2**24), 2**24).astype(np.int32)


def _polyline(out: Image, points: NDArray[Any], colour: Colour, width: int, closed: bool = False) -> None:
    cv2.polylines(out, [_fixed(points).reshape(-1, 1, 2)], closed, colour, width, cv2.LINE_AA, _SHIFT)


def _dashes(corners: NDArray[Any], gap: float) -> list[NDArray[Any]]:
    """The outline in pieces of about the length of the gaps; one begins and one ends at every corner.

    corners: (4, 2). Returns (2, 2) each: where it begins and ends.
    """
    pieces = []
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        length = float(np.linalg.norm(end - start))
        count = int(np.clip(round((length + gap) / (2 * gap)), 2, _MOST_DASHES))
        dash = max(0.0, (length - (count - 1) * gap) / count)
        step = (end - start) / max(length, 1e-9)  # one pixel
        pieces += [start + np.outer((at, at + dash), step) for at in np.linspace(0, length - dash, count)]
    return pieces


def _draw_trail(out: Image, trail: NDArray[Any], colour: Colour, unit: float) -> None:
    """Blend a line that fades and thins towards the past."""
    trail = trail[np.isfinite(trail).all(1)]
    if len(trail) < 2:
        return
    margin = 4 * unit + 2
    low = np.floor(np.clip(trail.min(0) - margin, 0, out.shape[1::-1])).astype(int)
    high = np.ceil(np.clip(trail.max(0) + margin, 0, out.shape[1::-1])).astype(int)
    if (low >= high).any():
        return
    points = _fixed(trail - low).tolist()
    part = out[low[1] : high[1], low[0] : high[0]]
    for paint, extra in ((_DARK, 2 * max(1, round(0.7 * unit))), (colour, 0)):
        mask = np.zeros(part.shape[:2], np.uint8)
        for i in range(len(points) - 1):  # newer pieces over older ones
            age = (i + 1) / (len(points) - 1)
            width = max(1, round((0.8 + 1.6 * age) * unit)) + extra
            cv2.line(mask, points[i], points[i + 1], int(40 + 200 * age), width, cv2.LINE_AA, _SHIFT)
        where = np.nonzero(mask)
        under, alpha = part[where].astype(np.float32), mask[where][:, None] / np.float32(255)
        part[where] = np.rint(under + (np.array(paint, np.float32) - under) * alpha)


def _draw_tag(
    out: Image, x: float, y: float, h: float, score: float | None, label: str | None, colour: Colour, unit: float
) -> None:
    """A dark plate above the box (or inside, where there is no room): label, bar and number."""
    number = "" if score is None else f"{score:.2f}"
    scale, thick = 0.45 * max(unit, 0.8), max(1, round(0.9 * unit))
    pad, bar_w, bar_h = round(5 * unit), round(44 * unit), max(3, round(5 * unit))
    (label_w, text_h), base = cv2.getTextSize(label or "0", _FONT, scale, thick)
    number_w = cv2.getTextSize("0.00", _FONT, scale, thick)[0][0]
    widths = ([label_w] if label else []) + ([bar_w, number_w] if number else [])
    plate_w, plate_h = sum(widths) + pad * (len(widths) + 1), text_h + base + pad
    gap = round(3 * unit)
    left = int(np.clip(round(x - unit), 0, max(0, out.shape[1] - plate_w)))
    top = round(y) - plate_h - gap if y - plate_h - gap >= 0 else round(y) + gap
    top = int(np.clip(top, 0, max(0, out.shape[0] - plate_h)))
    plate = out[top : top + plate_h, left : left + plate_w]
    plate[:] = np.rint(plate * 0.25 + np.array(_DARK) * 0.75).astype(np.uint8)
    at, line = left + pad, top + (plate_h + text_h) // 2
    if label:
        cv2.putText(out, label, (at, line), _FONT, scale, _LIGHT, thick, cv2.LINE_AA)
        at += label_w + pad
    if number:
        share = float(np.clip(score, 0, 1)) if score is not None and np.isfinite(score) else 0.0
        middle = top + plate_h // 2
        low, high = (at, middle - bar_h // 2), (at + bar_w, middle - bar_h // 2 + bar_h)
        cv2.rectangle(out, low, (high[0] - 1, high[1] - 1), (110, 105, 100), -1)
        if share > 0:
            cv2.rectangle(out, low, (at + max(1, round(bar_w * share)) - 1, high[1] - 1), colour, -1)
        cv2.putText(out, number, (at + bar_w + pad, line), _FONT, scale, _LIGHT, thick, cv2.LINE_AA)


def check_display() -> None:
    """Raise OSError when no window can be opened; asked of a child process, because Qt aborts instead of raising."""
    advice = "leave out --select and --show, and use --init x,y,w,h with --save or --boxes"
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OSError(f"no display (neither DISPLAY nor WAYLAND_DISPLAY is set); {advice}")
    probe = [sys.executable, "-c", "import cv2; cv2.namedWindow('siamtrack'); cv2.destroyAllWindows()"]
    if subprocess.run(probe, capture_output=True, timeout=60).returncode:
        raise OSError(f"the display cannot be used, or this OpenCV was built without windows (headless); {advice}")


def select_box(image: Image, title: str = "draw a box, press Enter (c: give up)") -> tuple[float, float, float, float]:
    """Let the user draw a box with the mouse. Needs check_display first.

    Raises ValueError: given up, by c, Esc, or closing the window. Ctrl-C is heard, which cv2.selectROI does not do.
    """
    corners: list[tuple[float, float]] = []  # where the button went down, and where the pointer is or was let go
    pressed = False

    def point(event: int, x: int, y: int, *_: object) -> None:
        nonlocal pressed
        at = float(min(max(x, 0), image.shape[1])), float(min(max(y, 0), image.shape[0]))
        if event == cv2.EVENT_LBUTTONDOWN:
            pressed, corners[:] = True, [at, at]
        elif pressed:
            pressed, corners[1] = event != cv2.EVENT_LBUTTONUP, at

    _open_window(title, image)
    cv2.setMouseCallback(title, point)
    try:
        shown: list[tuple[float, float]] | None = None
        while True:
            box = (*np.min(corners, 0), *np.ptp(corners, 0)) if corners else (0.0, 0.0, 0.0, 0.0)
            whole = min(box[2:]) > 0
            if shown != corners:
                cv2.imshow(title, draw(image, box) if whole else image)
                shown = corners.copy()
            key = cv2.waitKey(20) & 0xFF
            if whole and key in (10, 13, ord(" ")):
                return float(box[0]), float(box[1]), float(box[2]), float(box[3])
            if key in (27, ord("c")) or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) <= 0:
                raise InputError("no box was drawn")
    finally:
        with contextlib.suppress(cv2.error):  # closed by the user
            cv2.destroyWindow(title)


class Window:
    """A window that shows one image after another; opens with the first. Needs check_display first.

    key: code of the key that was pressed while the last image was shown; -1: none.
    """

    def __init__(self, title: str = "siamtrack") -> None:
        self._title = title
        self._open = False
        self.key = -1

    def show(self, image: Image, wait_ms: int = 1) -> bool:
        """Show an image for a time, or until a key is pressed; False once the user has closed the window, or ends.

        image: (H, W, 3) uint8 BGR. The keys q and Esc end.
        """
        if not self._open:
            _open_window(self._title, image)
            self._open = True
        cv2.imshow(self._title, image)
        pressed = cv2.waitKey(max(1, wait_ms))
        self.key = pressed & 0xFF if pressed >= 0 else -1
        return self.key not in (27, ord("q")) and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) > 0


def _open_window(title: str, image: Image) -> None:
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
    scale = min(1.0, 1280 / image.shape[1], 720 / image.shape[0])
    cv2.resizeWindow(title, max(320, round(image.shape[1] * scale)), max(240, round(image.shape[0] * scale)))
