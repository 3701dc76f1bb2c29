"""The command `siamtrack`, also as `python -m siamtrack`."""

import sys
from collections.abc import Sequence

from siamtrack import HOME, own


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code. See `tracker.cli.main`."""
    if sys.path[0] != str(HOME):
        sys.path.insert(0, str(HOME))  # for good: processes that a command starts look there first, too
    try:
        from tracker.cli import main as run
    except KeyboardInterrupt:
        return 130
    return run(argv, train)


def train(argv: Sequence[str]) -> int:
    """`siamtrack train ...`: training and all that belongs to it."""
    from tracker.cli import stopped_at_once

    own("train")
    with stopped_at_once():  # PyTorch takes its time
        from train.__main__ import main as run

    return run(list(argv))


if __name__ == "__main__":
    sys.exit(main())
