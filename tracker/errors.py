"""The root of the errors of this package."""


class SiamtrackError(Exception):
    """Something given that cannot be used: a config, weights, graphs, a data set, a source; the message names it.

    Each kind is a ValueError or an OSError, too. A frame or a box that is none is a plain ValueError or TypeError.
    """
