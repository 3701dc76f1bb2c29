"""The page in a real browser: open the sample, draw, watch it move, lose it, find it, take the boxes along."""

import csv
import re
import shutil
import signal
import subprocess
import sys

import pytest
from yolo_graph import write_yolo

from siamtrack import sample
from tracker.geometry import iou

sync_api = pytest.importorskip("playwright.sync_api")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 60_000  # ms, for a machine that is busy
LAST = (382, 3, 100, 187)  # where the cyclist is in the last frame, set by eye
GREEN = """canvas => {
  const { width, height } = canvas, found = [];
  const data = canvas.getContext("2d").getImageData(0, 0, width, height).data;
  const off = i => Math.abs(data[i] - 63) + Math.abs(data[i + 1] - 208) + Math.abs(data[i + 2] - 164);
  for (let i = 0; i < data.length; i += 4) if (off(i) < 20) found.push(i / 4 % width);
  found.sort((a, b) => a - b);
  return { count: found.length, left: found[Math.floor(found.length / 20)] / width };
}"""  # the colour of the first target's box

pytestmark = pytest.mark.skipif(not BROWSER, reason="no Chromium here")


@pytest.fixture
def address(tmp_path):
    x, y, w, h = sample("street").box
    scale, bar = 64 / 640, (64 - 272 * 64 / 640) / 2  # into an input of 64 x 64
    cyclist = ((x + w / 2) * scale, (y + h / 2) * scale + bar, w * scale, h * scale)
    detector = write_yolo(tmp_path / "yolo.onnx", [cyclist], names=("cyclist",))
    command = [
        sys.executable,
        "-m",
        "siamtrack",
        "serve",
        "--port",
        "0",
        "--device",
        "cpu",
        "--detector",
        str(detector),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield re.search(r"http://\S+", server.stdout.readline())[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=60) == 0


@pytest.fixture
def browser():
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


def on_screen(page, x, y):
    """A place in the sample's frame, as a place on the screen."""
    box = page.locator("#view").bounding_box()
    scale = min(box["width"] / 640, box["height"] / 272)
    return (
        box["x"] + (box["width"] - 640 * scale) / 2 + x * scale,
        box["y"] + (box["height"] - 272 * scale) / 2 + y * scale,
    )


def watched(context, address):
    page = context.new_page()
    page.set_default_timeout(WAIT)
    page.troubles = []
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("console", lambda message: page.troubles.append(message.text) if message.type == "error" else None)
    page.goto(address)
    return page


def test_from_the_sample_to_its_boxes_and_on_a_phone(address, browser, tmp_path):
    clip = sample("street")
    page = watched(browser.new_context(viewport={"width": 1280, "height": 800}), address)
    page.click("#try")
    page.wait_for_selector("#title:text-is('sample: street')")
    page.wait_for_selector("#hint:not([hidden])")  # asks for a box

    x, y, w, h = clip.box
    page.mouse.move(*on_screen(page, x, y))
    page.mouse.down()
    page.mouse.move(*on_screen(page, x + w / 2, y + h / 2))
    page.mouse.move(*on_screen(page, x + w, y + h))
    page.mouse.up()
    page.wait_for_selector(".state.tracking")
    first = page.locator("#view").evaluate(GREEN)
    assert first["count"] > 500 and abs(first["left"] - x / 640) < 0.02

    page.select_option("#speed", "0")
    page.click("#play")
    page.wait_for_selector("#clock:has-text('frame 136')")
    page.wait_for_selector(".events a")
    assert page.inner_text(".events").startswith("lost 0:03.")  # while the van hides him
    assert page.inner_text(".target .state") == "tracking"  # and found again
    last = page.locator("#view").evaluate(GREEN)
    assert last["count"] > 500 and last["left"] < first["left"] - 0.01

    with page.expect_download() as download:
        page.click("#get-csv")
    download.value.save_as(tmp_path / "boxes.csv")
    with (tmp_path / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["frame"]) for row in rows] == list(range(clip.start, clip.stop))
    assert [float(rows[0][k]) for k in "xywh"] == pytest.approx(clip.box, abs=1.5)
    assert iou([[float(rows[-1][k]) for k in "xywh"]], [LAST])[0] > 0.7
    assert "lost" in {row["state"] for row in rows}
    page.click(".events a")  # goes to where he was lost
    page.wait_for_selector(".state.lost")
    assert not page.troubles

    phone = watched(
        browser.new_context(viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True), address
    )
    phone.wait_for_selector(".target")  # the same session
    assert phone.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for width, height in ((320, 568), (844, 390), (390, 780)):
        phone.set_viewport_size({"width": width, "height": height})
        places = {name: phone.locator(name).bounding_box() for name in ("#link", "#open", "#speed", "#view", "#play")}
        assert all(place["x"] >= 0 and place["x"] + place["width"] <= width for place in places.values())
        assert places["#play"]["y"] + places["#play"]["height"] <= height  # with no scrolling
        assert height < width or places["#view"]["height"] < places["#view"]["width"] / 2  # of the shape of the video
    touch = phone.context.new_cdp_session(phone)
    for kind, places in (
        ("touchStart", [(20, 150)]),
        ("touchMove", [(50, 180)]),
        ("touchMove", [(90, 240)]),
        ("touchEnd", []),
    ):
        points = [dict(zip("xy", on_screen(phone, *place), strict=True)) for place in places]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    phone.wait_for_selector(".target:nth-child(2) .state.tracking")
    page.wait_for_selector(".target:nth-child(2)")
    assert not phone.troubles

    page.click("#open")  # opened anew, he is detected and tapped
    page.click("#try")
    page.wait_for_selector(".target", state="detached")
    page.click("#detect")
    page.wait_for_selector("#toasts:has-text('1 object found')")
    page.mouse.click(*on_screen(page, x + w / 2, y + h / 2))
    page.wait_for_selector(".target .state.tracking")
    assert abs(page.locator("#view").evaluate(GREEN)["left"] - x / 640) < 0.02
    assert not page.troubles
