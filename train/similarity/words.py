"""Made-up words and pictures of them: an image and a text that say the same."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

CONSONANTS, VOWELS = "bcdfghjklmnpqrstvwxyz", "aeiou"
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
HEIGHT, WIDTH = 40, 120  # px of a picture
LARGE = 2.0  # scale at which words are written, to be shrunk


def vocabulary(count: int, rng: np.random.Generator) -> list[str]:
    """So many different words of 3 to 7 letters that could be said: syllables of a consonant, a vowel and at times
    another consonant.
    """
    found: dict[str, None] = {}
    while len(found) < count:
        word = ""
        for _ in range(rng.integers(1, 4)):
            closed = rng.random() < 0.3
            word += rng.choice([*CONSONANTS]) + rng.choice([*VOWELS]) + (rng.choice([*CONSONANTS]) if closed else "")
        if 3 <= len(word) <= 7:
            found[word] = None
    return list(found)


def picture(word: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A word in one of six fonts, upright or italic, thin or thick, dark on light or the other way round.

    Returns (HEIGHT, WIDTH) uint8: whatever its length, the word takes most of the width.
    """
    font = int(rng.choice(FONTS)) | (cv2.FONT_ITALIC if rng.random() < 0.3 else 0)
    thick = int(rng.integers(2, 6))
    (wide, high), below = cv2.getTextSize(word, font, LARGE, thick)
    ink = np.zeros((high + below + 2 * thick, wide + 2 * thick), np.uint8)
    cv2.putText(ink, word, (thick, thick + high), font, LARGE, 255, thick, cv2.LINE_AA)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = round(HEIGHT * rng.uniform(0.7, 0.95)), round(WIDTH * rng.uniform(0.7, 0.95))
    small = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
    top, left = rng.integers(HEIGHT - height + 1), rng.integers(WIDTH - width + 1)
    page = np.zeros((HEIGHT, WIDTH), np.float32)
    page[top : top + height, left : left + width] = small / 255
    dark, light = rng.uniform(0, 90), rng.uniform(165, 255)
    back, front = (light, dark) if rng.random() < 0.7 else (dark, light)
    return np.round(back + (front - back) * page).astype(np.uint8)
