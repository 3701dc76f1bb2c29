"""Real-time Siamese single-object tracking.

tracker = Tracker.load("swift")
clip = sample()
with frames(clip.path, clip.start, clip.stop) as source:
    tracker.init(next(source).image, clip.box)
    for frame in source:
        result = tracker.update(frame.image)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = ["Result", "SiamtrackError", "Similarity", "Target", "Tracker", "frames", "sample", "show"]

if TYPE_CHECKING:
    from tracker.draw import show
    from tracker.errors import SiamtrackError
    from tracker.footage.video import frames
    from tracker.samples import sample
    from tracker.similarity import Similarity
    from tracker.tracker import Result, Target, Tracker

MODULES = {
    "Result": "tracker",
    "SiamtrackError": "errors",
    "Similarity": "similarity",
    "Target": "tracker",
    "Tracker": "tracker",
    "frames": "footage.video",
    "sample": "samples",
    "show": "draw",
}


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; `siamtrack --help` and readers of video do without it.
    if name in MODULES:
        return getattr(import_module(f"tracker.{MODULES[name]}"), name)
    raise AttributeError(f"module 'tracker' has no attribute {name!r}")
