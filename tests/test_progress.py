"""Progress where nobody watches a terminal."""

import re
import subprocess
import sys

CODE = """
import time
from tracker import progress
progress.EVERY = 0.2
begin = time.monotonic()
with progress.Progress("work", 10, quiet={quiet}) as bar:
    for _ in range(10):
        time.sleep(0.05)
        bar.update()
print(time.monotonic() - begin)
"""


def said(quiet):
    """What a bar says, and in how many seconds."""
    done = subprocess.run([sys.executable, "-c", CODE.format(quiet=quiet)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr, float(done.stdout)


def test_a_log_gets_a_line_now_and_then():
    text, seconds = said(False)
    lines = text.splitlines()
    assert 1 <= len(lines) <= seconds / 0.2  # a line each fifth of a second at most
    assert all(re.fullmatch(r"work: \d+ of 10 frames, [\d.]+ a second", line) for line in lines)


def test_quiet_says_nothing():
    assert said(True)[0] == ""
