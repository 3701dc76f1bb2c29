"""The clips to try things on: they are there, and their boxes are right."""

import importlib.util

import pytest

from siamtrack import frames, sample
from tracker.errors import SourceError
from tracker.footage.video import SourceWarning
from tracker.samples import SCENE_SEED
from tracker.scene import Scene


def test_without_the_real_clips_a_scene_is_rendered_and_called_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.warns(SourceWarning, match=r"rendered.*pip install.*\[demo\]"):
        clip = sample()
    assert clip.name == "rendered" and "rendered" in clip.path.name
    assert sample("rendered") == clip  # rendered once
    with frames(clip.path, clip.start, clip.stop) as source:
        images = [frame.image for frame in source]
    assert len(images) == clip.stop - clip.start
    first, last = (Scene((640, 360), len(images), SCENE_SEED).render(t).astype(int) for t in (0, len(images) - 1))
    assert abs(images[-1] - last).mean() < 0.5 * abs(first - last).mean()
    with pytest.raises(SourceError, match="street"):
        sample("street")


def test_other_names_are_refused():
    with pytest.raises(ValueError, match="no sample 'cat'; there are street, rendered"):
        sample("cat")
