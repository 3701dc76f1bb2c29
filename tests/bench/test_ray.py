"""A run on a local Ray of two workers equals the run on this machine: python -m pytest tests/bench/test_ray.py

Not in the usual tests, because Ray takes its time to start.
"""

import os
import signal
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from test_benchmark_runner import make_sequence  # noqa: E402

from tracker.benchmark import results  # noqa: E402
from tracker.benchmark.run.jobs import result_path, run_all  # noqa: E402


class Wild:
    """Identity, which hangs, dies, raises or ends the process above it, as the first pixel says."""

    def init(self, frame, box):
        self.box, self.count, self.mark = box, 0, int(frame[0, 0, 0])

    def update(self, frame):
        self.count += 1
        if self.count == 5 and self.mark == 1:
            time.sleep(60)
        if self.count == 5 and self.mark == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.count == 5 and self.mark == 3:
            raise RuntimeError("lost my mind")
        if self.mark == 4 and not Path(os.environ["WILD_MARK"]).exists():
            Path(os.environ["WILD_MARK"]).touch()
            os.kill(os.getppid(), signal.SIGKILL)  # the actor of Ray: the job goes to another one
        return self.box


def test_two_ray_workers_equal_the_local_run(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="pip install 'siamtrack[ray]'")
    here = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "bench")])
    monkeypatch.setenv("PYTHONPATH", here)
    monkeypatch.setenv("WILD_MARK", str(tmp_path / "mark"))
    monkeypatch.setattr(sys, "path", [*here.split(os.pathsep), *sys.path])
    sequences = []
    for mark, name in enumerate(["fine", "hang", "die", "raise", "king"]):
        sequence = make_sequence(tmp_path / "data", name, 12)
        for path in sequence.frames:
            image = cv2.imread(str(path))
            image[0, 0] = mark
            path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
        sequences.append(sequence)
    specs = ["wild:=test_ray:Wild", "ncc"]
    far = run_all(specs, sequences, "ope", tmp_path / "far", workers=2, timeout=3, quiet=True, ray="local")
    assert (tmp_path / "mark").exists()
    near = run_all(specs, sequences, "ope", tmp_path / "near", workers=2, timeout=3, quiet=True)
    assert far == near
    assert len(near) == 3
    for tracker in ("wild", "ncc"):
        for sequence in sequences:
            (one, about), (two, other) = (
                results.load(result_path(tmp_path / place, "ope", tracker, sequence.name)) for place in ("far", "near")
            )
            np.testing.assert_array_equal(one.rows[:, [0, 1, 2, 3, 4, 9]], two.rows[:, [0, 1, 2, 3, 4, 9]])
            assert {**about, "at once": ""} == {**other, "at once": ""}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "far").rglob("*.csv")}
    assert run_all(specs, sequences, "ope", tmp_path / "far", quiet=True, ray="no-such-place:1") == far  # all done
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "far").rglob("*.csv")}


def test_a_cluster_that_is_not_there_is_named(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    sequence = make_sequence(tmp_path / "data", "one", 4)
    with pytest.raises(ValueError, match="no Ray cluster there"):
        run_all(["ncc"], [sequence], "ope", tmp_path / "out", quiet=True, ray="auto")
