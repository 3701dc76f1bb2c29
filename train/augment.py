"""Changes of a crop that a tracker must survive. Each takes and returns (H, W, 3) uint8 BGR; `rng` decides all."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.crop import Image
from tracker.scene import smear

BEND = 1 / 12  # of the size of a cut-out: the farthest that `bend` moves its parts, at strength 1


def colour(image: Image, rng: np.random.Generator, strength: float) -> Image:
    """Gain, offset, gamma and saturation; `strength` 1 is a strong change."""
    table = np.linspace(0, 1, 256) ** np.exp(strength * rng.uniform(-0.35, 0.35))
    contrast = np.exp(strength * rng.uniform(-0.4, 0.4))
    offset = strength * rng.uniform(-0.15, 0.15)
    tint = 1 + strength * rng.uniform(-0.1, 0.1, 3)
    channels = 255 * (0.45 + offset + (table[:, None] - 0.45) * contrast * tint)
    out = cv2.LUT(image, np.clip(channels, 0, 255).astype(np.uint8).reshape(1, 256, 3))
    if rng.random() < 0.5:
        amount = float(np.clip(1 + strength * rng.uniform(-0.6, 0.6), 0, 2))
        out = cv2.addWeighted(out, amount, grey(np.asarray(out, np.uint8)), 1 - amount, 0)
    return np.asarray(out, np.uint8)


def grey(image: Image) -> Image:
    """The luminance in all three channels."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)


def blur(image: Image, rng: np.random.Generator) -> Image:
    """Motion blur, defocus, or the loss of resolution of a small target that was enlarged."""
    kind = rng.integers(3)
    height, width = image.shape[:2]
    if kind == 0:
        length = int(rng.integers(3, 12))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
        middle = (length - 1) / 2
        start, end = np.round(middle - reach).astype(int), np.round(middle + reach).astype(int)
        cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
        return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)
    if kind == 1:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 2.0)), np.uint8)
    shrink = rng.uniform(1.4, 3.5)
    small = cv2.resize(image, (round(width / shrink), round(height / shrink)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def noise(image: Image, rng: np.random.Generator) -> Image:
    """Gaussian sensor noise or JPEG artefacts."""
    if rng.random() < 0.5:
        sigma = rng.uniform(2, 14)
        grains = np.empty(image.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31 - 1)))
        cv2.randn(grains, np.zeros(3), np.full(3, sigma))
        return np.asarray(cv2.add(image, grains, dtype=cv2.CV_8U), np.uint8)
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)


