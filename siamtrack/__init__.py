"""The door of siamtrack: all that a program needs to follow an object.

from siamtrack import Tracker, frames, sample

What it hands out lives in the package `tracker`. That is a name others use as well: a program with a tracker.py of its
own beside it gets ours through this door all the same, because ours is looked for beside this file first.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

__all__ = ["Result", "SiamtrackError", "Similarity", "Target", "Tracker", "__version__", "frames", "sample", "show"]

if TYPE_CHECKING:
    from tracker import Result, SiamtrackError, Similarity, Target, Tracker, __version__, frames, sample, show

HOME = Path(__file__).resolve().parents[1]  # the folder in which siamtrack, tracker and train lie side by side


def own(name: str) -> ModuleType:
    """Import `tracker` or `train`, as it lies beside this package, whatever comes first on the path.

    Raises ImportError: another module of that name is imported already.
    """
    sys.path.insert(0, str(HOME))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(HOME))
    file = module.__file__ or ""  # None of a folder without __init__.py
    if Path(file).resolve().parent.parent != HOME:
        raise ImportError(
            f"another module named {name} is imported already ({file or module}), and siamtrack has a package of this"
            " name; one program can hold only one of them: rename yours, or keep it out of this program"
        )
    return module


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(own("tracker"), name)
    raise AttributeError(f"module 'siamtrack' has no attribute {name!r}")


own("tracker")  # now, so that a tracker.py that is imported later does not take its place
