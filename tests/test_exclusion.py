"""What is assigned to which of several targets; scenes of it are in test_tracks.py."""

import numpy as np
import pytest

from tracker.exclusion import assign, is_taken
from tracker.geometry import Box
from tracker.target import Found, Target, Track

LEFT, RIGHT, FAR = Box(0, 0, 10, 10), Box(20, 0, 10, 10), Box(90, 0, 10, 10)


def found(box):
    return Found(box, 0.0, np.zeros(8), 0.0, np.zeros((1, 64, 16, 16), np.float32), np.zeros(512), 0.0)


def target(box):
    return Target(box, None, Track(box), (100, 100))


def assigned(earlier, options):
    """The box of each target, and how probably it is another one's. options: (odds, box) of each, best first."""
    given = [[(odds, found(box)) for odds, box in one] for one in options]
    return [(one.box, p) for one, p in assign([target(box) for box in earlier], given, lambda found: 0.8)]


@pytest.mark.parametrize("turned", [False, True])
def test_the_surest_goes_first_and_the_others_take_what_is_left(turned):
    options = [[(4.0, LEFT), (1.0, FAR)], [(5.0, LEFT)]]
    earlier, expected = [RIGHT, LEFT], [(FAR, 0.0), (LEFT, 0.0)]
    way = slice(None, None, -1 if turned else 1)
    assert assigned(earlier[way], options[way]) == expected[way]


def test_where_nothing_is_left_the_best_is_kept_and_contested():
    assert assigned([LEFT, RIGHT], [[(5.0, LEFT)], [(4.0, LEFT), (3.0, LEFT)]]) == [(LEFT, 0.0), (LEFT, 0.8)]


def test_two_that_were_in_one_place_may_be_so_again():
    assert assigned([LEFT, LEFT], [[(5.0, RIGHT)], [(4.0, RIGHT)]]) == [(RIGHT, 0.0), (RIGHT, 0.0)]


def test_a_box_is_taken_from_an_iou_of_a_half_on():
    assert is_taken(LEFT, [FAR, Box(0, 0, 10, 5)]) and not is_taken(LEFT, [FAR, Box(0, 0, 10, 4.9)])
