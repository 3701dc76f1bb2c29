"""How sure a mean over sequences is: bootstrap intervals, and paired differences between trackers.

Sequences are drawn with replacement, as many as there are (Efron and Tibshirani 1993, chapter 13, percentiles), with
one fixed seed, so that the same scores give the same interval and all trackers are drawn on the same sequences.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tracker.footage.files import Floats

DRAWS = 10_000
SEED = 0
LEVEL = 0.95
FEWEST = 6  # sequences: if all of five say the same, chance does so once in sixteen; of six, once in 32

Measure = Callable[[Floats], Floats]  # from how often each sequence was drawn, (D, S), to the value of each draw, (D,)


class Interval(NamedTuple):
    """The middle 95 % of what other sequences like these would have read; NaN where it cannot be said."""

    low: float
    high: float


NOTHING = Interval(float("nan"), float("nan"))


class Difference(NamedTuple):
    """What a tracker reads above another one on the same sequences.

    value: of all sequences. interval: of the value. wins, losses: sequences on which it reads more, and less.
    """

    value: float
    interval: Interval
    wins: int
    losses: int
    sequences: int

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves 0 out, on at least six sequences."""
        return self.sequences >= FEWEST and (self.interval.low > 0 or self.interval.high < 0)


def mean_of(values: ArrayLike) -> Measure:
    """Return the measure that is the mean of a value a sequence, (S,); sequences of NaN are left out."""
    given = np.asarray(values, float)
    there = np.isfinite(given)
    return ratio_of(np.where(there, given, 0.0), there.astype(float))


def ratio_of(sums: ArrayLike, counts: ArrayLike) -> Measure:
    """Return the measure that is a sum over all sequences by a count over all sequences; sums, counts: (S,)."""
    above, below = np.asarray(sums, float), np.asarray(counts, float)

    def measure(drawn: Floats) -> Floats:
        total = drawn @ below
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(total > 0, (drawn @ above) / total, np.nan)

    return measure


def interval(measure: Measure, sequences: int) -> Interval:
    """Return the 95 % interval of a measure over so many sequences."""
    return _middle(_draw(measure, sequences))


def difference(ours: Measure, theirs: Measure, sequences: int, better: int = 1) -> Difference:
    """Compare two trackers on the same sequences.

    ours, theirs: the measure of each. better: 1 where more is better, -1 where less is.
    """

    def gap(drawn: Floats) -> Floats:
        return ours(drawn) - theirs(drawn)

    single = gap(np.eye(sequences)) * better  # each sequence alone
    found = _middle(_draw(gap, sequences))
    wins, losses, both = (int(count.sum()) for count in (single > 0, single < 0, np.isfinite(single)))
    return Difference(float(gap(np.ones((1, sequences)))[0]), found, wins, losses, both)


def _draw(measure: Measure, sequences: int) -> Floats:
    return measure(_draws(sequences)) if sequences > 1 else np.empty(0)


@lru_cache(maxsize=1)
def _draws(sequences: int) -> Floats:
    """Return how often each draw holds each sequence, (DRAWS, sequences)."""
    chosen = np.random.default_rng(SEED).integers(0, sequences, (DRAWS, sequences))
    rows = np.arange(DRAWS)[:, None] * sequences
    counts = np.bincount((chosen + rows).ravel(), minlength=DRAWS * sequences)
    return counts.reshape(DRAWS, sequences).astype(np.float64)


def _middle(drawn: Floats) -> Interval:
    values = drawn[np.isfinite(drawn)]
    if not values.size:
        return NOTHING
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def sentence(name: str, other: str, measure: str, found: Difference, better: int = 1) -> str:
    """Return in plain words how a tracker compares with another one."""
    where = f"on {found.sequences} sequence{'s' if found.sequences != 1 else ''}"
    if not np.isfinite(found.value):
        return f"{name} and {other} cannot be compared"
    side = "above" if found.value > 0 else "below"
    gap = f"{measure} {abs(found.value):.3f} {side} {other} [{found.interval.low:+.3f}, {found.interval.high:+.3f}], "
    gap += f"{found.wins} wins, {found.losses} losses"
    if found.sequences < FEWEST:
        return f"{name}: {gap}: too few to tell {where}"
    if not found.distinguishable:
        return f"{name}: {gap}: not distinguishable {where}"
    return f"{name}: {gap}: {'better' if found.value * better > 0 else 'worse'} {where}"
