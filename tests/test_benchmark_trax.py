"""TraX both ways, against the client and the server of the package vot-trax, and against programs that go wrong."""

import base64
import io
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_benchmark_runner import make_sequence

from tracker.benchmark.peers import serve, trax
from tracker.benchmark.peers.contract import check_tracker
from tracker.benchmark.peers.peers import load_tracker, tracker_name
from tracker.benchmark.run.jobs import run_all
from tracker.benchmark.run.runner import run_ope

ROOT = Path(__file__).parents[1]
NAN = float("nan")


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    return make_sequence(tmp_path_factory.mktemp("a b=c"), count=12)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The programs started here find the package, wherever they run."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))


# --- our server, the package's client --------------------------------------------------------------------------------

CLIENT = """
import json, os, socket, subprocess, sys
import cv2, numpy as np, trax
from trax.client import Client

files, boxes = json.load(sys.stdin)
images = [cv2.imread(file) for file in files]
def path(i): return trax.FileImage.create(files[i])
def memory(i): return trax.MemoryImage.create(np.ascontiguousarray(images[i][:, :, ::-1]))
def png(i): return trax.BufferImage.create(cv2.imencode(".png", images[i])[1].tobytes())
def rectangle(x, y, w, h): return trax.Rectangle.create(x, y, w, h)
def polygon(x, y, w, h): return trax.Polygon.create([(x + w, y + 1), (x + w / 2, y + h), (x, y + 2), (x + 3, y)])
def mask(x, y, w, h):
    pixels = np.ones((int(h) + 2, int(w) + 3), np.uint8)
    pixels[0], pixels[-1], pixels[:, :2], pixels[:, -1] = 0, 0, 0, 0
    pixels[1, 2] = 0  # the corner itself need not be set
    return trax.Mask.create(pixels, x=int(x) - 2, y=int(y) - 1)

server = [sys.executable, "-m", "tracker.cli", "trax", "ncc"]
listener = socket.create_server(("127.0.0.1", 0))
environment = {**os.environ, "TRAX_SOCKET": str(listener.getsockname()[1])} if sys.argv[1] == "socket" else None
process = subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
printed = []
stream = listener.fileno() if sys.argv[1] == "socket" else (process.stdin.fileno(), process.stdout.fileno())
client = Client(stream=stream, timeout=100, log=printed.append)
def plain(answer):
    ((region, about),), seconds = answer
    return [region.bounds(), about, seconds]
runs = [[plain(client.initialize({"color": send(0)}, [(shape(*boxes[0]), {})], {"a": 'b "c" d'}))]
        + [plain(client.frame({"color": send(i)}, {}, [])) for i in range(1, len(files))]
        for send, shape in ((path, rectangle), (memory, polygon), (png, mask))]
about = [client.tracker_name, client.image_formats, client.region_formats, client.channels, client.get("multiobject")]
reason = ""
if sys.argv[1] == "bad":
    try:
        client.frame({"color": trax.FileImage.create("/no/such/file.png")}, {}, [])
    except trax.TraxException as error:
        reason = str(error)
else:
    client.quit()
code = process.wait(30)
print(json.dumps([about, runs, reason, code]))
sys.stdout.flush()
os._exit(0)  # the package may crash in its clean-up after the streams have closed
"""


@pytest.mark.parametrize("way", ["bad", "socket"])
def test_the_client_of_vot_trax_gets_the_boxes_of_a_local_run(sequence, way):
    pytest.importorskip("trax", reason="pip install vot-trax")
    given = json.dumps([[str(path) for path in sequence.frames], sequence.boxes.tolist()])
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, way], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    about, runs, reason, code = json.loads(done.stdout)
    assert about == ["ncc", ["path", "memory", "buffer"], ["rectangle", "polygon", "mask"], ["color"], False]
    local = run_ope(load_tracker("ncc"), sequence)
    assert len(runs) == 3
    for answers in runs:
        np.testing.assert_allclose(
            [box for box, _, _ in answers], local.boxes, atol=1e-4
        )  # the client keeps 4 decimals
        scores = [float(known["confidence"]) for _, known, _ in answers[1:]]
        np.testing.assert_allclose(scores, local.scores[1:], atol=1e-6)
    if way == "bad":
        assert "/no/such/file.png" in reason
        assert "siamtrack: error:" in done.stderr
        assert code == 2
    else:
        assert code == 0


# --- our client, the package's server --------------------------------------------------------------------------------

SERVER = """
import sys, cv2, numpy as np, trax
from tracker.benchmark.peers.peers import TemplateMatch

wrapped = {"vot": "x"} if sys.argv[2:] else None
server = trax.Server(["rectangle"], [sys.argv[1]], tracker_name="theirs", metadata=wrapped)
tracker, started = TemplateMatch(), False
print("chatter without a line end", end="", flush=True)
while True:
    request = server.wait()
    if request.type == "quit":
        break
    image = request.image["color"]
    if sys.argv[1] == "path":
        frame = cv2.imread(image.path())
    elif sys.argv[1] == "buffer":
        frame = cv2.imdecode(np.frombuffer(image.buffer(), np.uint8), cv2.IMREAD_COLOR)
    else:
        frame = np.ascontiguousarray(image.array()[:, :, ::-1])
    score = {}
    if request.type == "initialize":
        if wrapped and started:
            server.quit("one target only")
            break
        started, box = True, request.objects[0][0].bounds()
        tracker.init(frame, box)
    else:
        answer = tracker.update(frame)
        box, score = answer.box, {"confidence": answer.score}
    server.status([(trax.Rectangle.create(*box), score)])
"""


