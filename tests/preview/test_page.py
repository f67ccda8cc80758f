"""The page in a real browser: Debian's Chromium, without a screen."""

from __future__ import annotations

import base64
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests import PATIENCE
from tests.test_readme import README

from .conftest import CLIP

sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")

README_IMAGE = README.with_name("examples") / "preview.jpg"
COMMAND = (sys.executable, "-c", "from vsr_plugin.cli import main_preview; main_preview()")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def serving(*words: str, code: int = 130) -> Iterator[str]:
    """Where a preview is served, until it is ended or ends by itself with this exit code."""
    how = ("--serve", *(() if "--port" in words else ("--port", "0")), "--device", "cpu", "--backend", "eager")
    server = subprocess.Popen((*COMMAND, *words, *how), stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        yield next(line.strip() for line in server.stderr if line.startswith("http"))
        if code == 130:
            server.terminate()
        assert server.wait(PATIENCE) == code
    finally:
        server.kill()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(str(CLIP), "-m", "espcn", "-x", "2", "--loop") as url:
        yield url


def until(page: Any, condition: str) -> None:
    """Wait for it; Playwright's own way evaluates strings in the page, which our pages forbid."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"it never came true: {condition}"
        page.wait_for_timeout(50)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on the path")
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()


class Page:
    """One viewer; whatever the browser complains of fails the test."""

    def __init__(self, browser: Any, address: str, width: int = 1280, height: int = 900, **how: Any) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **how)
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.complaints: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(address)
        self.until("document.getElementById('canvas').width > 300")

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def position(self) -> float:
        minutes, seconds = self.page.inner_text("#clock").split(" / ")[0].split(":")
        return 60 * float(minutes) + float(seconds)

    def until(self, condition: str) -> None:
        """Wait for it."""
        until(self.page, condition)

    def until_moved(self) -> None:
        """Wait for another moment of the clip."""
        before, end = self.position(), time.monotonic() + PATIENCE
        while self.position() == before:
            assert time.monotonic() < end, "it stands still"
            self.page.wait_for_timeout(50)

    def until_still(self) -> None:
        """Wait until nothing comes any more, however late it does."""
        end, before = time.monotonic() + PATIENCE, -1.0
        while self.position() != before:
            assert time.monotonic() < end, "it never stands still"
            before = self.position()
            self.page.wait_for_timeout(800)

    def pixels(self) -> np.ndarray[Any, Any]:
        """What the canvas holds, (H, W, 3)."""
        address = self.page.evaluate("document.getElementById('canvas').toDataURL()")
        data = base64.b64decode(address.partition(",")[2])
        return _there(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


def moment(page: Page) -> list[np.ndarray[Any, Any]]:
    """What is shown, without loss: bicubic, network."""
    data, parts = page.context.request.get(f"{page.page.url}moment").body(), []
    while data:
        end = 4 + struct.unpack_from(">I", data)[0]
        parts.append(data[4:end])
        data = data[end:]
    return [_there(cv2.imdecode(np.frombuffer(part, np.uint8), cv2.IMREAD_COLOR)) for part in parts[1:]]


def _there(image: np.ndarray[Any, Any] | None) -> np.ndarray[Any, Any]:
    assert image is not None
    return image


def pause(page: Page, *, paused: bool = True) -> None:
    sign = "▶" if paused else "❚❚"
    if page.page.inner_text("#pause") != sign:
        page.page.click("#pause")
    page.until(f"document.getElementById('pause').textContent === '{sign}'")
    if paused:
        page.until_still()


def test_the_page_plays_splits_pauses_and_jumps(browser: Any, address: str) -> None:
    page = Page(browser, address)
    pause(page, paused=False)
    page.until_moved()

    pause(page)
    still = page.position()
    page.page.wait_for_timeout(500)
    assert page.position() == still
    bicubic, network = (version.astype(int) for version in moment(page))
    box = page.page.locator("#canvas").bounding_box()
    for part in (0.25, 0.75):
        page.page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 200)
        page.page.mouse.down()
        page.page.mouse.move(box["x"] + part * box["width"], box["y"] + 200)
        page.page.mouse.up()
        seen, column = page.pixels().astype(int), round(part * bicubic.shape[1])
        expected = np.concatenate([bicubic[:, :column], network[:, column:]], 1)
        other = np.concatenate([network[:, :column], bicubic[:, column:]], 1)
        assert np.abs(seen - expected).mean() < 2.5  # it came as JPEG
        assert np.abs(seen - expected).mean() < 0.8 * np.abs(seen - other).mean()

    page.page.locator("#time").fill("2")
    assert page.page.input_value("#time") == "2", "it does not go back"
    page.until("document.getElementById('clock').textContent.startsWith('0:02.0')")
    for _ in range(3):  # keys do with the time bar what they do elsewhere
        page.page.keyboard.press("ArrowUp")
    page.until("document.getElementById('clock').textContent.startsWith('0:02.1')")
    page.page.keyboard.press("l")
    page.page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.until("!document.getElementById('loupe').hidden")
    page.page.keyboard.press("v")
    assert page.page.input_value("#view") == "network"
    page.page.keyboard.press("?")
    assert "full screen" in page.page.inner_text("#keys")
    page.page.click("#keys")
    assert page.page.locator("#keys").is_hidden()
    page.page.select_option("#model", "fsrcnn")
    page.until("document.getElementById('model-line').textContent.startsWith('fsrcnn ×2')")
    page.page.select_option("#scale", "3")
    page.until("document.getElementById('canvas').width === 1440")
    page.page.select_option("#scale", "2")
    page.until("document.getElementById('canvas').width === 960")
    page.close()


def test_the_time_bar_follows_again_after_a_drag_that_goes_nowhere(browser: Any, address: str) -> None:
    page = Page(browser, address)
    pause(page)
    box = page.page.locator("#time").bounding_box()
    y = box["y"] + box["height"] / 2
    page.page.locator("#time").fill("1")
    page.until("document.getElementById('clock').textContent.startsWith('0:01.0')")
    x = box["x"] + 8 + (box["width"] - 16) / 3  # where the handle is
    page.page.mouse.move(x, y)
    assert page.page.inner_text("#at") == "0:01.00", "the time at the mouse"
    assert abs(_middle(page.page.locator("#at").bounding_box()) - x) < 1
    page.page.mouse.down()
    page.page.mouse.move(x + 50, y)
    page.page.mouse.move(x, y)
    page.page.mouse.up()
    page.page.keyboard.press("ArrowRight")  # five seconds on, which is the end
    page.until("+document.getElementById('time').value > 2.5")
    page.close()


def _middle(box: dict[str, float]) -> float:
    return box["x"] + box["width"] / 2


def test_everything_can_be_done_by_keyboard(browser: Any, address: str) -> None:
    page = Page(browser, address)
    focus = "document.activeElement.id"
    page.page.focus("#view")
    for _ in range(2):
        page.page.keyboard.press("ArrowDown")
        assert page.page.evaluate(focus) == "view"
    assert page.page.input_value("#view") == "difference"
    page.page.select_option("#view", "split")
    pause(page)
    page.page.focus("#time")
    page.page.keyboard.press("ArrowLeft")
    page.until("document.getElementById('clock').textContent.startsWith('0:00.00')")
    page.page.keyboard.press(".")
    page.until("document.getElementById('clock').textContent.startsWith('0:00.03')")
    assert page.page.evaluate(focus) == "time"
    page.page.focus("#line")
    for key, value in (("Home", 0), ("PageUp", 10), ("ArrowRight", 12), ("ArrowDown", 10), ("End", 100)):
        page.page.keyboard.press(key)
        assert page.page.get_attribute("#line", "aria-valuenow") == str(value)
    page.page.keyboard.press("?")
    assert page.page.locator("#keys").is_visible()
    page.page.keyboard.press("Escape")
    assert page.page.locator("#keys").is_hidden()
    page.close()


def test_a_frame_is_seen_pixel_for_pixel_and_dragged_while_the_line_stays(browser: Any, address: str) -> None:
    page = Page(browser, address, 800, 600)
    pause(page)
    page.page.keyboard.press("v")
    whole = page.pixels()
    page.until("document.getElementById('model-line').textContent.includes('960×540, shown at 5')")
    page.page.keyboard.press("z")
    stage, canvas = (page.page.locator(which).bounding_box() for which in ("#stage", "#canvas"))
    seen = page.pixels()
    height, width = seen.shape[:2]
    assert (canvas["width"], canvas["height"]) == (width, height)
    assert (width, height) == (int(stage["width"]), int(stage["height"]))
    left, top = (960 - width) // 2, (540 - height) // 2

    def shows(left: int, top: int) -> bool:
        seen = page.pixels()
        near = [(x, y) for x in (left, left + 1) for y in (top, top + 1)]
        return any((seen == whole[y : y + height, x : x + width]).all() for x, y in near)

    assert shows(left, top), "the middle"
    x, y = stage["x"] + 100, stage["y"] + 60

    def drag(across: float, down: float) -> None:
        page.page.mouse.move(x, y)
        page.page.mouse.down()
        page.page.mouse.move(x + across, y + down)
        page.page.mouse.up()

    drag(-30, -10)
    assert shows(left + 30, top + 10)
    drag(-2000, 0)
    assert shows(959 - width, top + 10), "no farther than its edge"
    page.until("document.getElementById('model-line').textContent.includes('shown at 100 %')")
    for _ in range(2):
        page.page.keyboard.press("v")
    assert page.page.input_value("#view") == "side by side"
    both = page.pixels()
    half = both.shape[1] // 2
    assert abs(both[:, :half].astype(int) - both[:, half:]).mean() < 8, "the same part of both"
    page.page.keyboard.press("v")
    handle = page.page.locator("#line b").bounding_box()
    assert stage["x"] < handle["x"] < stage["x"] + stage["width"], "the line is there"
    page.page.mouse.move(handle["x"] + 16, handle["y"] + 16)
    page.page.mouse.down()
    page.page.mouse.move(stage["x"] + 0.6 * stage["width"], handle["y"] + 16)
    page.page.mouse.up()
    assert page.page.get_attribute("#line", "aria-valuenow") == "60"
    drag(2000, 2000)
    assert page.page.get_attribute("#line", "aria-valuenow") == "60", "at the other edge of the frame"
    page.page.keyboard.press("z")
    assert page.page.locator("#canvas").bounding_box()["width"] <= stage["width"]
    page.close()


def test_what_is_written_says_what_is_seen(browser: Any, address: str) -> None:
    page = Page(browser, address, permissions=["clipboard-read", "clipboard-write"])
    pause(page)
    tags = "['left', 'right'].map((id) => document.getElementById(id).textContent).join()"
    page.page.select_option("#model", "espcn")
    page.page.keyboard.press("b")
    page.until(f"{tags} === 'Lanczos,espcn'")
    page.page.select_option("#model", "fsrcnn")
    seen = set()
    end = time.monotonic() + 90
    while "Lanczos,fsrcnn" not in seen and time.monotonic() < end:
        seen.add(page.page.evaluate(tags))
        assert page.page.input_value("#model") == "fsrcnn", "it does not go back while the network is opened"
    assert "Lanczos,fsrcnn" in seen
    assert seen <= {"Lanczos,espcn", "Lanczos,Lanczos", "Lanczos,fsrcnn"}
    page.page.click("#copy")
    page.until("document.getElementById('message').textContent.startsWith('copied: vsr-encode ')")
    command = page.page.evaluate("navigator.clipboard.readText()")
    assert command == f"vsr-encode {CLIP} -m fsrcnn -x 2 --backend eager --device cpu"
    page.page.keyboard.press("l")
    box = page.page.locator("#canvas").bounding_box()
    page.page.mouse.move(box["x"] + 100, box["y"] + 100)
    loupe = page.page.locator("#loupe").bounding_box()
    assert loupe["width"] == pytest.approx(2 * 400 + 2 + 4, abs=2), "100 samples of each, four times as large"
    for key in ("]", "]", "]", "[", "[", "[", "["):
        page.page.keyboard.press(key)
        assert page.page.locator("#loupe").bounding_box()["width"] == pytest.approx(loupe["width"], abs=32)
    page.page.select_option("#model", "espcn")
    page.page.keyboard.press("b")
    page.until(f"{tags} === 'bicubic,espcn'")
    page.close()


def test_a_wrong_token_is_a_page_of_the_same_design(browser: Any) -> None:
    with serving(str(CLIP), "-x", "2", "--loop", "--host", "0.0.0.0") as url:
        context = browser.new_context(color_scheme="light")
        page = context.new_page()
        page.goto(url.replace("token=", "token=not"))
        assert "Open the address" in page.inner_text("main")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(245, 246, 248)"
        context.close()


def test_a_preview_that_was_started_anew_is_said(browser: Any, tmp_path: Path) -> None:
    """Its page has another token."""
    with serving(str(CLIP), "-x", "2", "--loop", "--host", "0.0.0.0") as url:
        page = Page(browser, url)
        port = url.split(":")[2].split("/")[0]
    with serving(str(CLIP), "-x", "2", "--loop", "--host", "0.0.0.0", "--port", port):
        page.until("document.getElementById('message').textContent.includes('open the address that it printed')")
    page.context.close()  # a browser complains of every connection that is refused


def test_both_images_are_saved_without_loss(browser: Any, address: str) -> None:
    page = Page(browser, address)
    pause(page)
    _, network = moment(page)
    names = []
    with tempfile.TemporaryDirectory() as folder:
        page.page.on("download", lambda download: names.append(download))
        with page.page.expect_download(lambda download: "bicubic" not in download.suggested_filename) as last:
            page.page.click("#save")
            page.until("document.getElementById('message').textContent.startsWith('saved ')")
            said = page.page.inner_text("#message")
        file = Path(folder) / "n.png"
        last.value.save_as(file)
        assert np.array_equal(_there(cv2.imread(str(file))), network)
    # The page names what all see first; the browser may tell of the two files in any order.
    one, other = sorted((name.suggested_filename for name in names), key=lambda name: "bicubic" not in name)
    assert said == f"saved {one}, {other}"
    assert len(names) == 2
    page.close()


def test_two_browsers_look_at_once_and_one_may_die(browser: Any, address: str) -> None:
    first, second = (
        Page(browser, address, 1280, 720),
        Page(browser, address, 390, 844, color_scheme="light", has_touch=True),
    )
    pause(first, paused=False)
    for page in (first, second):
        page.until("document.getElementById('viewers').textContent.startsWith('2 viewers share')")
        page.until("parseFloat(document.getElementById('here').textContent) > 0")
    assert second.page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing sticks out on a telephone"
    assert first.page.evaluate("document.documentElement.scrollHeight") <= 720, "all can be seen at once"
    second.page.touchscreen.tap(100, 120)
    first.context.close()
    second.until_moved()
    pause(second)
    second.close()


def test_what_ends_it_is_said_and_stays(browser: Any, tmp_path: Path) -> None:
    film = tmp_path / "film.h264"
    for size, seconds in (("320x180", 6), ("160x90", 1)):
        part = tmp_path / f"{size}.h264"
        source = ("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d={seconds}", "-c:v", "libx264", "-preset", "ultrafast")
        subprocess.run(("ffmpeg", "-v", "error", *source, str(part)), check=True, timeout=PATIENCE)
        with film.open("ab") as whole:
            whole.write(part.read_bytes())
    with serving(str(film), "-x", "2", code=1) as url:
        page = Page(browser, url)
        page.until("document.getElementById('message').textContent.includes('changes its size from 320×180')")
        page.page.wait_for_timeout(2500)
        assert "changes its size" in page.page.inner_text("#message")
        page.close()


def test_a_tall_image_is_split_where_the_line_stands(browser: Any, tmp_path: Path) -> None:
    """Pixels are not square, and the image is higher than the screen."""
    film = tmp_path / "film.mkv"
    source = ("-f", "lavfi", "-i", "testsrc2=s=240x320:r=25:d=2,setsar=4/5", "-c:v", "ffv1")
    subprocess.run(("ffmpeg", "-v", "error", *source, str(film)), check=True, timeout=PATIENCE)
    with serving(str(film), "-x", "2", "--loop") as url:
        page = Page(browser, url)
        box = page.page.locator("#canvas").bounding_box()
        assert box["height"] <= 900
        assert box["width"] / box["height"] == pytest.approx(240 * 4 / 5 / 320, rel=0.01)
        line = page.page.locator("#line").bounding_box()
        assert line["x"] + line["width"] / 2 == pytest.approx(box["x"] + box["width"] / 2, abs=1)
        page.close()


def test_the_readmes_image_is_the_page(browser: Any, tmp_path: Path) -> None:
    """Set VSR_IMAGES to write it anew."""
    image = README_IMAGE if os.environ.get("VSR_IMAGES") else tmp_path / "preview.jpg"
    with serving(str(CLIP), "-m", "espcn", "-x", "3", "--loop") as url:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        until(page, "document.getElementById('canvas').height === 810")
        page.locator("#pause").click()
        page.wait_for_timeout(1500)
        shot = page.screenshot(clip={"x": 0, "y": 0, "width": 1280, "height": 672})  # without the times of this machine
        Image.open(BytesIO(shot)).convert("RGB").save(image, quality=85, optimize=True)
        page.close()
    with Image.open(image) as new, Image.open(README_IMAGE) as old:
        assert new.size == old.size
    assert "(examples/preview.jpg)" in README.read_text(encoding="utf-8")
