"""A training that is stopped by Ctrl-C."""

import os
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def interrupted(command):
    """The exit code of a command that gets Ctrl-C when its progress bar is up.

    It has a process and a session of its own: a Ctrl-C that came late would end the tests.
    """
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, start_new_session=True) as process:
        for character in iter(lambda: process.stderr.read(1), b""):
            if character == b"%":
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    return process.returncode
