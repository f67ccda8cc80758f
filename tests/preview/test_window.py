"""The window as its user meets it: a real one, on a virtual screen, with a keyboard and a mouse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests import PATIENCE
from tests.stream.conftest import Media
from vsr_plugin.errors import BackendError, OutputError
from vsr_plugin.preview import VIEWS, DisplayedFrame, Status
from vsr_plugin.preview.canvas import BAR, GROUND, LEAST_WIDTH, STRIP
from vsr_plugin.preview.networks import Networks
from vsr_plugin.preview.viewer import Viewer
from vsr_plugin.preview.window import Window, check_display, save

from .conftest import CLIP, Play, network_frame

COMMAND = (sys.executable, "-c", "from vsr_plugin.cli import main_preview; main_preview()")
WIDTH, HEIGHT = 960, 540  # of examples/clip.mp4 ×2


# Without a window manager, Qt sometimes leaves a window black for ever. This one adds nothing to it.
OPENBOX = """<openbox_config xmlns="http://openbox.org/3.4/rc"><theme><keepBorder>no</keepBorder></theme>
<applications><application class="*"><decor>no</decor><position force="yes"><x>0</x><y>0</y></position></application>
</applications><keyboard><keybind key="A-F4"><action name="Close"/></keybind></keyboard></openbox_config>
"""


@pytest.fixture
def display(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A screen of its own with a window manager: a key that is down when its window closes stays down for the next."""
    for program in ("Xvfb", "openbox", "xdotool", "ffmpeg"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on the path")
    reading, writing = os.pipe()
    command = ("Xvfb", "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset")
    server = subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        name = f":{pipe.readline().strip()}"
    config = tmp_path_factory.mktemp("openbox") / "rc.xml"
    config.write_text(OPENBOX)
    manager = subprocess.Popen(
        ("openbox", "--config-file", str(config)), env={**os.environ, "DISPLAY": name}, stderr=subprocess.DEVNULL
    )
    yield name
    for process in (manager, server):
        process.terminate()
        process.wait(PATIENCE)


def read(file: Path) -> np.ndarray[Any, Any]:
    image = cv2.imread(str(file))
    assert image is not None
    return image


class Screen:
    """A window on a display, and what its user does.

    Args:
        display: Where.
        folder: The working folder of the program.
    """

    def __init__(self, display: str, folder: Path, *words: str) -> None:
        self.environment = {**os.environ, "DISPLAY": display}
        self.display, self.folder = display, folder
        self.process = subprocess.Popen(
            (*COMMAND, *words), env=self.environment, cwd=folder, stderr=subprocess.PIPE, text=True
        )

    def open(self) -> None:
        """Wait for the first image."""
        self.until(lambda: self.do("search", "--name", "vsr preview").stdout.split() != [])
        self.window = self.do("search", "--name", "vsr preview").stdout.split()[-1]
        self.until(lambda: self.image()[:HEIGHT, :WIDTH].std() > 20)

    def do(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ("xdotool", *words), env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def key(self, name: str) -> None:
        self.do("key", "--window", self.window, name)
        time.sleep(0.3)

    def image(self) -> np.ndarray[Any, Any]:
        """All that is on the screen."""
        grab = ("ffmpeg", "-v", "error", "-f", "x11grab", "-draw_mouse", "0", "-video_size", "1280x1024")
        output = ("-i", self.display, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "bgr24", "-")
        data = subprocess.run(
            (*grab, *output), stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=PATIENCE
        ).stdout
        return np.frombuffer(data, np.uint8).reshape(1024, 1280, 3)

    def until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not true():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.1)

    def saved(self, pattern: str) -> Path:
        """The newest file that a press of `s` wrote; as long as the network is not there, there is none of it."""
        before = set(self.folder.glob(pattern))

        def after_a_press() -> set[Path]:
            self.key("s")
            return set(self.folder.glob(pattern)) - before

        self.until(after_a_press)
        return max(self.folder.glob(pattern), key=lambda file: file.stat().st_mtime_ns)

    def ended(self) -> None:
        """Nothing of it is left: no window, and no other process."""
        assert self.do("search", "--name", "vsr preview").stdout.split() == []
        children = subprocess.run(
            ("ps", "--ppid", str(self.process.pid), "-o", "args="), capture_output=True, text=True, check=False
        )
        assert children.stdout == ""

    def split(self) -> int:
        """The column where the white line stands."""
        rows = self.image()[100:500, :WIDTH].astype(int)
        return int(rows.min((0, 2)).argmax())


@pytest.fixture
def screen(display: str, tmp_path: Path) -> Iterator[Screen]:
    words = ("--model", "espcn", "-x", "2", "--start", "1", "--loop", "--backend", "eager", "--device", "cpu")
    found = Screen(display, tmp_path, str(CLIP), *words)
    try:
        found.open()
        yield found
    finally:
        found.process.kill()
        found.process.wait()


def test_what_is_seen_is_bicubic_and_the_network_and_everything_obeys(screen: Screen, tmp_path: Path) -> None:
    screen.key("space")
    file = screen.saved("*_espcn.png")  # the second of the two
    network, bicubic = read(file), read(tmp_path / file.name.replace("espcn", "bicubic"))
    middle = WIDTH // 2

    def both() -> bool:
        """Whether the screen, which a slow machine draws late, shows what was saved, each on its side."""
        seen = screen.image()[40:HEIGHT, :WIDTH].astype(int)
        left = np.abs(seen[:, : middle - 18] - bicubic[40:, : middle - 18]).max()
        return bool(max(left, np.abs(seen[:, middle + 18 :] - network[40:, middle + 18 :]).max()) <= 1)

    screen.until(both)
    assert screen.split() == pytest.approx(middle, abs=1)
    assert np.abs(bicubic.astype(int) - network).max() > 20

    screen.do("mousemove", "--window", screen.window, "480", "300", "mousedown", "1")
    screen.do("mousemove", "--window", screen.window, "240", "300")
    screen.until(lambda: abs(screen.split() - 240) <= 1)
    screen.do("mouseup", "1")

    screen.key("v")
    screen.until(lambda: bool((screen.image()[40:HEIGHT, :WIDTH] == network[40:]).all()))
    screen.key("v")  # difference, which is mostly gray
    screen.until(lambda: abs(np.median(screen.image()[:HEIGHT, :WIDTH]) - 128) <= 8)
    screen.key("v")
    screen.key("v")

    screen.key("question")
    screen.until(lambda: screen.image()[40:330, 200:400].mean() < 70)
    screen.key("question")

    screen.key(str(1 + Networks().models(2).index("fsrcnn")))

    assert read(screen.saved("*_fsrcnn*.png")).shape == (HEIGHT, WIDTH, 3)

    screen.do(
        "mousemove", "--window", screen.window, "640", str(HEIGHT + 6), "click", "1"
    )  # of three seconds, the second

    def position() -> float:
        return float(screen.saved("*_fsrcnn*.png").stem.split("_")[1])

    screen.until(lambda: position() == pytest.approx(2.0, abs=0.04))

    screen.key("q")
    assert screen.process.wait(PATIENCE) == 0
    screen.ended()


def test_every_other_key_does_what_is_said_of_it(screen: Screen) -> None:
    def size() -> str:
        return screen.do("getwindowgeometry", screen.window).stdout.split("Geometry: ")[1].strip()

    def position() -> float:
        return float(screen.saved("*_espcn*.png").stem.split("_")[1])

    screen.key("space")
    here = position()
    screen.key("Up")
    screen.until(lambda: position() == pytest.approx(here + 1 / 30, abs=0.002))
    screen.key("comma")
    screen.until(lambda: position() == pytest.approx(here, abs=0.002))
    screen.key("Left")  # five seconds back, of one
    screen.until(lambda: position() == 0)

    corner = screen.image()[HEIGHT - 175 : HEIGHT - 20, 20:470].copy()
    screen.do("mousemove", "--window", screen.window, "900", "60")  # which the loupe keeps away from
    screen.key("l")
    screen.until(lambda: bool((screen.image()[HEIGHT - 175 : HEIGHT - 20, 20:470] != corner).mean() > 0.5))
    screen.key("l")
    screen.until(lambda: bool((screen.image()[HEIGHT - 175 : HEIGHT - 20, 20:470] == corner).all()))

    assert size() == f"{WIDTH}x{HEIGHT + STRIP}"
    screen.key("i")
    screen.until(lambda: size() == f"{WIDTH}x{HEIGHT + BAR}")
    screen.key("i")
    screen.key("f")
    screen.until(lambda: size() == "1280x1024")
    # All of it is ours: the image as large as it can be, in the dark.
    screen.until(lambda: bool((screen.image()[5, ::100] == GROUND).all()))
    screen.until(lambda: screen.image()[300:600, 5:1275].std() > 20)
    screen.key("Escape")
    screen.until(lambda: size() == f"{WIDTH}x{HEIGHT + STRIP}")
    screen.key("Escape")  # which does not quit
    screen.do("windowsize", screen.window, "500", "700")
    screen.until(lambda: bool((screen.image()[[2, 600], 5:495] == GROUND).all()))
    screen.until(lambda: screen.image()[250:400, 5:495].std() > 20)
    screen.key("c")
    screen.key("plus")
    screen.until(lambda: read(screen.saved("*_espcn*.png")).shape == (810, 1440, 3))
    screen.key("minus")
    screen.until(lambda: read(screen.saved("*_espcn*.png")).shape == (HEIGHT, WIDTH, 3))


def test_the_wheel_turns_the_loupe_and_nothing_else(screen: Screen) -> None:
    """OpenCV would zoom the whole window, too, until nothing is left of the bar below."""
    screen.key("space")
    screen.saved("*_espcn*.png")
    screen.do("mousemove", "--window", screen.window, "900", "60")

    def loupe() -> np.ndarray[Any, Any]:
        return screen.image()[HEIGHT - 175 : HEIGHT - 20, 20:470].copy()

    corner = loupe()
    screen.key("l")
    screen.until(lambda: bool((loupe() != corner).mean() > 0.5))
    small, beside = loupe(), screen.image()[100:300, 500:950].copy()
    screen.do("click", "4")
    screen.do("click", "4")
    screen.until(lambda: bool((loupe() != small).mean() > 0.3))
    screen.until(lambda: np.array_equal(screen.image()[100:300, 500:950], beside))
    screen.do("click", "5")
    screen.do("click", "5")
    screen.until(lambda: np.array_equal(loupe(), small))


def test_closing_by_ctrl_c_leaves_nothing(screen: Screen) -> None:
    screen.process.send_signal(signal.SIGINT)
    assert screen.process.wait(PATIENCE) == 130
    screen.ended()


def test_closing_the_window_is_quitting(screen: Screen) -> None:
    screen.do("key", "--window", screen.window, "space")  # which has the keyboard now
    end = time.monotonic() + 60
    while screen.process.poll() is None and time.monotonic() < end:
        screen.do("key", "alt+F4")
        time.sleep(0.5)
    _, said = screen.process.communicate(timeout=PATIENCE)
    assert screen.process.returncode == 0, said
    assert "Error" not in said


def test_a_window_is_not_larger_than_the_screen(display: str, tmp_path: Path) -> None:
    screen = Screen(display, tmp_path, str(CLIP), "-x", "3", "--backend", "eager", "--device", "cpu")
    try:
        screen.until(lambda: screen.do("search", "--name", "vsr preview").stdout.split() != [])
        window = screen.do("search", "--name", "vsr preview").stdout.split()[-1]
        expected = f"{round(0.9 * 1280)}x{round(0.9 * 1280 / 1440 * 810) + STRIP}"
        screen.until(lambda: expected in screen.do("getwindowgeometry", window).stdout)
    finally:
        screen.process.kill()
        screen.process.wait()


def test_without_a_display_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for display in ("", ":987", "nonsense", "localhost:987.0"):
        monkeypatch.setenv("DISPLAY", display)
        with pytest.raises(BackendError, match="Expected a display for the window, got none: use serve=True"):
            check_display()


def test_opencv_comes_before_pyav_or_it_is_said(display: str) -> None:
    program = "import av; from vsr_plugin.preview.window import check_display; check_display()"
    environment = {**os.environ, "DISPLAY": display}
    done = subprocess.run((sys.executable, "-c", program), env=environment, capture_output=True, text=True, check=False)
    assert "BackendError: Expected cv2 imported before av, got av first" in done.stderr


def test_the_bench_opens_a_window(display: str) -> None:
    program = "from vsr_plugin.cli import main; main()"
    words = ("bench", "preview", "espcn", "-x", "2", "--size", "96x64", "--runs", "1", "--json")
    environment = {**os.environ, "DISPLAY": display}
    done = subprocess.run(
        (sys.executable, "-c", program, *words),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ours, dnn = json.loads(done.stdout)
    assert ours["where"] == dnn["where"] == "a window"
    assert ours["source_fps"] == dnn["source_fps"] == 24
    assert ours["frame_ms"] > 0


def test_what_cannot_be_saved_is_said_below_the_image(screen: Screen, tmp_path: Path) -> None:
    screen.key("space")
    strip = slice(HEIGHT + 60, HEIGHT + 84)  # its last line
    before = screen.image()[strip, :600].copy()
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    screen.key("s")
    screen.until(lambda: bool((screen.image()[strip, :600] != before).any()))
    screen.key("q")
    _, said = screen.process.communicate(timeout=PATIENCE)
    assert screen.process.returncode == 0
    assert f"Cannot write {tmp_path}" in said


def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(media: Media, display: str, tmp_path: Path) -> None:
    screen = Screen(display, tmp_path, str(media("wide.mp4")), "--loop", "--backend", "eager", "--device", "cpu")
    try:
        screen.until(lambda: screen.do("search", "--name", "vsr preview").stdout.split() != [])
        window = screen.do("search", "--name", "vsr preview").stdout.split()[-1]
        expected = f"{LEAST_WIDTH}x{108 + STRIP}"  # which the words below need
        screen.until(lambda: expected in screen.do("getwindowgeometry", window).stdout)
        screen.until(lambda: abs((screen.image()[60, :LEAST_WIDTH] != GROUND).any(1).sum() - 192 * 32 / 27) < 2)
    finally:
        screen.process.kill()
        screen.process.wait()


def test_a_window_that_is_opened_again_has_its_size_again(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    """As the bench does: one moment to warm up, one to look at."""
    sizes: list[tuple[int, int]] = []
    for name in ("namedWindow", "setMouseCallback", "imshow", "destroyAllWindows", "waitKey"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "waitKeyEx", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "resizeWindow", lambda _, *size: sizes.append(size))
    window = Window(play(paused=True), Path())
    for count in (1, 2):
        while len(sizes) < count:
            window.run(0.3)
    assert sizes == [(WIDTH, HEIGHT + STRIP)] * 2
    while len(sizes) < 5:  # what moves a window to draw itself, where it has not
        window.run(1.5)
    assert sizes[2:5] == [(WIDTH, HEIGHT + STRIP), (WIDTH, HEIGHT + STRIP + 1), (WIDTH, HEIGHT + STRIP)]


def test_no_key_is_lost_while_something_is_drawn(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    """OpenCV gives the last key since it was asked: four that are pressed one after the other in one slow drawing."""
    typed = list("vvv[")
    drawing = threading.Event()

    def slow(viewer: Viewer, *_: object) -> np.ndarray[Any, Any]:
        drawing.set()
        time.sleep(0.3)
        drawing.clear()
        return np.zeros((HEIGHT, WIDTH, 3), np.uint8)

    def key(_: int) -> int:
        time.sleep(0.01)
        return ord(typed.pop(0)) if drawing.is_set() and typed else -1

    for name in ("namedWindow", "setMouseCallback", "imshow", "resizeWindow", "destroyAllWindows", "waitKey"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "waitKeyEx", key)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(Viewer, "draw", slow)
    window = Window(play(paused=True), Path())
    while typed or not window._viewer.loupe:
        window.run(0.5)
    assert window._viewer.view == VIEWS[3]


def test_what_there_is_no_time_to_draw_is_counted(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    """A player that has shown seven more images each time the window is ready for one."""
    for name in ("namedWindow", "setMouseCallback", "resizeWindow", "destroyAllWindows", "waitKey"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "waitKeyEx", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: 1.0)
    monkeypatch.setattr(cv2, "imshow", lambda *_: time.sleep(0.05))
    said: list[Status] = []

    def heard(status: Status, *_: object) -> np.ndarray[Any, Any]:
        said.append(status)
        return np.zeros((STRIP, WIDTH, 3), np.uint8)

    player = play(paused=True)
    shown = network_frame(player)
    status = replace(player.status(), dropped=100, display_ms=7.0, shown_fps=99.0)
    monkeypatch.setattr("vsr_plugin.preview.viewer.strip", heard)
    monkeypatch.setattr(player, "wait", lambda number, _: replace(shown, number=number + 7))
    monkeypatch.setattr(player, "status", lambda: status)
    window = Window(player, Path())
    while window.drawn < 5:
        window.run(0.1)
    assert window.missed == 6 * (window.drawn - 1)  # what was shown before the window was there does not count
    assert said[-1].dropped == 100 + 6 * (window.drawn - 2)  # with the last one, which is being drawn, not counted yet
    assert said[-1].display_ms >= 7 + 50
    assert said[-1].shown_fps <= window.drawn / 2


def test_a_display_that_does_not_let_us_in_is_none(tmp_path: Path) -> None:
    """As under sudo, and in other people's sessions."""
    if shutil.which("Xvfb") is None:
        pytest.skip("no Xvfb on the path")
    cookie = tmp_path / "cookie"
    cookie.write_bytes(
        struct.pack(">HH4sH1sH18sH16s", 256, 4, b"host", 1, b"0", 18, b"MIT-MAGIC-COOKIE-1", 16, b"x" * 16)
    )
    reading, writing = os.pipe()
    command = ("Xvfb", "-displayfd", str(writing), "-nolisten", "tcp", "-auth", str(cookie))
    server = subprocess.Popen(command, pass_fds=(writing,), stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        display = f":{pipe.readline().strip()}"
    environment = {**os.environ, "DISPLAY": display, "XAUTHORITY": str(tmp_path / "none")}
    try:
        done = subprocess.run((*COMMAND, str(CLIP)), env=environment, capture_output=True, text=True, check=False)
    finally:
        server.terminate()
        server.wait(PATIENCE)
    assert done.returncode == 1
    assert done.stderr == ("Error: Expected a display for the window, got none: use --serve\n")


def test_a_program_without_stderr_may_ask_the_display() -> None:
    program = "import os; os.close(2); from vsr_plugin.preview.display import lets_in; print(lets_in())"
    done = subprocess.run((sys.executable, "-c", program), stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    shown = DisplayedFrame(1, 12.5, "bicubic", "espcn", np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8))
    first, second = save(shown, 120 * "é" + ".mp4", tmp_path)
    assert first.name == 100 * "é" + "_0012.500_bicubic.png"
    second.unlink()
    assert [path.name[200 // 2 :] for path in save(shown, 120 * "é" + ".mp4", tmp_path)] == [
        "_0012.500_bicubic_2.png",
        "_0012.500_espcn_2.png",
    ], "one number for both"


def test_saving_never_overwrites(tmp_path: Path) -> None:
    shown = DisplayedFrame(
        1, 12.5, "bicubic", "espcn", np.full((4, 6, 3), 9, np.uint8), np.full((4, 6, 3), 200, np.uint8)
    )
    first = save(shown, "film.mp4", tmp_path)
    assert [file.name for file in first] == ["film_0012.500_bicubic.png", "film_0012.500_espcn.png"]
    assert (read(first[1]) == 200).all()
    second = save(shown, "film.mp4", tmp_path)
    assert [file.name for file in second] == ["film_0012.500_bicubic_2.png", "film_0012.500_espcn_2.png"]
    (draft,) = save(replace(shown, model=""), "other.mp4", tmp_path)
    assert draft.name == "other_0012.500_bicubic.png", "the network's is not there yet"
    with pytest.raises(OutputError, match="Cannot write"):
        save(shown, "film.mp4", tmp_path / "nowhere")
