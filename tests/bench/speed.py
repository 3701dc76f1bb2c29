"""What an update costs and why: python tests/bench/speed.py [--peers DIR] [--json FILE], or [--updates N]

All in one run on one machine, in turns, so that other jobs weigh on all alike: what is quoted are ratios. One thread,
but where threads are the question. Frames are rendered by tracker/scene.py; decoding is not in it. Printed are
percentiles of an update and its stages beside the bare passes of the network, and of peers (--peers: a folder with the
ONNX files of FEAR-XS and NanoTrack v1 to v3); frames in which the target is lost; how an update grows with frame,
target, number of targets and threads; memory and the processor's time to the first box, in processes of their own.
--updates: only how even so many updates of swift are, p99 beside p50.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: its products are the machine's peak

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker import Tracker
from tracker.benchmark.peers.peers import Fear, NanoTrack
from tracker.graphs import missing
from tracker.machine import processor
from tracker.scene import Scene

SIZES = {"240p": (426, 240), "480p": (854, 480), "720p": (1280, 720), "1080p": (1920, 1080), "4K": (3840, 2160)}
START = """
import time
from tracker import Tracker
from tracker.scene import Scene
scene = Scene((640, 480), 2, seed=1)
image = scene.render(0)
tracker = Tracker.load("swift", engine="{engine}")
{work}
high = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]  # of this program alone
print(time.process_time(), int(high[0]) / 1024)
"""
ONE = "tracker.init(image, scene.box(0)); tracker.update(image)"
MANY = """targets = [tracker.init(image, scene.box(0)) for _ in range({count})]
for _ in range(6):
    tracker.update_all(image, targets)"""

SIZE = (640, 480)
Image = NDArray[np.uint8]
Run = Callable[[], object]


def machine() -> str:
    """Processor and versions, one line."""
    return f"{processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, numpy {np.__version__}"


def in_turns(runs: dict[str, Run], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each run, one after the other, again and again; the first rounds warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-5, rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: np.array(values) for name, values in times.items()}


def percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    """p50, p95 and p99."""
    return {f"p{q}": round(float(np.percentile(values, q)), 3) for q in (50, 95, 99)}


def followed(tracker: Any, frames: list[Image], box: tuple[float, ...]) -> Run:
    """An update of a tracker that follows the frames there and back."""
    tracker.init(frames[0], box)
    order = iter_there_and_back(len(frames))
    return lambda: tracker.update(frames[next(order)])


def iter_there_and_back(count: int) -> Iterator[int]:
    """1 ... count - 1 ... 0 ... for ever."""
    while True:
        yield from range(1, count)
        yield from range(count - 2, -1, -1)


def passes(tracker: Tracker, frame: Image) -> tuple[Run, Run]:
    """The bare search pass of the network, and that with the closer look."""
    runner, config = tracker.engine.runner, tracker.config
    target = tracker.init(frame, (200, 150, 60, 80))
    features = [target.appearance.features]
    crops = np.random.default_rng(0).integers(0, 256, (1, config.search_size, config.search_size, 3), dtype=np.uint8)
    boxes = np.array([[100, 100, 50, 50]], np.float32)

    def bare() -> None:
        runner.compare(features, crops)

    def closer() -> None:
        levels = runner.compare(features, crops).levels
        runner.refine(target.appearance.patch, runner.patches(levels, [0], boxes), boxes)

    return bare, closer


def floor(tracker: Tracker) -> dict[str, float]:
    """GFLOP of a search pass, and the machine's peak: products of 1024 x 1024 matrices, GFLOP/s, one thread."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tracker.checkpoints import load_network
    from tracker.loading import weight_file

    net = load_network(weight_file("swift"))
    side, size = net.config.exemplar_size, net.config.search_size
    with torch.no_grad():
        template = net.embed(torch.zeros(1, 3, side, side), torch.full((1, 2), 0.5))
        with FlopCounterMode(display=False) as counter:
            net(template, torch.zeros(1, 3, size, size))
    a = np.ones((1024, 1024), np.float32)
    best = min(in_turns({"product": lambda: a @ a}, 20)["product"])
    return {"search_gflop": counter.get_total_flops() / 1e9, "peak_gflop_s": 2 * 1024**3 / best / 1e6}


