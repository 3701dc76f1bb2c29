"""A synthetic scene with exact truth: a patterned balloon over a textured ground, seen by a moving camera.

A frame is a closed formula of (arguments, seed, t), so frames can be rendered in any order. The box of frame t comes
from the analytic outline of the target at the middle of the exposure, not from pixels.
Coordinates are continuous and 0-based: pixel i covers [i, i+1).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tracker.errors import InputError

Window = tuple[int, int, int, int]  # (x, y, w, h) of whole pixels of the frame
Pose = tuple[float, float, float, float]  # (x, y, angle, radius) in the frame: px, px, radian, px

ANGLES = np.linspace(0, 2 * math.pi, 720, endpoint=False)  # of the points of an outline
REACH = 1.5  # the farthest point of any outline from its middle, in mean radii
GROWTH = 0.28  # largest |log| of the change of size
SHUTTER = 0.5  # exposure, frames

# Colours of the ground from low to high, RGB.
GROUNDS = (
    "103a60 1e688c 54b0b2 e4d0a0 64984a 2e6028 707c60",  # islands
    "704a34 ac7046 daaa78 e6c496 b48660 8c583c",  # desert
    "283222 425428 786e2c b26828 a04a34 968246",  # autumn
    "345068 608296 a0b8c4 c6d0d6 92a0aa 626870",  # ice
    "324628 54783c 78a054 608c46 a0b46e 50683c",  # meadow
)


class Scene:
    """A few hundred frames of one moving target with a known box; each seed gives another shape, look and motion."""

    def __init__(
        self,
        size: tuple[int, int] = (320, 240),
        length: int = 150,
        seed: int = 0,
        *,
        distractor: bool = True,
        occlusion: bool = True,
        light: bool = True,
        noise: float = 4.0,
    ) -> None:
        """Draw everything random, and paint the ground and the sprites once.

        size: (width, height) of a frame, px, each >= 64.
        length: number of frames, >= 1.
        seed: >= 0; the same arguments and seed give the same frames.
        distractor: a look-alike flies the other way round and passes below the target.
        occlusion: a pole crosses the target in some fifteen frames, once in every 150.
        light: brightness and warmth of the light change.
        noise: standard deviation of the sensor noise, grey levels, in [0, 100).
        Raises ValueError for a size, length or noise out of range.
        """
        width, height = size
        if min(width, height) < 64:
            raise InputError(f"scene size must be at least 64 x 64, got {width} x {height}")
        if length < 1:
            raise InputError(f"scene length must be at least 1 frame, got {length}")
        if not 0 <= noise < 100:
            raise InputError(f"scene noise must be in [0, 100) grey levels, got {noise}")
        self.size, self.length, self.seed = (width, height), length, seed
        rng = np.random.default_rng(seed)
        short = min(size)

        # The pan moves the ground only (the camera follows the target), the shake moves everything.
        self._pan = (_Wave(rng, 0.18 * width, (170, 330)), _Wave(rng, 0.18 * height, (190, 370)))
        self._shake = (_Wave(rng, 0.006 * short, (5, 11), 3), _Wave(rng, 0.006 * short, (5, 11), 3))
        self._margin = math.ceil(0.18 * max(size) + 0.006 * short) + 2
        self._ground = _paint_ground(rng, width + 2 * self._margin, height + 2 * self._margin)

        outline = _draw_outline(rng)
        radius = short * rng.uniform(0.09, 0.13)
        coat = _Coat.draw(rng)
        self._target = _Body(rng, outline, radius, coat, size)
        self._bodies = [self._target]  # painted from below to above
        if distractor:
            self._bodies.insert(0, _Body(rng, outline, radius, coat.vary(rng), size, against=self._target))
        count = max(1, round(length / 150)) if occlusion else 0
        self._poles = [_Pole(rng, self._target, length * (i + 0.6) / count, size) for i in range(count)]
        self._light = (_Wave(rng, 0.14, (60, 160)), _Wave(rng, 0.06, (80, 200))) if light else None
        # One tile of noise, read from another place in each frame.
        self._noise = np.rint(rng.normal(0, noise, (height + 64, width + 64, 3))).astype(np.int16) if noise else None

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self.render(t) for t in range(self.length))

    def box(self, t: int) -> tuple[float, float, float, float]:
        """Give the true box (x, y, w, h) of the whole target, hidden or not, at frame t, frame px.

        Raises IndexError when t is not in [0, length).
        """
        points = self.outline(t)
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
        return left, top, right - left, bottom - top

    def outline(self, t: int) -> np.ndarray:
        """Give the outline of the target at frame t: (720, 2) float64 points (x, y), frame px.

        Raises IndexError when t is not in [0, length).
        """
        x, y, angle, radius = self._pose(self._target, self._check(t))
        reach = radius * self._target.outline
        return np.stack([x + reach * np.cos(ANGLES + angle), y + reach * np.sin(ANGLES + angle)], 1)

    def render(self, t: int) -> np.ndarray:
        """Render frame t: (H, W, 3) uint8 BGR.

        Raises IndexError when t is not in [0, length).
        """
        self._check(t)
        frame = self._view(t)
        for body in self._bodies:
            self._paint_body(frame, body, t)
        for pole in self._poles:
            pole.paint(frame, t)
        if self._light is not None:
            brightness, warmth = 1 + self._light[0](t), self._light[1](t)
            frame = cv2.transform(frame, np.diag([brightness * (1 - warmth), brightness, brightness * (1 + warmth)]))
        if self._noise is not None:
            y, x = np.random.default_rng((self.seed, t)).integers(0, 65, 2)
            frame = cv2.add(frame, self._noise[y:, x:][: frame.shape[0], : frame.shape[1]], dtype=cv2.CV_8U)
        return frame

    def mask(self, t: int, zoom: int = 1) -> np.ndarray:
        """Render the coverage of the target at frame t, sharp and not hidden: (H zoom, W zoom) float32 in [0, 1].

        Raises IndexError when t is not in [0, length).
        """
        pose = self._pose(self._target, self._check(t))
        return self._target.sprite.cover(pose, (0, 0, *self.size), zoom)

    def _check(self, t: int) -> int:
        if not 0 <= t < self.length:
            raise IndexError(f"frame {t} is not in [0, {self.length})")
        return t

    def _view(self, t: float) -> np.ndarray:
        """The ground alone, (H, W, 3) uint8."""

        def shift(t: float) -> np.ndarray:
            return np.array([pan(t) + shake(t) for pan, shake in zip(self._pan, self._shake, strict=True)])

        matrix = np.column_stack([np.eye(2), shift(t) - self._margin])
        return smear(_warp(self._ground, matrix, self.size), *(shift(t + SHUTTER / 2) - shift(t - SHUTTER / 2)))

    def _pose(self, body: "_Body", t: float) -> Pose:
        x, y, angle, radius = body.pose(t)
        return x + self._shake[0](t), y + self._shake[1](t), angle, radius

    def _paint_body(self, frame: np.ndarray, body: "_Body", t: int) -> None:
        """Paint a body and its shadow; mutates frame."""
        pose = x, y, angle, radius = self._pose(body, t)
        before, after = self._pose(body, t - SHUTTER / 2), self._pose(body, t + SHUTTER / 2)
        motion = after[0] - before[0], after[1] - before[1]
        reach, drop = REACH * radius + max(map(abs, motion)), 0.3 * radius
        window = _window((x - reach, y - reach, x + reach + 2 * drop, y + reach + 2 * drop), self.size)
        colour, cover = body.sprite.colour(pose, window), body.sprite.cover(pose, window)
        shadow = body.sprite.cover((x + drop, y + drop, angle, radius), window)
        shadow = 0.4 * cv2.blur(shadow, (2 * round(drop / 3) + 1,) * 2)
        # The light comes from the upper left, whatever way the body has turned.
        down = np.arange(window[3], dtype=np.float32)[:, None] + (window[1] - y)
        right = np.arange(window[2], dtype=np.float32) + (window[0] - x)
        sheen = (1 - (0.2 / radius) * (down + right)) * cover
        _blend(frame, window, smear(colour * sheen[..., None], *motion), smear(cover, *motion), shadow)


class _Wave:
    """A smooth random function of time: sines of random periods (frames), |value| <= amplitude."""

    def __init__(
        self, rng: np.random.Generator, amplitude: float, periods: tuple[float, float], terms: int = 2
    ) -> None:
        weights = amplitude * rng.dirichlet([4.0] * terms)
        rates = 2 * math.pi / rng.uniform(*periods, terms)
        phases = rng.uniform(0, 2 * math.pi, terms)
        self.terms = list(zip(weights.tolist(), rates.tolist(), phases.tolist(), strict=True))

    def __call__(self, t: float) -> float:
        return sum(weight * math.sin(rate * t + phase) for weight, rate, phase in self.terms)


class _Body:
    """A balloon: its looks and its way through the frame, shake aside; the mirrored way of `against` if given."""

    def __init__(
        self,
        rng: np.random.Generator,
        outline: np.ndarray,
        radius: float,
        coat: "_Coat",
        size: tuple[int, int],
        against: "_Body | None" = None,
    ) -> None:
        self.outline, self.radius, self.coat = outline, radius, coat
        largest = radius * math.exp(GROWTH)
        reach = largest * outline.max() + 0.006 * min(size) + 2  # keeps the target wholly in the frame
        self.middle = (size[0] / 2, size[1] / 2)
        self.path = (_Wave(rng, size[0] / 2 - reach, (80, 200)), _Wave(rng, size[1] / 2 - reach, (70, 180)))
        self.sign = 1
        if against is not None:
            self.path, self.sign = against.path, -1
        self.haste = _Wave(rng, 12, (50, 120))  # ahead of the clock and behind it: the speed changes
        self.growth = _Wave(rng, GROWTH, (60, 180))
        self.start, self.turn = rng.uniform(0, 2 * math.pi), _Wave(rng, 0.6, (60, 150))
        # The sprite is as fine as the largest view of it; the smallest shrinks it to 1 / exp(2 GROWTH) > 1/2.
        half = math.ceil(largest * REACH)
        distance = _signed_distance(outline, 2 * half)
        self.sprite = _Sprite(coat.paint(rng, distance), distance / 2, half / REACH)

    def pose(self, t: float) -> Pose:
        late = t + self.haste(t)
        x, y = (middle + self.sign * path(late) for middle, path in zip(self.middle, self.path, strict=True))
        return x, y, self.start + self.turn(t), self.radius * math.exp(self.growth(t))


class _Pole:
    """A wooden pole near the camera that sweeps through the frame and meets the target at one time."""

    def __init__(self, rng: np.random.Generator, target: _Body, time: float, size: tuple[int, int]) -> None:
        x, y, _, radius = target.pose(time)
        self.angle, self.time, self.size = rng.uniform(-0.4, 0.4), time, size
        normal = np.array([math.cos(self.angle), math.sin(self.angle)])
        ahead = np.subtract(target.pose(time + 1)[:2], (x, y)) @ normal
        self.start, self.speed = np.array([x, y]), normal * -math.copysign(0.2 * radius, ahead)  # comes from ahead
        self.half = rng.uniform(0.25, 0.4) * radius
        wide, long = math.ceil(self.half) + 4, math.ceil(math.hypot(*size))
        across = np.abs(np.arange(2 * wide) + 0.5 - wide, dtype=np.float32) * np.ones((2 * long, 1), np.float32)
        grain = cv2.resize(_noise(rng, 2 * wide, 64, 3), (2 * wide, 2 * long), interpolation=cv2.INTER_LINEAR)
        shade = (0.25 + 0.75 * np.sqrt(np.clip(1 - (across / self.half) ** 2, 0, 1))) * (0.8 + 0.4 * grain)
        colour = np.clip(shade[..., None] * (rng.uniform(0.7, 1.2) * np.array([62, 98, 130])), 0, 255).astype(np.uint8)
        self.sprite = _Sprite(colour, self.half - across, 1.0)

    def paint(self, frame: np.ndarray, t: float) -> None:
        """Paint the pole where it is at time t; mutates frame."""
        middle = self.start + self.speed * (t - self.time)
        # Columns that the tilted pole can touch.
        reach = (self.half + 6) / math.cos(self.angle) + abs(math.tan(self.angle)) * self.size[1]
        window = _window((middle[0] - reach, 0, middle[0] + reach, self.size[1]), self.size)
        if window[2] > 0:
            pose = (*middle.tolist(), self.angle, 1.0)
            colour, cover = self.sprite.colour(pose, window), self.sprite.cover(pose, window)
            motion = self.speed * SHUTTER
            _blend(frame, window, smear(colour * cover[..., None], *motion), smear(cover, *motion))


@dataclass(frozen=True)
class _Sprite:
    """What a body looks like; the middle of the pictures is the middle of the body."""

    picture: np.ndarray  # (h, w, 3) uint8
    distance: (
        np.ndarray
    )  # (k h, k w) float32, to the outline, picture px, positive inside; finer, since it makes the edge
    radius: float  # picture px that show one radius of the pose

    def colour(self, pose: Pose, window: Window) -> np.ndarray:
        """Colour in a window of the frame, (h, w, 3) float32."""
        return self._put(self.picture, pose, window).astype(np.float32)

    def cover(self, pose: Pose, window: Window, zoom: int = 1) -> np.ndarray:
        """Share of each pixel of a window that the body fills, (h zoom, w zoom) float32 in [0, 1]."""
        scale = zoom * pose[3] / self.radius
        return np.clip(0.5 + scale * self._put(self.distance, pose, window, zoom), 0, 1)

    def _put(self, image: np.ndarray, pose: Pose, window: Window, zoom: int = 1) -> np.ndarray:
        x, y, angle, radius = pose
        left, top, width, height = window
        scale = zoom * radius / self.radius * self.picture.shape[0] / image.shape[0]
        turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        middle = np.array([image.shape[1] / 2, image.shape[0] / 2])
        matrix = np.column_stack([turn, zoom * np.array([x - left, y - top]) - turn @ middle])
        return _warp(image, matrix, (width * zoom, height * zoom))


@dataclass(frozen=True)
class _Coat:
    """The pattern of a balloon."""

    kind: str
    colours: tuple[tuple[float, float, float], ...]  # HSV: degrees, [0, 1], [0, 1]
    count: int  # of stripes

    @staticmethod
    def draw(rng: np.random.Generator) -> "_Coat":
        hue = rng.uniform(0, 360)
        other = hue + rng.choice([30, 150, 180, 210])
        colours = (
            (hue, rng.uniform(0.75, 0.95), rng.uniform(0.75, 0.95)),
            (other, rng.uniform(0.05, 0.6), rng.uniform(0.85, 1.0)),
            (other, rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.5)),
        )
        return _Coat(str(rng.choice(["gores", "stripes", "spots", "rings"])), colours, int(rng.integers(3, 6)))

    def vary(self, rng: np.random.Generator) -> "_Coat":
        """The coat of a look-alike: the same pattern in slightly other colours."""
        turn = rng.choice([-1, 1]) * rng.uniform(12, 30)
        return replace(self, colours=tuple((hue + turn, s, v) for hue, s, v in self.colours))

    def paint(self, rng: np.random.Generator, distance: np.ndarray) -> np.ndarray:
        """Paint a sprite: (n, n, 3) uint8 BGR.  distance: (2 n, 2 n) float32, signed, in its own px."""
        n = len(distance) // 2
        v, u = (np.mgrid[: 2 * n, : 2 * n].astype(np.float32) + 0.5) / n - 1
        rough = _noise(rng, 2 * n, 2 * n, 3)
        if self.kind == "gores":
            level = np.arctan2(v, u) / (2 * math.pi) * 3 * self.count
        elif self.kind == "stripes":
            level = (u + 0.25 * rough) * 1.5 * self.count
        elif self.kind == "rings":
            level = 1.5 * self.count * distance / n
        else:
            level = 3 * rough
        chosen = np.floor(level).astype(int) % len(self.colours)
        hsv = np.array(self.colours, np.float32) * (1, 1, 1) % (360, 1.001, 1.001)
        palette = cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2BGR)[0]
        # Painted twice as fine, so that the edges of the pattern are smooth.
        colour = cv2.resize(palette[chosen], (n, n), interpolation=cv2.INTER_AREA)
        rim = np.sqrt(np.clip(cv2.resize(distance, (n, n)) / (0.6 * n), 0.02, 1))
        cloth = 1 + 0.12 * (_noise(rng, n, n, n // 4) - 0.5)
        return np.clip(255 * colour * ((0.5 + 0.5 * rim) * cloth)[..., None], 0, 255).astype(np.uint8)


def _draw_outline(rng: np.random.Generator) -> np.ndarray:
    """Draw a shape: its radius at each of ANGLES, (720,) float64, mean 1, never over REACH."""
    kind = rng.choice(["ellipse", "blob", "polygon"])
    if kind == "ellipse":
        radius = 1 / np.hypot(np.cos(ANGLES) / rng.uniform(1.15, 2.0), np.sin(ANGLES))
    elif kind == "blob":
        radius = np.ones_like(ANGLES)
        for k in (2, 3, 4, 5):
            radius += rng.uniform(0.2, 0.5) / k * np.cos(k * ANGLES + rng.uniform(0, 2 * math.pi))
    else:
        sides = int(rng.integers(3, 8))
        corner = 2 * math.pi / sides
        radius = 1 / np.cos((ANGLES % corner) - corner / 2)
        # Round the corners: a soft minimum of the polygon and its circle.
        radius = (radius**-8 + (1.02 / math.cos(corner / 2) ** 0.5) ** -8) ** (-1 / 8)
        radius /= np.hypot(np.cos(ANGLES), np.sin(ANGLES) * rng.uniform(1.0, 1.3))
    return np.minimum(radius / radius.mean(), REACH)


def _signed_distance(outline: np.ndarray, half: int) -> np.ndarray:
    """Distance of the pixels of a sprite to the outline, exact on the outline and to first order around it.

    outline: (720,) radii with REACH at the edge of the sprite.  half: half side of the sprite, px.
    Returns (2 half, 2 half) float32, sprite px, positive inside.
    """
    v, u = (np.mgrid[: 2 * half, : 2 * half] + 0.5 - half) * (REACH / half)
    angle = np.arctan2(v, u)
    radius = np.interp(angle, ANGLES, outline, period=2 * math.pi)
    rate = np.gradient(np.pad(outline, 1, mode="wrap"), ANGLES[1])[1:-1] / outline
    slope = np.interp(angle, ANGLES, rate, period=2 * math.pi)
    return ((radius - np.hypot(u, v)) / np.hypot(1, slope) * (half / REACH)).astype(np.float32)


def _noise(rng: np.random.Generator, width: int, height: int, cells: int, rough: float = 0.5) -> np.ndarray:
    """Noise of many octaves, (height, width) float32 in [0, 1]: `cells` bumps along the long side, then doubling."""
    total = np.zeros((height, width), np.float32)
    weight, long = 1.0, max(width, height)
    while cells <= long:
        grid = rng.random((math.ceil(height * cells / long) + 1, math.ceil(width * cells / long) + 1), np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, cells = weight * rough, cells * 2
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def _paint_ground(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Paint hills seen from above with light from the upper left, (height, width, 3) uint8 BGR."""
    land = _noise(rng, width, height, 4, 0.42)
    rock = land + 0.12 * _noise(rng, width, height, 24, 0.6)  # the relief has finer detail than the colours
    ground = GROUNDS[rng.integers(len(GROUNDS))]
    colours = np.array([list(bytes.fromhex(c))[::-1] for c in ground.split()]) + rng.uniform(-14, 14, 3)
    steps, levels = np.linspace(0, 255, len(colours)), np.arange(256)
    ramp = np.stack([np.interp(levels, steps, c) for c in colours.T], 1).clip(0, 255).astype(np.uint8)
    level = np.clip(128 + 60 * (land - land.mean()) / land.std() + rng.normal(0, 5, land.shape), 0, 255).astype(
        np.uint8
    )
    slope = cv2.Sobel(rock, cv2.CV_32F, 1, 0) + cv2.Sobel(rock, cv2.CV_32F, 0, 1)
    light = np.clip(1 + 0.2 * slope / slope.std(), 0.5, 1.5)
    return cv2.convertScaleAbs(ramp[level] * light[..., None])