def place(cutout: Image, matrix: NDArray[np.float64], size: int) -> tuple[Image, NDArray[np.float32]]:
    """Warp a (h, w, 4) cut-out into a (size, size) canvas.

    matrix: (2, 3) from cut-out px to canvas px, continuous coordinates. Returns colours (size, size, 3) and coverage
    (size, size, 1) in [0, 1].
    """
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 0.5:  # bilinear sampling alone would alias
        height, width = cutout.shape[:2]
        small = max(2, round(width * scale * 1.5)), max(2, round(height * scale * 1.5))
        cutout = np.asarray(cv2.resize(cutout, small, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ np.diag([width / small[0], height / small[1], 1.0])
    shift = matrix.copy()  # cv2 puts pixel i at i, we put its centre at i + 0.5
    shift[:, 2] += matrix[:, :2] @ [0.5, 0.5] - 0.5
    colours = cv2.warpAffine(
        cutout[..., :3], shift, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    cover = cv2.warpAffine(cutout[..., 3], shift, (size, size), flags=cv2.INTER_LINEAR)
    return np.asarray(colours, np.uint8), cover[..., None].astype(np.float32) / np.float32(255)


def blend(canvas: Image, colours: Image, cover: NDArray[np.float32]) -> Image:
    """`colours` over `canvas` where `cover` is 1."""
    return (canvas + (colours.astype(np.float32) - canvas) * cover + 0.5).astype(np.uint8)


def bend(cutout: Image, rng: np.random.Generator, strength: float) -> Image:
    """Bend a (h, w, 4) cut-out smoothly, as soft bodies do: its parts move by up to `strength` x BEND of its size.

    Returns (h', w', 4), cropped to what is left of it.
    """
    height, width = cutout.shape[:2]
    reach = strength * BEND * np.array([width, height])
    margin = np.ceil(reach).astype(int) + 1
    padded = cv2.copyMakeBorder(cutout, margin[1], margin[1], margin[0], margin[0], cv2.BORDER_REPLICATE)
    padded[..., 3] = 0
    padded[margin[1] : -margin[1], margin[0] : -margin[0], 3] = cutout[..., 3]
    size = padded.shape[1::-1]
    grid = (rng.uniform(-1, 1, (4, 4, 2)) * reach).astype(np.float32)
    shift = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)  # stays within the grid's range
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    bent = cv2.remap(padded, x + shift[..., 0], y + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    x0, y0, w, h = cv2.boundingRect((bent[..., 3] > 127).astype(np.uint8))
    return np.asarray(bent[y0 : y0 + h, x0 : x0 + w], np.uint8) if min(w, h) >= 2 else cutout


def smear_along(colours: Image, cover: NDArray[np.float32], dx: float, dy: float) -> tuple[Image, NDArray[np.float32]]:
    """What a body that moves by (dx, dy) px while the shutter is open looks like.

    colours: (H, W, 3), cover: (H, W, 1) in [0, 1], at the middle of the exposure. Returns both, smeared.
    """
    spread = smear(cover[..., 0], dx, dy)[..., None]
    light = smear(colours * cover, dx, dy)
    return np.clip(light / np.maximum(spread, 1e-3), 0, 255).astype(np.uint8), spread


def recolour(cutout: Image, rng: np.random.Generator) -> Image:
    """A look-alike of a (h, w, 4) cut-out: another hue and brightness, and mirrored or not."""
    hsv = cv2.cvtColor(cutout[..., :3], cv2.COLOR_BGR2HSV)
    turn = int(rng.choice([-1, 1]) * rng.integers(12, 60))  # of 180
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + turn) % 180
    hsv[..., 2] = np.clip(hsv[..., 2] * rng.uniform(0.6, 1.4), 0, 255).astype(np.uint8)
    out = np.dstack([cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), cutout[..., 3]])
    return out[:, ::-1] if rng.random() < 0.5 else out


def occluder(box: tuple[float, float, float, float], size: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Coverage (size, size, 1) of a bar or a blob that hides a tenth to a half of a box; nothing if none was found.

    box: x, y, w, h, px of the (size, size) canvas.
    """
    x, y, w, h = box
    inside = np.s_[max(int(y), 0) : max(int(y + h) + 1, 0), max(int(x), 0) : max(int(x + w) + 1, 0)]
    for _ in range(6):
        centre = (x + w * rng.uniform(-0.1, 1.1), y + h * rng.uniform(-0.1, 1.1))
        short = np.sqrt(w * h) * rng.uniform(0.15, 0.6)
        long = 2.0 * size if rng.random() < 0.5 else short * rng.uniform(1.0, 2.5)
        canvas = np.zeros((size, size), np.float32)
        if long > size:
            corners = cv2.boxPoints((centre, (short, long), rng.uniform(0, 180)))
            cv2.fillConvexPoly(canvas, np.rint(corners).astype(np.int32), 1.0, cv2.LINE_8)
        else:
            cv2.ellipse(canvas, (centre, (short, long), rng.uniform(0, 180)), 1.0, -1)
        hidden = canvas[inside]
        if hidden.size and 0.1 <= hidden.mean() <= 0.5:
            return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 0.7)[..., None], np.float32)
    return np.zeros((size, size, 1), np.float32)
