"""Real-time Siamese single-object tracking.

tracker = Tracker.load("swift")
clip = sample()
with frames(clip.path, clip.start, clip.stop) as source:
    tracker.init(next(source).image, clip.box)
    for frame in source:
        result = tracker.update(frame.image)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Result", "Target", "Tracker", "frames", "sample"]

if TYPE_CHECKING:
    from tracker.footage.video import frames
    from tracker.samples import sample
    from tracker.tracker import Result, Target, Tracker


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import; `siamtrack --help` and readers of video do without it.
    if name in ("Tracker", "Target", "Result"):
        from tracker import tracker

        return getattr(tracker, name)
    if name == "frames":
        from tracker.footage.video import frames

        return frames
    if name == "sample":
        from tracker.samples import sample

        return sample
    raise AttributeError(f"module 'tracker' has no attribute {name!r}")