@pytest.mark.parametrize("form", ["path", "buffer", "memory", "path wrapped"])
def test_a_program_with_the_server_of_vot_trax_as_a_peer_equals_the_local_run(tmp_path, sequence, form):
    pytest.importorskip("trax", reason="pip install vot-trax")
    (tmp_path / "their server.py").write_text(SERVER)
    peer = load_tracker(f"theirs:=trax='{sys.executable}' '{tmp_path / 'their server.py'}' {form}")
    local = run_ope(load_tracker("ncc"), sequence)
    for _ in range(2):  # a second target in the same program, or in a new one where it takes one only
        run = run_ope(peer, sequence)
        assert run.error == ""
        np.testing.assert_allclose(run.boxes, local.boxes, atol=1e-4)
        np.testing.assert_allclose(run.scores, local.scores, atol=1e-4)
        assert (run.milliseconds("network_ms") <= run.milliseconds()).all()
    process = peer._process
    peer._end()
    assert process.returncode == 0


def test_our_own_server_as_a_peer_keeps_the_contract(sequence):
    peer = load_tracker(f"trax={sys.executable} -m tracker.cli trax ncc")
    check_tracker(peer, sequence)
    np.testing.assert_allclose(
        run_ope(peer, sequence).boxes, run_ope(load_tracker("ncc"), sequence).boxes, rtol=0, atol=1e-6
    )
    peer._end()


# --- programs that go wrong ------------------------------------------------------------------------------------------


def program(tmp_path, answers, hello="trax.version=3"):
    """A program in plain Python that says hello and then, to message i, the i-th of these lines of code."""
    body = "\n".join(f"    if number == {number}: {code}" for number, code in answers.items())
    (tmp_path / "program.py").write_text(
        textwrap.dedent("""
        import os, sys, time
        def say(text): print(text, flush=True)
        say('@@TRAX:hello "HELLO"')
        for number, line in enumerate(sys.stdin):
            if line.startswith("@@TRAX:quit"): break
        BODY
            say('@@TRAX:state "1,2,3,4"')
        """)
        .replace("HELLO", hello)
        .replace("BODY", body)
    )
    return f"trax={sys.executable} {tmp_path / 'program.py'}"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("say('Traceback: oh'); os._exit(3)", "ended with code 3; it printed: Traceback: oh"),
        ('say(\'@@TRAX:quit "trax.reason=no \\\\"more\\\\""\')', 'it said quit no "more"'),
        ("say('@@TRAX:state')", "a state without a region"),
        ("say('@@TRAX:state \"here\"')", "not a TraX region: 'here'"),
        ('say(\'@@TRAX:state "1,2,3,4" "score=high"\')', "high"),
        ("say('@@TRAX:state \"0\"'); continue", "is not finite"),
    ],
)
def test_a_program_that_goes_wrong_is_named_and_the_next_sequence_starts_it_again(tmp_path, sequence, code, message):
    peer = load_tracker(program(tmp_path, {3: code}))
    run = run_ope(peer, sequence)
    assert message in run.error
    assert run.error.startswith("frame 3:")
    assert np.isnan(run.boxes[3]).all()
    again = run_ope(peer, sequence)
    np.testing.assert_array_equal(again.boxes[1:3], [[1, 2, 3, 4]] * 2)
    peer._end()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "expected trax=COMMAND"),
        ("no_such_program", "cannot be started"),
        (f"{sys.executable} -c \"print('usage: me')\"", "ended with code 0; it printed: usage: me"),
    ],
)
def test_what_does_not_speak_trax_is_named(command, message):
    with pytest.raises(ValueError, match=message):
        load_tracker(f"trax={command}")


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        ("trax.channels=color;depth;", "color only"),
        ("trax.image=url;", "neither path"),
        ("trax.region=mask;", "no rect"),
    ],
)
def test_what_we_cannot_give_is_named(tmp_path, hello, message):
    with pytest.raises(ValueError, match=message):
        load_tracker(program(tmp_path, {}, hello))


