"""The page's server: who may come in, what may be read, and a session that is steered over its WebSocket."""

import asyncio
import http.server
import json
import math
import struct
import threading
import time

import cv2
import numpy as np
import pytest
from footage import write_film
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from tracker import Tracker, frames
from tracker.cli import main
from tracker.detections import Detection
from tracker.errors import DataError, LogError
from tracker.geometry import Box, iou
from tracker.recorder import Recorder, read_log
from tracker.scene import Scene
from tracker.web import access
from tracker.web.app import AHEAD, make_app, open_house
from tracker.web.session import STATES, Session

COUNT = 24
SCENE = Scene((320, 240), COUNT, seed=2, distractor=False, occlusion=False)
TRUTH = [SCENE.box(t) for t in range(COUNT)]
HERE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = write_film(tmp_path_factory.mktemp("films") / "scene.mp4", SCENE, 200, SCENE.size)
    (path.parent / "notes.txt").write_text("secret")
    return path


@pytest.fixture(scope="module")
def tracker():
    return Tracker.load("swift", device="cpu")


@pytest.fixture
def house(clip, tracker):
    loaded = {"swift": tracker}

    def load(name):
        return loaded[name] if name in loaded else Tracker.load(name, device="cpu")

    with open_house(Session(load), access.Folders.of([clip.parent]), most=2_000_000) as house:
        yield house


@pytest.fixture
def client(house):
    with TestClient(make_app(house), base_url=HERE) as client:
        yield client


class Page:
    """What the script of the page does: reads moments, confirms them, asks and waits for the answer."""

    def __init__(self, socket):
        self.socket, self.facts, self.picture, self.rows, self.number = socket, {}, b"", {}, 0

    def read(self, confirm=True):
        message = self.socket.receive()
        if message.get("text"):
            return json.loads(message["text"])
        (length,) = struct.unpack_from("<I", message["bytes"])
        facts = json.loads(message["bytes"][4 : 4 + length])
        if facts["epoch"] != self.facts.get("epoch"):
            self.rows = {}
        for number, frame, *box, score, state in facts["rows"]:
            self.rows[number, frame] = (box, score, STATES[state])
        self.facts, self.picture = facts, message["bytes"][4 + length :]
        if confirm:
            self.socket.send_text('{"do": "seen"}')
        return None

    def ask(self, name, /, **words):
        self.number += 1
        self.socket.send_text(json.dumps({"do": name, "number": self.number, **words}))
        while not (answer := self.read()):
            pass
        assert answer["answer"] == self.number
        return answer

    def done(self, name, /, **words):
        answer = self.ask(name, **words)
        assert "error" not in answer, answer
        return answer["value"]

    def until(self, true):
        for _ in range(300):
            if true(self.facts):
                return
            self.read()
        raise AssertionError(self.facts)

    def boxes(self, number):
        return {frame: box for (n, frame), (box, _, _) in sorted(self.rows.items()) if n == number}


@pytest.fixture
def page(client):
    with client.websocket_connect("ws://127.0.0.1/ws?width=320") as socket:
        page = Page(socket)
        page.until(lambda facts: facts.get("ready"))
        yield page


def play_to_end(page):
    page.done("speed", speed=0)
    page.done("play")
    page.until(lambda facts: facts["ended"])


# --- a session


