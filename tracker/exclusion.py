"""Several targets in one frame: what one of them is, no other is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tracker.geometry import Box, overlap
from tracker.target import Found, Target

TAKEN = 0.5  # IoU from which two targets cannot both be right


def is_taken(box: Box, others: Sequence[Box]) -> bool:
    """Whether another target is where `box` is."""
    return any(overlap(box, other) >= TAKEN for other in others)


def assign(
    targets: Sequence[Target], options: Sequence[Sequence[tuple[float, Found]]], score: Callable[[Found], float]
) -> list[tuple[Found, float]]:
    """What each target is found to be, and the probability that it is another target's.

    options: what each may be and how good that is, the best first. score: the probability that a found box is right.
    The surest target goes first; the others take what is left. Where that is nothing, the best is kept, and contested.
    Two that were in one place before may be so again: both boxes were drawn there.
    """
    assigned: dict[int, tuple[Found, float]] = {}

    def theirs(k: int, found: Found) -> float:
        others = (n for n in assigned if not is_taken(targets[k].box, [targets[n].box]))
        return max((score(assigned[n][0]) for n in others if is_taken(found.box, [assigned[n][0].box])), default=0.0)

    for k in sorted(range(len(targets)), key=lambda k: -options[k][0][0]):
        assigned[k] = min(((found, theirs(k, found)) for _, found in options[k]), key=lambda one: one[1] > 0)
    return [assigned[k] for k in range(len(targets))]
