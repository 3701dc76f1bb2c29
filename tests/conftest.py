"""Shared fixtures. One thread: small networks are fastest so, and results do not depend on the machine."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["XDG_CACHE_HOME"] = os.devnull  # no engine is measured, so "auto" is the same everywhere

import cv2
import numpy as np
import pytest
import torch
from footage import make_footage
from hypothesis import HealthCheck, Phase, settings

from train.store import Store, prepare

torch.set_num_threads(1)
# A run started in the background inherits an ignored Ctrl-C, and so would the commands that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
cv2.setNumThreads(1)

suite = settings(
    max_examples=40, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)  # fmt: skip
settings.register_profile("suite", suite)
settings.register_profile("campaign", suite, max_examples=int(os.environ.get("FUZZ", "2000")), derandomize=False)
settings.load_profile("suite")


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def photo(rng):
    """(240, 320, 3) uint8 BGR with detail at all scales."""
    image = np.zeros((240, 320, 3), np.float32)
    for octave in range(1, 7):
        grain = rng.random((2**octave, 2**octave, 3)).astype(np.float32)
        image += cv2.resize(grain, (320, 240), interpolation=cv2.INTER_CUBIC) / octave
    image = (image - image.min()) / (image.max() - image.min())
    return (255 * image).astype(np.uint8)


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """clips/walk: 30 frames of a textured square that moves; stills/shapes: two photos of discs with masks."""
    root = tmp_path_factory.mktemp("footage")
    make_footage(root)
    return root


@pytest.fixture(scope="session")
def store(footage, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    tally = prepare([footage / "clips", footage / "stills"], folder)
    assert tally.kept == {"sequences": 1, "photos": 2, "frames": 31, "tracks": 3, "boxes": 31, "cut-outs": 8 + 2}
    assert tally.dropped == {
        "smaller than 6 px": 1, "boxes without a frame": 2, "frames without a box": 1, "images that cannot be read": 1
    }  # fmt: skip
    return Store(folder)