def test_draw_watch_go_back_correct_download(page, client, tmp_path):
    page.done("open", kind="file", root=0, name="scene.mp4")
    page.until(lambda facts: facts["open"])
    assert (page.facts["start"], page.facts["stop"], page.facts["frame"]) == (0, COUNT, 0) and not page.facts["playing"]
    shown = cv2.imdecode(np.frombuffer(page.picture, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(shown.astype(int) - SCENE.render(0)).mean() < 12
    assert client.get("/api/boxes/csv").status_code == 404

    assert page.done("add", box=TRUTH[0]) == 0
    play_to_end(page)
    boxes = page.boxes(0)
    assert list(boxes) == list(range(COUNT)) and page.facts["frame"] == COUNT - 1
    assert iou(list(boxes.values()), TRUTH).mean() > 0.6
    assert len(page.facts["ms"]) == 3

    page.done("seek", frame=11)  # going back and on again finds the same
    page.until(lambda facts: facts["frame"] == 11)
    page.rows.clear()
    play_to_end(page)
    assert {f: boxes[f] for f in range(12, COUNT)} == page.boxes(0)

    page.done("seek", frame=12)
    page.done("redraw", id=0, box=[150, 90, 60, 50])
    page.until(lambda facts: facts["given"]["0"] == [0, 12])
    assert list(page.boxes(0)) == list(range(13)) and page.boxes(0)[12] == [150, 90, 60, 50]
    assert {f: boxes[f] for f in range(12)} == {f: page.boxes(0)[f] for f in range(12)}

    assert page.done("add", box=[10, 10, 40, 40], frame=12) == 1
    page.done("step", count=2)
    page.until(lambda facts: facts["frame"] == 14)
    assert sorted(page.rows)[-2:] == [(1, 13), (1, 14)]
    page.done("remove", id=0)
    page.until(lambda facts: facts["ids"] == [1])
    assert list(page.boxes(1)) == [12, 13, 14] and not page.boxes(0)
    assert page.done("add", box=[50, 50, 40, 40]) == 2

    lines = client.get("/api/boxes/csv").text.splitlines()
    assert lines[0].startswith("frame,time,id,x,y,w,h") and len(lines) == 1 + 4
    assert client.get("/api/boxes/json").json()["meta"]["source"] == "scene.mp4"
    mot = client.get("/api/boxes/mot")
    assert mot.text.startswith("13,2,11.0,11.0,40.0,40.0,1.0,")
    assert "boxes.mot.txt" in mot.headers["content-disposition"]  # a name that `siamtrack dataset` knows
    assert client.get("/api/boxes/otb").headers["content-disposition"] == 'attachment; filename="otb.zip"'
    assert len(client.get("/api/boxes/coco").json()["annotations"]) == 4
    assert client.get("/api/boxes/exe").status_code == 404
    while not (state := client.post("/api/overlay").json())["done"]:
        assert not state["problem"], state
        time.sleep(0.05)
    (tmp_path / "out.webm").write_bytes(client.get("/api/overlay.webm").content)
    drawn = cv2.VideoCapture(str(tmp_path / "out.webm"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 3  # frames 12 to 14


def test_other_weights_go_on_from_the_boxes_that_are_known(page):
    page.done("open", kind="file", root=0, name="scene.mp4")
    page.done("add", box=TRUTH[0])
    page.done("step", count=3)
    page.done("weights", name="swift-nano")
    page.done("step", count=3)
    page.until(lambda facts: facts["frame"] == 6)
    assert page.facts["weights"] == "swift-nano"
    assert iou(list(page.boxes(0).values()), TRUTH[:7]).min() > 0.4
    assert "no weights 'none'" in page.ask("weights", name="none")["error"]
    page.until(lambda facts: not facts["work"])
    assert page.facts["weights"] == "swift-nano"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"do": "add", "box": [900, 10, 40, 40]}, "wholly outside"),
        ({"do": "add", "box": [1, 2, 3]}, "four finite numbers"),
        ({"do": "add", "box": ["a", 2, 3, 4]}, "four finite numbers"),
        ({"do": "redraw", "id": 7, "box": [1, 2, 30, 40]}, "there is no target 7"),
        ({"do": "add", "box": [1, 2, 30, 40], "frame": "soon"}, "frame = 'soon' does not fit"),
        ({"do": "fly"}, "there is no command 'fly'"),
        ({"do": "rows"}, "there is no command 'rows'"),
        ({"do": "speed", "speed": 7}, "none of 0.25"),
        ({"do": "open", "kind": "file", "root": 0, "name": "notes.txt"}, "not a video"),
        ({"do": "open", "kind": "file", "root": 0, "name": "../x.mp4"}, "is not in the folder"),
        ({"do": "open", "kind": "stream", "address": "file:///etc/passwd"}, "is no stream"),
        ({"do": "open", "kind": "stream", "address": "http://[::1"}, "'http://[::1' is no stream"),
        ({"do": "open", "kind": "camera", "camera": 99}, "camera 99 cannot be opened"),
    ],
)
def test_what_cannot_be_done_is_told_and_nothing_is_lost(page, words, said):
    page.done("open", kind="file", root=0, name="scene.mp4")
    page.done("add", box=TRUTH[0])
    name = words.pop("do")
    assert said in page.ask(name, **words)["error"]
    page.done("step", count=1)
    page.until(lambda facts: facts["frame"] == 1)
    assert page.facts["ids"] == [0] and list(page.boxes(0)) == [0, 1]


