"""What passes between a tracker and the benchmark: a frame, a box, an answer."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tracker.errors import InputTypeError
from tracker.geometry import Box


class Answer(NamedTuple):
    """What a peer says of a frame: the box in 0-based px, a score in [0, 1], milliseconds of its stages."""

    box: Box
    score: float = float("nan")
    crop_ms: float = float("nan")
    network_ms: float = float("nan")
    post_ms: float = float("nan")


def read_answer(answer: Any) -> tuple[NDArray[np.float64], float, tuple[float, float, float]]:
    """Split the answer of `update` into a (4,) box, a score and the milliseconds of crop, network and post (or NaN).

    TypeError: neither a Result (with .box) nor four numbers.
    """
    box = getattr(answer, "box", answer)
    try:
        values = np.asarray(box, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (4,):
        kind = type(answer).__name__
        raise InputTypeError(f"update must return a Result or a box of 4 numbers, got {kind} {answer!r:.80}")
    crop, network, post = (float(getattr(answer, name, "nan")) for name in ("crop_ms", "network_ms", "post_ms"))
    return values, float(getattr(answer, "score", "nan")), (crop, network, post)
