"""A word as the letters it is written with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tracker.errors import InputError

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def letters(word: str, steps: int) -> NDArray[np.float32]:
    """One-hot letters of a word, (steps, 26) float32; capitals are small ones, and what is behind the end is zeros.

    Raises ValueError: no letter, another character, or more than `steps`.
    """
    small = word.lower()
    if not small or len(small) > steps or not set(small) <= set(ALPHABET):
        raise InputError(f"a word is 1 to {steps} letters from a to z, got {word!r}")
    out = np.zeros((steps, len(ALPHABET)), np.float32)
    out[np.arange(len(small)), [ALPHABET.index(letter) for letter in small]] = 1
    return out