def test_without_a_detector_that_is_said(page, client):
    page.done("open", kind="file", root=0, name="scene.mp4")
    assert "start the server with --detector" in page.ask("detect")["error"]
    assert client.get("/api/choices").json()["detector"] is False


def test_a_message_that_is_no_command_is_answered(page):
    for text in ("{", "[1]", '"x"'):
        page.socket.send_text(text)
        while not (answer := page.read()):
            pass
        assert "not a command" in answer["error"]


def test_what_is_nested_without_end_or_breaks_us_ends_no_connection(page, house, monkeypatch):
    page.socket.send_text("[" * 60_000)
    while not (answer := page.read()):
        pass
    assert "nested too deep" in answer["error"]
    monkeypatch.setattr(house.session, "on_seek", lambda frame: {}["gone"])
    assert "KeyError: 'gone'" in page.ask("seek", frame=1)["error"]
    assert page.ask("pause").get("error") is None


def test_a_flight_log_in_a_declared_folder_does_not_show_files_elsewhere(page, clip):
    (clip.parent / "run.siamlog").write_text("{}")
    assert "'run.siamlog' is not a video file" in page.ask("open", kind="file", root=0, name="run.siamlog")["error"]


def test_a_slow_client_slows_nobody(page, client, house):
    page.done("open", kind="file", root=0, name="scene.mp4")
    page.done("add", box=TRUTH[0])
    with client.websocket_connect("ws://127.0.0.1/ws") as socket:
        slow = Page(socket)
        slow.read(confirm=False)  # and then it sleeps
        play_to_end(page)
        assert list(page.boxes(0)) == list(range(COUNT))
        newest, read = house.session.moment.version, 1
        slow.socket.send_text('{"do": "seen"}')
        while slow.facts["version"] < newest:
            slow.read()
            read += 1
        assert list(slow.boxes(0)) == list(range(COUNT)) and read <= AHEAD + 1  # pictures were left out, boxes were not
        assert page.facts["clients"] == 2


def test_a_client_that_vanishes_leaves_the_session_alone(client, page):
    page.done("open", kind="file", root=0, name="scene.mp4")
    with client.websocket_connect("ws://127.0.0.1/ws") as socket:
        Page(socket).done("add", box=TRUTH[0])
    play_to_end(page)
    assert page.facts["clients"] == 1 and list(page.boxes(0)) == list(range(COUNT))


def test_two_browsers_steer_one_session(client, page):
    """What one does the other sees; orders that come at once are done one after the other."""
    page.done("open", kind="file", root=0, name="scene.mp4")
    with client.websocket_connect("ws://127.0.0.1/ws") as socket:
        other = Page(socket)
        for number, one in enumerate((page, other)):  # sent before either reads
            order = {"do": "add", "number": 100 + number, "box": list(TRUTH[0]), "frame": 0}
            one.socket.send_text(json.dumps(order))
        answers = []
        for one in (page, other):
            while not (answer := one.read()):
                pass
            answers.append(answer["value"])
        assert sorted(answers) == [0, 1]
        other.done("remove", id=0)
        page.until(lambda facts: facts["ids"] == [1])
        assert "there is no target 0" in page.ask("remove", id=0)["error"]
        page.done("step", count=2)
        other.until(lambda facts: facts["frame"] == 2)
        assert page.facts["clients"] == 2
    page.until(lambda facts: page.done("pause") is None and facts["clients"] == 1)


