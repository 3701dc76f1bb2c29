"""What is left when `siamtrack track` is killed at a random moment, or its disk is full? Real processes and disks.

python tests/bench/kills.py [RUNS] [--full FOLDER]: kills RUNS runs by SIGKILL, each after a random number of rows,
holds the rows against those of a run that nobody killed, and counts the frames of the video that can be played.
--full: instead runs that write to a small file system (mount -t tmpfs -o size=2m tmpfs FOLDER), which another program
fills.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from tracker.scene import Scene


def write_clip(path: Path, count: int = 300) -> Path:
    """A rendered clip, played to and fro."""
    scene = Scene((320, 240), 60, seed=1, occlusion=False)
    images = [scene.render(t) for t in range(60)]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 240))
    for t in range(count):
        writer.write(images[59 - abs(t % 118 - 59)])
    writer.release()
    return path


def command(clip: Path, folder: Path, suffix: str) -> list[str]:
    box = ",".join(f"{v:.1f}" for v in Scene((320, 240), 60, seed=1, occlusion=False).box(0))
    return [sys.executable, "-m", "siamtrack", "track", str(clip), f"--init={box}", "--quiet",
            "--boxes", str(folder / f"b.{suffix}"), "--save", str(folder / "v.webm")]  # fmt: skip


def rows_of(path: Path) -> list[list[str]]:
    """The rows of a csv, without its header; ValueError: one of them is not whole."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    if any(len(row) != len(header) for row in rows) or not path.read_text().endswith("\n"):
        raise ValueError(f"{path}: half a row")
    return rows


def frames_of(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.grab():
        count += 1
    return count


def killed(runs: int) -> None:
    rng, same, behind = np.random.default_rng(0), 0, []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        clip = write_clip(root / "clip.mp4")
        subprocess.run(command(clip, root, "csv"), stderr=subprocess.DEVNULL, check=True)
        expected = rows_of(root / "b.csv")
        for run in range(runs):
            folder, wanted = root / str(run), rng.integers(1, len(expected) - 20)
            folder.mkdir()
            process = subprocess.Popen(command(clip, folder, "csv"), stderr=subprocess.DEVNULL)
            part = folder / ".b.part.csv"
            while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > wanted):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
            rows, shown = rows_of(part), frames_of(folder / ".v.part.webm")
            same += rows == expected[: len(rows)]
            behind.append(len(rows) - shown)
            print(f"run {run}: {len(rows)} rows, all whole; {shown} frames of the video can be played", flush=True)
    print(f"{same} of {runs} kills: every row as in the whole run; the video lacks {np.median(behind):.0f} (median),"
          f" {max(behind)} (most) of its last frames")  # fmt: skip


def full(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        clip = write_clip(Path(name) / "clip.mp4")
        for suffix in ("csv", "json", "txt"):
            ballast = folder / "ballast"
            stat = os.statvfs(folder)
            ballast.write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - 1_200_000)))
            words = command(clip, folder, suffix)[:-2]
            process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            part = folder / f".b.part.{suffix}"
            while not (part.exists() and part.stat().st_size > 2000) and process.poll() is None:
                time.sleep(0.02)
            with open(folder / "rest", "wb", buffering=0) as file:  # somebody else fills the disk
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    pass
            said = process.communicate()[1]
            kept = folder / f"b.{suffix}"
            print(
                f"{suffix}: code {process.returncode}: {said.strip()!r}; kept {kept.stat().st_size} bytes", flush=True
            )
            for path in folder.iterdir():
                path.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=int, default=20)
    parser.add_argument("--full", type=Path)
    args = parser.parse_args()
    full(args.full) if args.full else killed(args.runs)