def test_a_program_that_never_says_hello_is_ended(monkeypatch):
    monkeypatch.setattr(trax, "HELLO_SECONDS", 0.5)
    with pytest.raises(ValueError, match="ended with code -9"):
        load_tracker(f"trax={sys.executable} -c 'import time; time.sleep(60)'")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_a_program_that_hangs_is_ended_with_its_worker(tmp_path, sequence):
    mark = tmp_path / "pid"
    spec = program(tmp_path, {7: f"open({str(mark)!r}, 'w').write(str(os.getpid())); time.sleep(600)"})
    # messages 0 to 3 are the warm-up
    problems = run_all([spec], [sequence], "ope", tmp_path / "out", workers=1, timeout=2, quiet=True)
    assert len(problems) == 1
    assert "frame 3: no answer in 2 s" in problems[0]
    state = Path("/proc", mark.read_text(), "stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


# --- messages --------------------------------------------------------------------------------------------------------


def converse(tracker, *messages):
    """Serve these messages in this process; returns the answers after the hello."""
    sink = io.BytesIO()
    try:
        serve.serve(tracker, io.BytesIO(b"".join(messages)), sink, "me")
    finally:
        converse.answers = [trax.decode(line) for line in sink.getvalue().splitlines()]
    assert converse.answers[0].properties["trax.version"] == "3"
    return converse.answers[1:]


def test_messages_read_back():
    for words in [('a "b" \\ \n c', "d=e f"), ("", "file:///tmp/a=b.png"), ("x" * 200_000 + "==",)]:
        message = trax.decode(trax.encode("frame", words, {"trax.reason": 'no "more" \\n\n = end'}))
        assert message == ("frame", [w for w in words if w != "d=e f"], message.properties)
        assert message.properties["trax.reason"] == 'no "more" \\n\n = end'
    assert trax.decode(b"epoch 3: loss 0.1\n") is None
    assert trax.decode(b"half a line@@TRAX:status 1,2,3,4 score=0.5\r\n") == ("state", ["1,2,3,4"], {"score": "0.5"})


def test_regions():
    assert trax.read_region("1.5,2,3,4") == (1.5, 2, 3, 4)
    assert trax.read_region("1,1,5,1,5,5.5") == (1, 1, 4, 4.5)
    assert trax.read_region("mask:3,4,5,5,7,3,2,3") == (5, 5, 3, 2)
    assert np.isnan(trax.read_region("0")).all()
    assert np.isnan(trax.read_region("mask:0,0,3,3,9")).all()
    for bad in ("", "a,b,c,d", "1,2,3,4,5", "mask:1,2", "1,2"):
        with pytest.raises(ValueError, match="not a TraX region"):
            trax.read_region(bad)


def test_pictures(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    content = cv2.imencode(".png", image)[1].tobytes()
    (tmp_path / "a b.png").write_bytes(content)
    raw = base64.b64encode(image[:, :, ::-1].tobytes()).decode()
    data = base64.b64encode(content).decode()
    for text in (
        f"file://{tmp_path / 'a b.png'}",
        f"image:9;6;rgb;{raw}",
        f"data:image/png;{data}",
        f"data:image/png;base64,{data}",
    ):
        np.testing.assert_array_equal(trax.read_picture(text), image)
    grey = trax.read_picture(f"image:9;6;gray8;{base64.b64encode(image[:, :, 0].tobytes()).decode()}")
    np.testing.assert_array_equal(grey, np.repeat(image[:, :, :1], 3, axis=2))
    for bad in (f"image:9;7;rgb;{raw}", "image:9;6;gray16;AAAA", "data:image/png;AAAA", "data:", "http://x/y.png", ""):
        with pytest.raises(ValueError, match="cannot read the TraX image"):
            trax.read_picture(bad)


def test_bad_messages_end_the_session_and_the_client_is_told(sequence):
    picture = f"file://{sequence.frames[0]}"
    start = trax.encode("initialize", (picture, "20,20,18,14"))

    class Lost:
        def init(self, frame, box):
            pass

        def update(self, frame):
            return (NAN, 0, 1, 1)

    for tracker, messages, message in [
        (load_tracker("ncc"), [trax.encode("frame", (picture,))], "expected initialize"),
        (load_tracker("ncc"), [trax.encode("initialize", ("20,20,18,14",))], "initialize with 1 arguments"),
        (load_tracker("ncc"), [start, trax.encode("dance")], "dance with 0 arguments"),
        (load_tracker("ncc"), [trax.encode("initialize", (picture, "0"))], "no target in the region"),
        (load_tracker("ncc"), [trax.encode("initialize", (picture, ",".join(["1e308"] * 4)))], "lies wholly outside"),
        (load_tracker("ncc"), [trax.encode("initialize", (picture, "1,2,1,2,1,2"))], "a positive width and height"),
        (load_tracker("ncc"), [start, trax.encode("frame", ("file:///no/file.png",))], "/no/file.png"),
        (Lost(), [start, trax.encode("frame", (picture,))], "not finite"),
    ]:
        with pytest.raises((ValueError, OSError), match=message):
            converse(tracker, *messages)
        assert converse.answers[-1].kind == "quit"
        assert message in converse.answers[-1].properties["trax.reason"]
    assert [answer.kind for answer in converse(load_tracker("identity"), b"noise\n", start, trax.encode("quit"))] == [
        "state"
    ]


def test_names_and_what_cannot_be_served(tmp_path):
    assert tracker_name("trax=a program --x") == "trax"
    assert tracker_name("mine:=trax=a program") == "mine"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "walk.txt").write_text("1,2,30,40\n")
    done = subprocess.run(
        [sys.executable, "-m", "tracker.cli", "trax", f"results={tmp_path / 'theirs'}"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=ROOT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "cannot be served" in done.stderr