def _window(sides: tuple[float, float, float, float], size: tuple[int, int]) -> Window:
    """Whole pixels of the frame that cover (left, top, right, bottom); w or h is 0 when outside."""
    left, top = max(0, math.floor(sides[0])), max(0, math.floor(sides[1]))
    right, bottom = min(size[0], math.ceil(sides[2])), min(size[1], math.ceil(sides[3]))
    return left, top, max(0, right - left), max(0, bottom - top)


def _warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Move an image by a (2, 3) matrix of continuous coordinates, image px -> result px; its border goes on outside."""
    matrix = matrix.copy()
    matrix[:, 2] += 0.5 * matrix[:, 0] + 0.5 * matrix[:, 1] - 0.5  # OpenCV has the centres of pixels at whole numbers
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def smear(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Blur along a line of (dx, dy) px whose middle is the pixel itself."""
    length = math.hypot(dx, dy)
    if length < 0.5:
        return image
    half = math.ceil(length / 2)
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    along, across = (x * dx + y * dy) / length, (x * dy - y * dx) / length
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)


def _blend(
    frame: np.ndarray, window: Window, colour: np.ndarray, cover: np.ndarray, shadow: np.ndarray | float = 0.0
) -> None:
    """Put a colour that is already multiplied by its coverage over a window of the frame; mutates frame."""
    x, y, w, h = window
    part = frame[y : y + h, x : x + w]
    part[:] = cv2.convertScaleAbs(part * ((1 - shadow) * (1 - cover))[..., None] + colour)
