"""What this package raises when it cannot use what it was given: one root, and a few kinds below it.

Each kind is also what Python calls such a thing (ValueError, OSError, ..), so that either may be caught. A message
names what was given, what is allowed, and where it helps, what to do. A path that is missing, in the way or not to be
written is Python's own FileNotFoundError, FileExistsError, .., with the path in its message. All else that is raised
is a fault of ours.
"""

import errno

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # numbers of an OSError


def plain(text: object) -> str:
    """Text that others wrote, as a terminal may have it: line breaks and all that would steer it are spelt out."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


class SiamtrackError(Exception):
    """The root: something given cannot be used, and the message says what."""


class InputError(SiamtrackError, ValueError):
    """A value: a box, a frame, an option, a name."""


class InputTypeError(InputError, TypeError):
    """A value of the wrong type: a frame that is no array of uint8, a target that is none."""


class ConfigError(InputError):
    """A config: an unknown or missing key, a number out of its range; the message begins with its path."""


class CheckpointError(InputError):
    """Weights, or a gallery: truncated, foreign, of another network."""


class GraphError(InputError):
    """Graphs that were not written by `siamtrack export`, or not by this version."""


class DataError(SiamtrackError, OSError):
    """A file or folder that does not hold what it should: labels, a data set, results."""


class SourceError(DataError):
    """A video, image, camera or stream that cannot be opened or read."""


class LogError(DataError):
    """A flight log that cannot be read, shown or done again."""


class MissingError(SiamtrackError, ImportError):
    """A package that this needs is not installed; the message holds the command that installs it."""


class OrderError(SiamtrackError, RuntimeError):
    """A call before the one that it needs, as update before init."""


class DivergedError(SiamtrackError, FloatingPointError):
    """A training whose loss is no finite number any more."""