def test_a_flight_log_is_shown_over_its_video(client, page, house, clip, tracker, tmp_path):
    with frames(clip) as source, Recorder(tmp_path / "run.siamlog", tracker, source) as recorder:
        first = next(source)
        target = tracker.init(first.image, TRUTH[0])
        recorder.write(first, {}, {5: TRUTH[0]})
        for frame in source:
            recorder.write(frame, {5: tracker.update(frame.image, target)})
    log = read_log(tmp_path / "run.siamlog")
    house.session.do("open", source=str(log.path)).result()
    page.until(lambda facts: facts["title"] == "run.siamlog" and facts["ids"] == [5] and len(page.boxes(5)) == COUNT)
    for step in log.steps:  # before it was played, and with what was found then
        assert page.boxes(5)[step.frame] == pytest.approx(step.rows[5].box, abs=0.01)
    page.done("seek", frame=9)
    page.done("step", count=1)
    page.until(lambda facts: facts["frame"] == 10)
    assert page.facts["ms"] == pytest.approx(log.steps[10].ms, abs=0.01)
    for name, words in (("add", {"box": [5, 5, 30, 30]}), ("remove", {"id": 5}), ("weights", {"name": "swift"})):
        assert "a recorded run, which is only shown" in page.ask(name, **words)["error"]
    rows = client.get("/api/boxes/csv").text.splitlines()
    assert len(rows) == COUNT + 1
    with pytest.raises(LogError, match="does not begin with the head"):
        (tmp_path / "text.siamlog").write_text("text")
        house.session.do("open", source=str(tmp_path / "text.siamlog")).result()
    page.done("open", kind="file", root=0, name="scene.mp4")
    assert page.done("add", box=TRUTH[0]) == 0


def test_a_detection_is_followed_when_it_is_tapped(clip, tracker):
    """And one of a detector that fails is told, as is that there is none."""
    answers = [
        [Detection(Box(*TRUTH[3]), 0.9, "disc"), Detection(Box(math.nan, 0, 5, 5))],
        [],
        RuntimeError("no memory"),
    ]

    def detect(image):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    session = Session(lambda name: tracker, detect=detect)
    with (
        open_house(session, access.Folders.of([clip.parent]), most=0) as house,
        TestClient(make_app(house), base_url=HERE) as client,
    ):
        assert client.get("/api/choices").json()["detector"] is True
        with client.websocket_connect("ws://127.0.0.1/ws?width=320") as socket:
            page = Page(socket)
            page.until(lambda facts: facts.get("ready"))
            assert "nothing is open" in page.ask("detect")["error"]
            page.done("open", kind="file", root=0, name="scene.mp4")
            page.done("seek", frame=3)
            assert page.done("detect") == 1
            page.until(lambda facts: "found" in facts)
            (found,) = page.facts["found"]
            assert found[5] == "disc" and found[:4] == pytest.approx(TRUTH[3], abs=0.01)
            page.done("add", box=found[:4], frame=3)
            page.done("step", count=1)
            page.until(lambda facts: facts["frame"] == 4)
            assert "found" not in page.facts and list(page.boxes(0)) == [3, 4]  # it is of another frame
            assert page.done("detect") == 0
            assert "the detector failed: RuntimeError: no memory" in page.ask("detect")["error"]
            page.done("step", count=1)
            page.until(lambda facts: facts["frame"] == 5)  # the tracker is unharmed


