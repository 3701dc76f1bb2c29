"""Files and folders that one run writes at a time; real processes hold the locks."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tracker.footage.output import OutputWarning, Unfinished, only_run

ROOT = Path(__file__).parents[1]


@pytest.fixture
def holder():
    """Runs code in another process until it is killed."""
    started = []

    def hold(code):
        given = "from pathlib import Path\nfrom tracker.footage.output import *\n"
        code = f"{given}{code}\nprint('held', flush=True)\ninput()"
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.wait()


def test_one_run_works_in_a_folder_and_a_killed_one_does_not_bar_the_next(tmp_path, holder):
    folder = tmp_path / "out"
    other = holder(f"lock = only_run(Path({str(folder)!r})); lock.__enter__()")
    with pytest.raises(OSError, match="another run works in this folder"), only_run(folder):
        pass
    other.send_signal(signal.SIGKILL)
    other.wait()
    with only_run(folder):
        pass
    assert list(folder.iterdir()) == []


def test_what_a_killed_run_left_gets_a_name_and_is_told(tmp_path, holder):
    path = tmp_path / "a.csv"
    code = f"one = Unfinished(Path({str(path)!r})); one.part.write_text('rows')"
    for wanted in ("a.unfinished.csv", "a.unfinished-1.csv"):
        other = holder(code)
        with pytest.raises(OSError, match=r"a\.csv: another run is writing this file"):
            Unfinished(path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        with pytest.warns(OutputWarning, match=f"a run that was killed left {wanted}"):
            own = Unfinished(path)
        own.part.write_text("mine")
        own.keep()
        assert (tmp_path / wanted).read_text() == "rows" and path.read_text() == "mine"
    Unfinished(path).drop()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "a.unfinished-1.csv", "a.unfinished.csv"]