def lost(tracker: Tracker, size: tuple[int, int]) -> dict[str, Any]:
    """Frames after a cut to another scene, as multiples of a tracked one."""
    times: dict[str, list[float]] = {"tracking": [], "uncertain": [], "lost": []}
    for seed in (1, 2, 3):
        here, there = Scene(size, 40, seed=seed), Scene(size, 40, seed=seed + 50)
        frames = [here.render(t) for t in range(12)] + [there.render(t) for t in range(30)]
        target = tracker.init(frames[0], here.box(0))
        for frame in frames[1:]:
            state = target.state
            begin = time.perf_counter()
            tracker.update(frame)
            times[state].append(1e3 * (time.perf_counter() - begin))
    typical = float(np.median(times["tracking"]))
    return {
        state: {"frames": len(ms), **{k: round(v / typical, 2) for k, v in percentiles(np.array(ms)).items()}}
        for state, ms in times.items()
        if ms
    }


def growth(tracker: Tracker, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of an update (p50) by size of frame and target, number of targets, threads."""
    scene = Scene((640, 480), 2, seed=1)
    small, box = scene.render(0), scene.box(0)

    def update(frame: Image, box: tuple[float, ...], count: int = 1, tracker: Tracker = tracker) -> Run:
        targets = [tracker.init(frame, box) for _ in range(count)]
        return lambda: tracker.update_all(frame, targets)

    def within(size: tuple[int, int]) -> Run:
        """The scene, or as much of it as fits around the target, in the middle of a frame of another size."""
        wanted = (box[k] + box[2 + k] / 2 - size[k] / 2 for k in (0, 1))
        x, y = (
            int(min(max(w, 0), max(have - want, 0))) for w, have, want in zip(wanted, (640, 480), size, strict=True)
        )
        part = small[y : y + size[1], x : x + size[0]]
        left, top = (size[0] - part.shape[1]) // 2, (size[1] - part.shape[0]) // 2
        borders = top, size[1] - part.shape[0] - top, left, size[0] - part.shape[1] - left
        frame = np.asarray(cv2.copyMakeBorder(part, *borders, cv2.BORDER_REFLECT_101), np.uint8)
        return update(frame, (box[0] - x + left, box[1] - y + top, *box[2:]))

    def scaled(side: int) -> Run:
        """The scene at a scale at which the target is so large, px."""
        by = side / (box[2] * box[3]) ** 0.5
        return update(np.asarray(cv2.resize(small, None, fx=by, fy=by), np.uint8), tuple(by * v for v in box))

    runs = {
        "frame": {name: within(size) for name, size in SIZES.items()},
        "target px": {str(side): scaled(side) for side in (20, 40, 100, 200, 400)},
        "targets": {str(n): update(small, box, n) for n in (1, 2, 4, 8, 16, 32, 64)},
        "threads": {
            str(n): update(small, box, 1, Tracker.load("swift", device="cpu", threads=n))
            for n in (1, 2)
            if n <= (os.cpu_count() or 1)
        },
    }
    return {
        kind: {k: round(float(np.median(v)), 2) for k, v in in_turns(group, rounds if kind != "targets" else 4).items()}
        for kind, group in runs.items()
    }


def start(engine: str, work: str) -> dict[str, float]:
    """Processor's seconds and memory (MB) of a process that tracks."""
    program = START.format(engine=engine, work=work)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    seconds, memory = map(float, done.stdout.split())
    return {"cpu_s": round(seconds, 2), "rss_mb": round(memory)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, metavar="DIR", help="folder with the ONNX files of peers")
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--updates", type=int, metavar="N", help="measure only how even N updates of swift are")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    scene = Scene((640, 480), 40, seed=1)
    frames, box = [scene.render(t) for t in range(40)], scene.box(0)
    if args.updates:
        tracker = Tracker.load("swift", device="cpu", threads=1)
        found = percentiles(in_turns({"swift": followed(tracker, frames, box)}, args.updates)["swift"])
        print(
            f"{machine()}\n{args.updates} updates of swift: {found}, p99 is {found['p99'] / found['p50']:.2f} times p50"
        )
        return
    swift, nano = (Tracker.load(name, device="cpu", threads=1) for name in ("swift", "swift-nano"))
    bare, closer = passes(Tracker.load("swift", device="cpu", threads=1), frames[0])
    runs: dict[str, Run] = {"search pass": bare, "search pass and closer look": closer}
    runs |= {"swift": followed(swift, frames, box), "swift-nano": followed(nano, frames, box)}
    for engine in ("openvino", "openvino-bf16"):
        if not missing(engine):
            tracker = Tracker.load("swift", device="cpu", threads=1, engine=engine)
            runs[f"swift, {engine}"] = followed(tracker, frames, box)
    if args.peers:
        peers = {"FEAR-XS": lambda: Fear(args.peers)}
        peers |= {f"NanoTrack {v}": lambda v=v: NanoTrack(args.peers, v) for v in ("v1", "v2", "v3")}  # type: ignore[misc]
        runs |= {name: followed(make(), frames, box) for name, make in peers.items()}
    stages: list[tuple[float, float, float]] = []
    update = runs["swift"]

    def noted() -> None:
        result: Any = update()
        stages.append((result.crop_ms, result.network_ms, result.post_ms))

    runs["swift"] = noted
    times = in_turns(runs, args.frames)
    slow: dict[str, Run] = {}
    for engine in ("torch", "onnxruntime", "openvino-bf16"):
        if engine == "torch" or not missing(engine):
            tracker = Tracker.load("siamfc", device="cpu", threads=1, engine=engine)
            slow[f"siamfc, {engine}"] = followed(tracker, frames, box)
    times |= in_turns(slow, max(args.frames // 5, 5))
    found: dict[str, Any] = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "frames": args.frames}
    found["ms"] = {name: percentiles(values) for name, values in times.items()}
    typical = {name: float(np.median(values)) for name, values in times.items()}
    found["ratio"] = {
        f"{a} / {b}": round(typical[a] / typical[b], 3)
        for a, b in (
            ("swift", "search pass"), ("swift", "search pass and closer look"), ("swift", "FEAR-XS"),
            ("swift, openvino", "FEAR-XS"), ("swift, openvino-bf16", "FEAR-XS"),
            ("swift", "NanoTrack v2"), ("swift-nano", "NanoTrack v2"), ("swift-nano", "NanoTrack v3"),
            ("siamfc, onnxruntime", "siamfc, torch"), ("siamfc, openvino-bf16", "siamfc, torch"),
        )
        if a in typical and b in typical
    }  # fmt: skip
    found["stages"] = dict(zip(("crop", "network", "post"), np.median(stages, 0).round(3).tolist(), strict=True))
    found["floor"] = floor(swift)
    found["floor"]["search_gflop_s"] = 1e3 * found["floor"]["search_gflop"] / typical["search pass"]
    found["lost, in tracked frames"] = lost(swift, (640, 480))
    found["growth, ms"] = growth(swift, max(args.frames // 5, 5))
    found["to the first box"] = {engine: start(engine, ONE) for engine in ("onnxruntime", "torch")}
    few, many = (start("onnxruntime", MANY.format(count=n)) for n in (1, 33))
    found["memory of a target, MB"] = round((many["rss_mb"] - few["rss_mb"]) / 32, 2)
    for name, value in found.items():
        print(f"{name}: {value}" if not isinstance(value, dict) else f"\n{name}")
        if isinstance(value, dict):
            for key, one in value.items():
                print(f"  {key}: {round(one, 3) if isinstance(one, float) else one}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
