"""Results for other programs arrive whole and at once, with stamps and velocities that are right."""

import json
import socket

import pytest

from tracker.emit import Emitter, Motion
from tracker.footage.boxes import Row

FPS = 30


def rows(count=12, lost=()):
    """Two targets: 0 moves 60 px/s to the right and 30 px/s up, 1 stands still."""
    for f in range(count):
        t = f / FPS
        state = "lost" if f in lost else "tracking"
        yield [Row(f, t, 0, 100 + 60 * t, 200 - 30 * t, 20, 10, 0.9, state), Row(f, t, 1, 5, 5, 8, 8, 0.8, "tracking")]


def check(objects, begun):
    assert [(one["frame"], one["id"]) for one in objects] == [(f, n) for f in range(12) for n in (0, 1)]
    last = objects[-2]
    assert last["velocity"] == pytest.approx([60, -30], abs=0.02) and objects[-1]["velocity"] == [0, 0]
    assert last["box"] == pytest.approx([122, 189, 20, 10]) and last["state"] == "tracking" and last["score"] == 0.9
    assert last["time"] == pytest.approx(11 / FPS, abs=1e-6)
    assert last["stamp"] == (None if begun is None else pytest.approx(begun + 11 / FPS, abs=1e-5))


def test_lines_are_in_the_file_before_it_is_closed(tmp_path):
    (tmp_path / "out.jsonl").write_text("of another run")
    with pytest.raises(FileExistsError, match="exists; remove it"):
        Emitter(f"jsonl:{tmp_path / 'out.jsonl'}")
    with Emitter(f"jsonl:{tmp_path / 'out.jsonl'}", force=True) as emitter:
        for frame in rows():
            emitter.send(frame)
        check([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()], None)


def test_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(5)
        with Emitter(f"udp:127.0.0.1:{listener.getsockname()[1]}", begun=1_700_000_000.25) as emitter:
            for frame in rows():
                emitter.send(frame)
        check([json.loads(listener.recv(4096)) for _ in range(24)], 1_700_000_000.25)
    with Emitter("udp:127.0.0.1:9") as emitter:  # nobody listens
        for frame in rows():
            emitter.send(frame)


def test_zmq(tmp_path):
    zmq = pytest.importorskip("zmq", reason="pip install pyzmq")
    address = f"ipc://{tmp_path / 'results'}"
    context = zmq.Context()
    with Emitter(f"zmq:{address}") as emitter:
        listener = context.socket(zmq.SUB)
        listener.subscribe("")
        listener.rcvtimeo = 5000
        listener.connect(address)
        first = next(rows(1))
        while not listener.poll(20):  # until the subscription has arrived
            emitter.send(first)
        while listener.poll(50):
            listener.recv_string()
        for frame in list(rows())[1:]:
            emitter.send(frame)
        got = [json.loads(listener.recv_string()) for _ in range(22)]
    context.destroy()
    assert got[-2]["velocity"] == pytest.approx([60, -30], abs=0.02) and got[0]["frame"] == 1
    with pytest.raises(OSError, match="zmq:nowhere"):
        Emitter("zmq:nowhere")


def test_a_velocity_is_not_made_across_a_loss():
    motion = Motion()
    found = [motion.after(frame[0]) for frame in rows(14, lost=(6, 7))]
    assert found[5] == pytest.approx((60, -30)) and found[6:10] == [None] * 4
    assert found[10] == pytest.approx((60, -30))


@pytest.mark.parametrize("where", ["", "jsonl", "jsonl:", "tcp:host:1", "udp:5000", "udp:host:x", "udp:host:70000"])
def test_other_places_are_refused_by_name(where):
    with pytest.raises(ValueError, match="emit"):
        Emitter(where)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        Emitter(f"jsonl:{tmp_path / 'nowhere' / 'a.jsonl'}")


def test_the_command_sends_what_it_writes(tmp_path):
    from tracker.cli import main
    from tracker.footage.video import VideoWriter
    from tracker.scene import Scene

    scene = Scene((160, 120), 8, seed=2)
    with VideoWriter(tmp_path / "a.mp4", FPS, scene.size) as writer:
        for image in scene:
            writer.write(image)
    box = "{:.0f},{:.0f},{:.0f},{:.0f}".format(*scene.box(0))
    words = ["track", tmp_path / "a.mp4", "--init", box, "--emit", f"jsonl:{tmp_path / 'a.jsonl'}", "--quiet"]
    assert main([*map(str, words), "--boxes", str(tmp_path / "a.json")]) == 0
    sent = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    written = json.loads((tmp_path / "a.json").read_text())["boxes"]
    assert len(sent) == len(written) == 8 and sent[0]["stamp"] is None
    for one, row in zip(sent, written, strict=True):
        assert one["box"] == pytest.approx([row[k] for k in "xywh"], abs=1e-3) and one["frame"] == row["frame"]
