"""The window as its user meets it: a real one, on a virtual screen, with a keyboard and a mouse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.stream.conftest import Media
from vsr_plugin.errors import BackendError, OutputError
from vsr_plugin.preview import Shown
from vsr_plugin.preview.canvas import STRIP
from vsr_plugin.preview.window import Window, check_display, save

from .conftest import CLIP, Play

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
        process.wait(20)


def read(file: Path) -> np.ndarray[Any, Any]:
    picture = cv2.imread(str(file))
    assert picture is not None
    return picture


class Screen:
    """A window on a display, and what its user does.

    Args:
        display: Where.
        folder: The working folder of the program.
    """

    def __init__(self, display: str, folder: Path, *words: str) -> None:
        self.environment = {**os.environ, "DISPLAY": display, "OMP_NUM_THREADS": "1"}
        self.display, self.folder = display, folder
        self.process = subprocess.Popen(
            (*COMMAND, *words), env=self.environment, cwd=folder, stderr=subprocess.PIPE, text=True
        )

    def open(self) -> None:
        """Wait for the first picture."""
        self.until(lambda: self.do("search", "--name", "vsr preview").stdout.split() != [])
        self.window = self.do("search", "--name", "vsr preview").stdout.split()[-1]
        self.until(lambda: self.picture()[:HEIGHT, :WIDTH].std() > 20)

    def do(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ("xdotool", *words), env=self.environment, capture_output=True, text=True, check=False, timeout=30
        )

    def key(self, name: str) -> None:
        self.do("key", "--window", self.window, name)
        time.sleep(0.3)

    def picture(self) -> np.ndarray[Any, Any]:
        """All that is on the screen."""
        grab = ("ffmpeg", "-v", "error", "-f", "x11grab", "-draw_mouse", "0", "-video_size", "1280x1024")
        output = ("-i", self.display, "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "bgr24", "-")
        data = subprocess.run(
            (*grab, *output), stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=30
        ).stdout
        return np.frombuffer(data, np.uint8).reshape(1024, 1280, 3)

    def until(self, true: Callable[[], object]) -> None:
        end = time.monotonic() + 60
        while not true():
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.1)

    def saved(self, pattern: str) -> np.ndarray[Any, Any]:
        """What a press of `s` wrote."""
        before = set(self.folder.glob(pattern))
        self.key("s")
        self.until(lambda: len(set(self.folder.glob(pattern)) - before) == 1)
        (file,) = set(self.folder.glob(pattern)) - before
        time.sleep(0.2)
        return read(file)

    def split(self) -> int:
        """The column where the white line stands."""
        rows = self.picture()[100:500, :WIDTH].astype(int)
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
    bicubic, network = screen.saved("*_bicubic*.png"), read(next(tmp_path.glob("*_espcn.png")))
    seen = screen.picture()[:HEIGHT, :WIDTH].astype(int)
    middle = WIDTH // 2
    assert screen.split() == pytest.approx(middle, abs=1)
    assert np.abs(seen[40:, : middle - 2] - bicubic[40:, : middle - 2]).max() <= 1
    assert np.abs(seen[40:, middle + 2 :] - network[40:, middle + 2 :]).max() <= 1
    assert np.abs(bicubic.astype(int) - network).max() > 20

    screen.do("mousemove", "--window", screen.window, "480", "300", "mousedown", "1")
    screen.do("mousemove", "--window", screen.window, "240", "300")
    screen.until(lambda: abs(screen.split() - 240) <= 1)
    screen.do("mouseup", "1")

    screen.key("v")
    screen.until(lambda: bool((screen.picture()[:HEIGHT, :WIDTH] == network).all()))
    screen.key("v")  # difference, which is mostly gray
    screen.until(lambda: abs(np.median(screen.picture()[:HEIGHT, :WIDTH]) - 128) <= 8)
    screen.key("v")
    screen.key("v")

    screen.key("question")
    screen.until(lambda: screen.picture()[40:330, 200:400].mean() < 70)
    screen.key("question")

    screen.key("2")  # of those that have weights
    screen.until(lambda: not (screen.picture()[40:HEIGHT, middle + 2 : WIDTH] == network[40:, middle + 2 :]).all())
    assert screen.saved("*_fsrcnn.png").shape == (HEIGHT, WIDTH, 3)

    screen.do(
        "mousemove", "--window", screen.window, "640", str(HEIGHT + 6), "click", "1"
    )  # of three seconds, the second

    def position() -> float:
        screen.saved("*_bicubic*.png")
        newest = max(tmp_path.glob("*_bicubic*.png"), key=lambda file: file.stat().st_mtime)
        return float(newest.stem.split("_")[1])

    screen.until(lambda: position() == pytest.approx(2.0, abs=0.04))

    screen.key("q")
    assert screen.process.wait(20) == 0


def test_closing_by_ctrl_c_leaves_nothing(screen: Screen) -> None:
    screen.process.send_signal(signal.SIGINT)
    assert screen.process.wait(20) == 130


def test_closing_the_window_is_quitting(screen: Screen) -> None:
    screen.do("key", "alt+F4")
    _, said = screen.process.communicate(timeout=20)
    assert screen.process.returncode == 0, said
    assert "Error" not in said


def test_a_window_is_not_larger_than_the_screen(display: str, tmp_path: Path) -> None:
    screen = Screen(display, tmp_path, str(CLIP), "-x", "3", "--backend", "eager", "--device", "cpu")
    try:
        screen.until(lambda: screen.do("search", "--name", "vsr preview").stdout.split() != [])
        window = screen.do("search", "--name", "vsr preview").stdout.split()[-1]
        expected = f"{round(0.92 * 1280)}x{round(0.92 * 1280 / 1440 * 810) + STRIP}"
        screen.until(lambda: expected in screen.do("getwindowgeometry", window).stdout)
    finally:
        screen.process.kill()
        screen.process.wait()


def test_without_a_display_the_page_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for display in ("", ":987", "nonsense", "localhost:987.0"):
        monkeypatch.setenv("DISPLAY", display)
        with pytest.raises(BackendError, match="Expected a display for the window, got none: add --serve"):
            check_display()


def test_opencv_comes_before_pyav_or_it_is_said(display: str) -> None:
    program = "import av; from vsr_plugin.preview.window import check_display; check_display()"
    environment = {**os.environ, "DISPLAY": display}
    done = subprocess.run((sys.executable, "-c", program), env=environment, capture_output=True, text=True, check=False)
    assert "BackendError: Expected cv2 imported before av, got av first" in done.stderr


def test_the_bench_opens_a_window(display: str) -> None:
    program = "from vsr_plugin.cli import main; main()"
    words = ("bench", "espcn", "-x", "2", "--size", "96x64", "--preview", "--runs", "1", "--json")
    environment = {**os.environ, "DISPLAY": display, "OMP_NUM_THREADS": "1"}
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
    assert ours["shown_fps"] > 0
    assert dnn["shown_fps"] > 0


def test_what_cannot_be_saved_is_said_below_the_picture(screen: Screen, tmp_path: Path) -> None:
    screen.key("space")
    strip = slice(HEIGHT + 60, HEIGHT + 84)  # its last line
    before = screen.picture()[strip, :600].copy()
    tmp_path.rename(tmp_path.with_name("elsewhere"))
    screen.key("s")
    screen.until(lambda: bool((screen.picture()[strip, :600] != before).any()))
    screen.key("q")
    _, said = screen.process.communicate(timeout=20)
    assert screen.process.returncode == 0
    assert f"Cannot write {tmp_path}" in said


def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(media: Media, display: str, tmp_path: Path) -> None:
    screen = Screen(display, tmp_path, str(media("wide.mp4")), "--loop", "--backend", "eager", "--device", "cpu")
    try:
        screen.until(lambda: screen.do("search", "--name", "vsr preview").stdout.split() != [])
        window = screen.do("search", "--name", "vsr preview").stdout.split()[-1]
        expected = f"{round(192 * 32 / 27)}x{108 + STRIP}"
        screen.until(lambda: expected in screen.do("getwindowgeometry", window).stdout)
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


def test_saving_never_overwrites(tmp_path: Path) -> None:
    shown = Shown(1, 12.5, "espcn", np.full((4, 6, 3), 9, np.uint8), np.full((4, 6, 3), 200, np.uint8))
    first = save(shown, "film.mp4", tmp_path)
    assert [file.name for file in first] == ["film_0012.500_bicubic.png", "film_0012.500_espcn.png"]
    assert (read(first[1]) == 200).all()
    second = save(shown, "film.mp4", tmp_path)
    assert [file.name for file in second] == ["film_0012.500_bicubic_2.png", "film_0012.500_espcn_2.png"]
    with pytest.raises(OutputError, match="Cannot write"):
        save(shown, "film.mp4", tmp_path / "nowhere")