class Camera(http.server.BaseHTTPRequestHandler):
    """The JPEG stream of an IP camera that is unplugged after 40 frames."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for i in range(40):
            data = cv2.imencode(".jpg", SCENE.render(min(i // 4, COUNT - 1)))[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data))
            self.wfile.write(data + b"\r\n")
            time.sleep(0.03)

    def log_message(self, *args):
        pass


def test_a_camera_that_is_unplugged(page):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        page.done("open", kind="stream", address=f"http://127.0.0.1:{server.server_port}/live")
        page.until(lambda facts: facts["open"] and facts["playing"])
        assert page.facts["live"] and "no frames to go to" in page.ask("seek", frame=3)["error"]
        frame = page.facts["frame"]
        page.done("hold", frame=frame)  # it is drawn on while newer ones come
        drawn = page.facts["frame"]
        page.ask("add", box=TRUTH[min(frame // 4, COUNT - 1)], frame=frame)
        page.until(lambda facts: facts["problem"])
        assert (
            drawn >= frame and "was lost" in page.facts["problem"] and "boxes so far are kept" in page.facts["problem"]
        )
        assert page.rows and not page.facts["playing"]
        server.shutdown()
    page.done("open", kind="file", root=0, name="scene.mp4")  # and life goes on


# --- who may come in


def status(client, headers=None, path="/api/choices"):
    return client.get(path, headers=headers or {}, follow_redirects=False).status_code


def test_without_a_token_only_this_machine_and_this_page_are_answered(client):
    assert status(client) == 200
    assert status(client, {"host": "127.0.0.1:8765", "origin": "http://127.0.0.1:8765"}) == 200
    assert status(client, {"host": "evil.example"}) == 403  # a name that was turned to 127.0.0.1
    assert status(client, {"origin": "http://evil.example"}) == 403
    assert status(client, {"origin": "null"}) == 403
    assert status(client, {"host": "[127.0.0.1"}) == 403  # no address at all
    assert status(client, {"origin": "http://[::1"}) == 403
    assert status(client, {"origin": "http://127.0.0.1:9999"}) == 403  # another server of this machine
    assert status(client, {"sec-fetch-site": "cross-site"}) == 403
    assert status(client, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, "/") == 200  # a link
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")
    for headers in ({"origin": "http://evil.example"}, {"host": "evil.example"}):
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("ws://127.0.0.1/ws", headers=headers),
        ):
            pass
        assert refused.value.code == 1008


def test_a_token_is_wanted_once_and_then_kept(house):
    with TestClient(make_app(house, "open sesame"), base_url="http://robot.local") as client:
        for path in ("/", "/api/choices", "/static/app.js", "/?token=guess", "/api/choices?token=open+sesame"):
            assert status(client, path=path) == 403
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("ws://robot.local/ws"):
            pass
        assert status(client, {"authorization": "Bearer open sesame"}) == 200
        assert status(client, {"authorization": "Bearer open"}) == 403
        answer = client.get("/?token=open+sesame", follow_redirects=False)
        assert answer.status_code == 303 and "httponly" in answer.headers["set-cookie"].lower()
        assert status(client) == 200
        with client.websocket_connect("ws://robot.local/ws") as socket:
            Page(socket).read()
        assert status(client, {"origin": "http://evil.example"}) == 403


def test_only_what_lies_in_a_declared_folder_is_found(tmp_path):
    inside, outside = tmp_path / "films", tmp_path / "films-secret"
    for folder in (inside / "deep", outside):
        folder.mkdir(parents=True)
        (folder / "a.mp4").write_bytes(b"x")
    (inside / "link.mp4").symlink_to(outside / "a.mp4")
    (inside / ".hidden.mp4").touch()
    folders = access.Folders.of([inside])
    assert [one["name"] for one in folders.listing()] == ["deep/a.mp4"]
    assert folders.find(0, "deep/a.mp4") == inside / "deep" / "a.mp4"
    for name in ("../films-secret/a.mp4", str(outside / "a.mp4"), "link.mp4", "nothing.mp4", "a\0b", "/dev/video0"):
        with pytest.raises(PermissionError, match="is not in the folder"):
            folders.find(0, name)
    for root in (-1, 1):
        with pytest.raises(PermissionError, match="no such folder"):
            folders.find(root, "deep/a.mp4")
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        access.Folders.of([inside / "deep" / "a.mp4"])


def test_uploads(client, house, clip, page):
    good = clip.read_bytes()
    assert client.post("/api/upload?name=../../my%20clip.mp4", content=good).status_code == 200
    page.until(lambda facts: facts["title"].endswith("my clip.mp4"))
    (kept,) = house.folder.iterdir()
    assert kept.name == "000-my_clip.mp4" and kept.parent == house.folder

    def refused(name, content, said, **more):
        answer = client.post(f"/api/upload?name={name}", content=content, **more)
        assert answer.status_code == 400 and said in answer.json()["detail"], answer.text
        assert list(house.folder.iterdir()) == [kept]

    refused("a.exe", good, "not a video file")
    refused("a.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n" + bytes(100), "holds no video")
    refused("a.mp4", b"short", "holds no video")
    refused("big.mp4", bytes(3_000_000), "at most 2 MB")
    refused("big.mp4", (good[:1000] + bytes(99_000) for _ in range(30)), "was stopped at 2 MB")  # length not said
    refused("a.mp4", b"\x00\x00\x00\x18ftypmp42" + bytes(9000), "truncated beyond use")


def test_a_port_that_is_taken_is_told(capsys):
    listening = __import__("socket").create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    assert main(["serve", "--port", str(port)]) == 2
    assert f"port {port}" in capsys.readouterr().err
    assert main(["serve", "--port", "70000"]) == 2
    assert "must be in 0 .. 65535" in capsys.readouterr().err
    listening.close()


def test_uploads_never_fill_the_disk(tmp_path, monkeypatch):
    async def chunks():
        yield b"x"

    monkeypatch.setattr(access, "SPARE", 10**18)
    with pytest.raises(ValueError, match="no room"):
        asyncio.run(access.receive_upload(chunks(), 1, tmp_path, "a.mp4", 10**9))


def test_what_cannot_be_opened_leaves_what_is_open(clip, tracker, tmp_path):
    loaded = {"swift": tracker}
    session = Session(loaded.__getitem__, "none")
    with pytest.raises(ValueError, match="no weights are loaded"):
        session.do("open", source=str(clip)).result()
    assert not session.moment.facts["open"]
    session.do("weights", name="swift").result()
    session.do("open", source=str(clip)).result()
    session.do("add", box=list(TRUTH[0])).result()
    session.close()

    session = Session(lambda name: tracker, labels=tmp_path / "labels")
    session.do("open", source=str(clip)).result()
    session.do("add", box=list(TRUTH[0])).result()
    other = write_film(tmp_path / "other.mp4", [SCENE.render(0)] * 3, 25, SCENE.size)
    with pytest.raises(DataError, match=r"labels\.json is of scene\.mp4"):
        session.do("open", source=str(other)).result()
    session.do("seek", frame=3).result()
    assert session.moment.facts["title"] == "scene.mp4" and session.moment.facts["ids"] == [0]
    session.close()


# --- labels


def test_labelling_over_the_same_socket(clip, tracker, tmp_path):
    session = Session(lambda name: tracker, labels=tmp_path / "labels")
    with open_house(session, access.Folders(()), most=0, mode="label") as house:
        session.do("open", source=str(clip)).result()
        with TestClient(make_app(house), base_url=HERE) as client, client.websocket_connect("ws://127.0.0.1/ws") as ws:
            assert client.get("/api/choices").json()["mode"] == "label"
            page = Page(ws)
            assert page.done("add", box=TRUTH[0]) == 0
            page.until(lambda facts: facts.get("ids") == [0] and not facts["proposing"])
            assert iou(list(page.boxes(0).values()), TRUTH).mean() > 0.6  # without a press on play
            page.done("seek", frame=9)
            page.done("gone", id=0)
            page.until(lambda facts: facts["gone"]["0"] == [9] and not facts["proposing"])
            assert list(page.boxes(0)) == list(range(9))
            page.done("rename", id=0, name="ball")
            assert all(page.done("undo") for _ in range(3))
            assert page.done("undo") is False
            page.until(lambda facts: not facts["ids"])
            page.done("add", box=TRUTH[9])
            folder = page.done("write", layout="mot")
            assert len((tmp_path / "labels/mot/scene/gt/gt.txt").read_text().splitlines()) == COUNT
            assert folder == str(tmp_path / "labels/mot")
            assert "no layout 'exe'" in page.ask("write", layout="exe")["error"]


def test_a_page_that_follows_does_not_label(page):
    page.done("open", kind="file", root=0, name="scene.mp4")
    assert "siamtrack label" in page.ask("undo")["error"]
