"""Does a command that is killed again and again end as one that nobody killed? Real processes, at random moments.

python tests/bench/resumed.py [KILLS] [--only bench,prepare,fit]: sends SIGKILL to `siamtrack bench` (two workers),
`siamtrack train prepare` and a training that saves after every step, KILLS times to each. After each kill it reads all
that is left, looks for processes that go on, and begins the same command again, until one has ended; what that made is
held against what a run made that nobody killed.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml

from tracker.benchmark.results import load
from tracker.checkpoints import load_network
from tracker.config import load_yaml, to_dict
from train.checkpoint import load_state
from train.config import TrainConfig
from train.render import render
from train.store import Store

ROOT = Path(__file__).parents[2]
FIT = """
import sys
from pathlib import Path
from train.config import TrainConfig
from train.run import Run
from train.store import Store
from train.tasks.tracker import TrackerTask
from tracker.config import load_yaml
config, store, folder = map(Path, sys.argv[1:])
Run(TrackerTask(load_yaml(TrainConfig, config), Store(store)), folder).train(save_minutes=0)
"""
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SECONDS_TO_END = 30  # that the workers of a killed process have to notice it

Made = dict[str, str]  # what a run has made, by name, as digests


@dataclass(frozen=True)
class Command:
    """A command that goes on where it was stopped: its words but for the folder, and the reader of what is in that."""

    words: list[str]
    read: Callable[[Path], Made]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_bench(folder: Path) -> Made:
    return {path.stem: digest(load(path)[0].boxes.tobytes()) for path in (folder / "results").rglob("[!.]*.csv")}


def read_store(folder: Path) -> Made:
    if not (folder / "index.npz").exists():
        return {}
    Store(folder)  # raises what is wrong with it
    return {path.name: digest(path.read_bytes()) for path in (folder / "pixels.bin", folder / "index.npz")}


def read_fit(folder: Path) -> Made:
    state = load_state(folder)
    if state is None:
        return {}
    if (folder / "last.safetensors").exists():
        load_network(folder / "last.safetensors")
    parts = state["net"] | {f"mean {name}": value for name, value in state["ema"].items()}
    return {name: digest(value.numpy().tobytes()) for name, value in parts.items()} | {"step": str(state["step"])}


def commands(root: Path) -> dict[str, Command]:
    """The commands, with footage to work on; writes below root."""
    render(root, 6, 4)
    program = [sys.executable, "-m", "siamtrack"]
    tiny, config = load_yaml(TrainConfig, ROOT / "configs" / "tiny.yaml"), root / "config.yaml"
    few = replace(tiny, optim=replace(tiny.optim, steps=12, batch=4, micro_batch=4))
    config.write_text(yaml.safe_dump(to_dict(few)))
    prepare = [*program, "train", "prepare", str(root / "clips"), "--store"]
    subprocess.run([*prepare, str(root / "store")], check=True, **QUIET)
    bench = [*program, "bench", str(root / "val"), "--trackers", "swift,ncc", "--workers", "2", "--out"]
    return {
        "bench": Command(bench, read_bench),
        "prepare": Command(prepare, read_store),
        "fit": Command([sys.executable, "-c", FIT, str(config), str(root / "store")], read_fit),
    }


def members(session: int) -> list[int]:
    """The processes of a session that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it ended meanwhile
            continue
        if int(its) == session and state != "Z":
            found.append(int(path.parent.name))
    return found


def kill(process: subprocess.Popen) -> int:
    """Kill a process, and return how many that it started go on."""
    process.send_signal(signal.SIGKILL)
    process.wait()
    until = time.monotonic() + SECONDS_TO_END
    while (left := members(process.pid)) and time.monotonic() < until:
        time.sleep(0.1)
    return len(left)


def kill_often(name: str, command: Command, kills: int, root: Path, rng: np.random.Generator) -> None:
    begin = time.monotonic()
    subprocess.run([*command.words, str(root / f"{name}-whole")], check=True, **QUIET)
    seconds, whole = time.monotonic() - begin, command.read(root / f"{name}-whole")
    assert whole
    killed = ended = equal = halves = orphans = 0
    while killed < kills:
        folder = root / f"{name}-{ended}"
        while True:
            process = subprocess.Popen([*command.words, str(folder)], start_new_session=True, **QUIET)
            try:
                process.wait(rng.uniform(0, 1.2 * seconds) if killed < kills else None)
                break
            except subprocess.TimeoutExpired:
                orphans += kill(process)
            killed += 1
            halves += command.read(folder) not in ({}, whole)
        ended += 1
        assert process.returncode == 0, f"{name}: code {process.returncode}"
        equal += command.read(folder) == whole
        parts = [path.name for path in folder.rglob("*part*")]
        assert not parts, f"{name}: left over: {parts}"
    print(f"{name}: {killed} kills, {halves} of them in the middle of the results; all that was left could be read;"
          f" {orphans} processes went on; {equal} of {ended} runs ended as the whole one", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=20)
    parser.add_argument("--only", default="bench,prepare,fit")
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        known = commands(Path(name))
        for kind in args.only.split(","):
            kill_often(kind, known[kind], args.kills, Path(name), rng)


if __name__ == "__main__":
    main()
