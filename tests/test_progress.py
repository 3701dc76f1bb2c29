"""Progress where nobody watches a terminal."""

import re
import subprocess
import sys

CODE = """
import time
from tracker import progress
progress.EVERY = 0.2
with progress.Progress("work", 10, quiet={quiet}) as bar:
    for _ in range(10):
        time.sleep(0.05)
        bar.update()
"""


def said(quiet):
    done = subprocess.run([sys.executable, "-c", CODE.format(quiet=quiet)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    return done.stderr


def test_a_log_gets_a_line_now_and_then():
    lines = said(False).splitlines()
    assert 1 <= len(lines) <= 2  # half a second, a line each fifth at most
    assert all(re.fullmatch(r"work: \d+ of 10 frames, [\d.]+ a second", line) for line in lines)


def test_quiet_says_nothing():
    assert said(True) == ""
