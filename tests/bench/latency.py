"""Latency of one target on one thread, beside the share of each stage: python tests/bench/latency.py [--peer ONNX]

Runs on frames rendered by tracker/scene.py; decoding is not in it. With --peer TEMPLATE.onnx SEARCH.onnx the peer's
search network runs turn by turn with ours, in the same loop, so that both see the same machine.
"""

import argparse
import platform
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from tracker import Tracker
from tracker.scene import Scene


def machine() -> str:
    """Processor and versions, one line."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"


def peer_search(template: str, search: str) -> Callable[[], object]:
    """One run of a peer's search network (inputs: image and template features), one thread, no spinning."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    first, second = (onnxruntime.InferenceSession(f, options, ["CPUExecutionProvider"]) for f in (template, search))
    (image,) = first.get_inputs()
    features = first.run(None, {image.name: np.zeros(image.shape, np.float32)})[0]
    feeds = {i.name: features if list(i.shape) == list(features.shape) else np.zeros(i.shape, np.float32)
             for i in second.get_inputs()}  # fmt: skip
    return lambda: second.run(None, feeds)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", nargs="+", default=["swift", "siamfc"])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--engines", nargs="+", default=["torch", "onnxruntime"])
    parser.add_argument("--peer", nargs=2, metavar="ONNX", help="template and search network of a peer")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    scene = Scene((640, 480), 100, seed=1)
    frames = [scene.render(t) for t in range(100)]
    peer = peer_search(*args.peer) if args.peer else None
    print(machine())
    for name, engine in [(w, e) for w in args.weights for e in args.engines]:
        if name == "siamfc" and engine != "torch":
            continue
        tracker = Tracker.load(name, device="cpu", threads=1, engine=engine)
        count = args.frames if name != "siamfc" else args.frames // 10
        stages, whole, peers = [], [], []
        tracker.init(frames[0], scene.box(0))
        for i in range(count):
            if i % 99 == 0:
                tracker.init(frames[0], scene.box(0))
            started = time.perf_counter()
            result = tracker.update(frames[1 + i % 99])
            whole.append(1e3 * (time.perf_counter() - started))
            stages.append((result.crop_ms, result.network_ms, result.post_ms))
            if peer:
                started = time.perf_counter()
                peer()
                peers.append(1e3 * (time.perf_counter() - started))
        p50, p95 = np.percentile(whole, (50, 95))
        share = 100 * np.median(stages, axis=0) / p50
        fps = f"{1e3 / p50:.0f} frames/s at p50, {count} frames"
        print(f"{name} ({engine}): update p50 {p50:.2f} ms, p95 {p95:.2f} ms, {fps}")
        print("    share of crop {:.1f} %, network {:.1f} %, post-processing {:.1f} %".format(*share))
        if peer:
            ratio = np.median(np.array(whole) / np.array(peers))
            both = f"p50 {np.median(peers):.2f} ms; ours / peer {ratio:.2f}, median of pairs"
            print(f"    peer's search network alone: {both}")


if __name__ == "__main__":
    main()
