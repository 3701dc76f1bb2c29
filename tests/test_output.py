"""Files and folders that one run writes at a time; real processes hold the locks."""

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tracker.cli import explained
from tracker.footage import output
from tracker.footage.output import OutputWarning, Unfinished, only_run, swap_folder, write_whole

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


def made(folder, text):
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(text)
    return folder


SWAPPING = """
from itertools import count
from pathlib import Path
from tracker.footage.output import swap_folder
for turn in count(1):
    new = Path(f"new{turn}")
    new.mkdir()
    for name in "abc":
        (new / name).write_text(str(turn))
    swap_folder(new, Path("out"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a folder is missing for a moment")
def test_a_folder_is_swapped_at_once(tmp_path):
    made(tmp_path / "out", "0")
    with subprocess.Popen(
        [sys.executable, "-c", SWAPPING], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as other:
        last, changes, end = 0, 0, time.monotonic() + 60
        while changes < 300 and time.monotonic() < end:
            now = (tmp_path / "out").stat().st_ino  # never missing
            changes, last = changes + (now != last), now
        other.kill()
    assert changes == 300
    assert len({(tmp_path / "out" / name).read_text() for name in "abc"}) == 1


@pytest.mark.parametrize("at_once", [True, False])
def test_what_stood_there_goes_when_the_new_one_is_there(tmp_path, monkeypatch, at_once):
    if not at_once:
        monkeypatch.setattr(output, "_exchanged", lambda *_: False)  # as where the system cannot
    for text in ("first", "second"):
        swap_folder(made(tmp_path / "new", text), tmp_path / "out")
        assert [file.name for file in tmp_path.iterdir()] == ["out"]
        assert {file.read_text() for file in (tmp_path / "out").iterdir()} == {text}
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file"):
        swap_folder(made(tmp_path / "new", "third"), tmp_path / "file")
    assert (tmp_path / "file").is_file()


@pytest.mark.parametrize("content", [b"x" * 9999, "x" * 9999])
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, content):
    """The limit on the size of a file fails a write as a full disk does."""
    (tmp_path / "a.csv").write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (999, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_whole(tmp_path / "a.csv", content)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert explained(caught.value) == (2, f"error: {tmp_path / 'a.csv'}: File too large")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


def test_who_writes_a_file_at_once_with_others_writes_it_whole(tmp_path):
    kept = tmp_path / "a.bin"

    def write(letter):
        for length in range(20):
            write_whole(kept, bytes([letter]) * (200_000 + 1000 * length))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, b"abcd"))  # raises what they raise
    data = kept.read_bytes()
    assert len(set(data)) == 1 and len(data) == 219_000
    assert list(tmp_path.iterdir()) == [kept]


def test_a_file_is_written_through_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here.csv").symlink_to("there/kept.csv")
    for text in ("one", "two"):
        write_whole(tmp_path / "here.csv", text)
        assert (tmp_path / "there" / "kept.csv").read_text() == text
    assert (tmp_path / "here.csv").is_symlink()


def test_a_write_that_is_interrupted_leaves_what_stood_there(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    (tmp_path / "a.csv").write_text("before")
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.csv", "after")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]
