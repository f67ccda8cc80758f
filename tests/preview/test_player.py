from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from queue import Empty, SimpleQueue

import cv2
import numpy as np
import pytest

from tests import PATIENCE
from tests.stream.conftest import Media, frame_times, rotated
from vsr_plugin.errors import BackendError, InputError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.preview import DisplayedFrame
from vsr_plugin.preview.canvas import figures
from vsr_plugin.preview.clips import open_clip
from vsr_plugin.preview.networks import Networks
from vsr_plugin.preview.player import Player
from vsr_plugin.sizes import Size
from vsr_plugin.stream import Selection

from .conftest import CLIP, FakeNetworks, Gate, Play, Time, network_frame


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def played(player: Player) -> list[DisplayedFrame]:
    """Every frame to the end, as far as we are fast enough to see it."""
    seen: list[DisplayedFrame] = []
    while not (player.status().paused and seen and player.wait(seen[-1].number, 0.2) is None):
        found = player.wait(seen[-1].number if seen else 0, 0.2)
        if found is not None:
            seen.append(found)
    return seen


def test_a_clip_plays_in_order_and_ends(media: Media, play: Play) -> None:
    player = play(media("lossless.mkv"))
    seen = played(player)
    positions = [shown.position for shown in seen]
    assert positions == sorted(positions)
    assert positions[-1] == pytest.approx(0.44)
    assert seen[0].network.shape == seen[0].plain.shape == (108, 192, 3)
    assert np.abs(seen[0].network.astype(int) - seen[0].plain).mean() > 10
    status = player.status()
    assert status.paused
    assert (status.width, status.height, status.scale, status.source_fps) == (96, 54, 2, 25.0)


def test_a_clip_is_seen_in_the_size_that_is_asked_for(media: Media) -> None:
    size = Size(width=150, height=100, fit="cover")
    networks = Networks(execution=Execution(backend="eager", device="cpu"), size=size)
    with Player(open_clip(str(media("lossless.mkv"))), networks, "espcn", size, paused=True) as player:
        first = network_frame(player)
        assert first.network.shape == first.plain.shape == (100, 150, 3)
        status = player.status()
        assert (status.scale, status.scales, status.seen_scale) == (0, (), 0)
        assert (status.seen_width, status.seen_height) == (150, 100)
        assert {"espcn", "fsrcnn", "lapsrn"} <= set(status.models)
        assert "drcn" not in status.models
        assert figures(status, 0.5)[0].startswith("espcn   96×54 → 150×100, shown at 50 %   eager")
        player.choose("fsrcnn", baseline="Lanczos")
        second = network_frame(player, first.number)
        while second.model != "fsrcnn":
            second = network_frame(player, second.number)
        assert second.plain.shape == (100, 150, 3)


def test_a_clip_that_has_the_size_already_is_seen_as_it_is(media: Media) -> None:
    networks = Networks(execution=Execution(backend="eager", device="cpu"), size=Size(height=50))
    with Player(open_clip(str(media("lossless.mkv"))), networks, "espcn", Size(height=50), paused=True) as player:
        until(lambda: "a size above that of the frames" in player.status().notice)
        shown = player.wait(0, 5)
        assert shown is not None
        assert shown.plain.shape == (54, 96, 3)


@pytest.mark.parametrize("paused", [False, True])
def test_a_seek_shows_the_frame_that_is_seen_there(media: Media, play: Play, *, paused: bool) -> None:
    times = [float(time) for time in frame_times(media("vfr.mp4"))]
    player = play(media("vfr.mp4"), paused=paused, now=Time())  # in which nothing else would be shown
    first = network_frame(player)
    player.seek(times[12] + 0.001)
    assert network_frame(player, first.number).position == pytest.approx(times[12])
    assert player.wait(first.number + 1, 0.2) is None


@pytest.mark.parametrize("position", [1.6, 3.0, 1e9])
def test_a_seek_to_the_end_shows_the_last_frame(media: Media, play: Play, position: float) -> None:
    """The sound goes on for longer than the frames."""
    last = float(frame_times(media("long_sound.mp4"))[-1])
    player = play(media("long_sound.mp4"), paused=True)
    first = network_frame(player)
    assert player.status().duration > last + 2
    player.seek(position)
    assert network_frame(player, first.number).position == pytest.approx(last)


def test_a_rotated_video_stands_upright(media: Media, play: Play, tmp_path: Path) -> None:
    player = play(rotated(media, tmp_path, 90), paused=True)
    status = player.status()
    height, width, _ = network_frame(player).network.shape
    assert (width, height) == (2 * status.width, 2 * status.height)
    assert height > width


def test_steps_go_frame_by_frame_both_ways(media: Media, play: Play) -> None:
    times = [float(time) for time in frame_times(media("vfr.mp4"))]
    player = play(media("vfr.mp4"), paused=True)
    found = [network_frame(player)]
    for step in (1, 1, 1, -1, -1, 1):
        player.step(step)
        found.append(network_frame(player, found[-1].number))
    expected = [times[index] for index in (0, 1, 2, 3, 2, 1, 2)]
    assert [shown.position for shown in found] == pytest.approx(expected)


def test_a_loop_does_not_end(media: Media, play: Play) -> None:
    player = play(media("lossless.mkv"), loop=True)
    until(lambda: network_frame(player).position > 0.3)
    until(lambda: network_frame(player).position < 0.2)
    assert not player.status().paused


def never() -> bool:
    return False


class Slides:
    """Three frames of 0.3 s each; see `preview.Clip`."""

    name, width, height, turns, pixel_aspect, frame_rate = "slides", 8, 8, 0, 1.0, 1 / 0.3
    duration, live = 0.9, False

    def frames(self, position: float, cancelled: Callable[[], bool] = never) -> Generator[tuple[Frame, float]]:
        for index in range(int(position / 0.3), 3):
            yield slide(index), 0.3 * index


def slide(index: int) -> Frame:
    plane = np.full((8, 8), index % 200, np.uint8)
    return Frame((plane,), 3 * index, Fraction(1, 10), 3, ColorSpec())


class Camera(Slides):
    """Sends what a test puts in."""

    duration, live = 0.0, True

    def __init__(self) -> None:
        self.sent: SimpleQueue[int] = SimpleQueue()
        self.idle = threading.Event()

    def send(self, *indices: int) -> None:
        """Send frames, and wait until all are taken."""
        for index in indices:
            self.sent.put(index)
        self.idle.clear()
        assert self.idle.wait(PATIENCE)

    def frames(self, position: float, cancelled: Callable[[], bool] = never) -> Generator[tuple[Frame, float]]:
        while not cancelled():
            try:
                index = self.sent.get(timeout=0.05)
            except Empty:
                self.idle.set()
                continue
            yield slide(index), index / 50


class Silent(Slides):
    """A stream whose sender is gone after the first frame."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def frames(self, position: float, cancelled: Callable[[], bool] = never) -> Generator[tuple[Frame, float]]:
        yield slide(0), 0.0
        self.over.wait(PATIENCE)


def test_a_camera_shows_what_is_now_also_after_a_pause() -> None:
    camera = Camera()
    with Player(camera, FakeNetworks(), "fast", 2, paused=True) as player:
        camera.send(0)
        first = network_frame(player)
        camera.send(*range(1, 40))
        player.pause(paused=False)
        assert network_frame(player, first.number).position == pytest.approx(39 / 50)
        assert player.status().dropped == 0  # nobody missed anything while time stood still


def test_a_slow_network_drops_what_a_camera_sent_meanwhile() -> None:
    camera, gate = Camera(), Gate()
    with Player(camera, FakeNetworks(1.0, gate), "slow", 2) as player:
        camera.send(0)
        gate.wait()
        camera.send(*range(1, 11))
        gate.open(2)
        until(lambda: network_frame(player).position == pytest.approx(10 / 50))
        assert player.status().dropped == 9


def test_closing_does_not_wait_for_a_silent_source() -> None:
    silent = Silent()
    with Player(silent, FakeNetworks(), "fast", 2) as player:
        shown = network_frame(player)
        player.choose(scale=3)
        assert network_frame(player, shown.number).network.shape == (24, 24, 3)
    assert not silent.over.is_set()
    silent.over.set()


def test_a_seek_during_a_seek_does_not_wait_for_it() -> None:
    """Decoding up to where the first one goes is given up."""
    started: list[float] = []

    class Long(Slides):
        def frames(self, position: float, cancelled: Callable[[], bool] = never) -> Generator[tuple[Frame, float]]:
            started.append(position)
            while position == 0.3 and not cancelled():
                time.sleep(0.01)
            if not cancelled():
                yield slide(0), position

    with Player(Long(), FakeNetworks(), "fast", 2, paused=True) as player:
        first = network_frame(player)
        player.seek(0.3)
        until(lambda: 0.3 in started)
        player.seek(0.6)
        assert network_frame(player, first.number).position == 0.6
        player.seek(0.3)
        until(lambda: started.count(0.3) == 2)
    assert not [thread for thread in threading.enumerate() if thread.name == "vsr preview reader" and thread.is_alive()]


def test_another_network_takes_over_where_the_clip_is(play: Play) -> None:
    player = play(paused=True, position=1.0)
    before = network_frame(player)
    player.choose(scale=3)
    after = network_frame(player, before.number)
    assert after.position == before.position
    assert after.network.shape == (810, 1440, 3)
    assert player.status().models == ("fast",)
    player.choose(model="slow")
    assert player.status().notice == "slow has no weights for ×3"
    assert player.status().model == "fast"


def test_a_slow_network_leaves_the_baseline_on_the_screen_meanwhile(play: Play) -> None:
    gate = Gate()

    def work(seconds: float) -> None:
        gate(seconds)
        time.sleep(seconds)  # longer than a draft waits, or the next frame would have none

    player = play(model="slow", seconds=0.2, work=work, paused=True)
    for position in (0.0, 1.0, 2.0):
        if position:  # the first frame is there without a seek, and would be enlarged twice after one
            player.seek(position)
        until(lambda position=position: player.status().position == pytest.approx(position, abs=0.02))  # type: ignore[misc]
        draft, status = player.wait(), player.status()
        assert draft is not None
        assert (draft.model, status.seen, status.model, draft.baseline) == ("", "bicubic", "slow", "bicubic")
        assert (draft.network == draft.plain).all()
        gate.wait()
        gate.open()
        shown = network_frame(player, draft.number)
        assert (shown.model, shown.position, player.status().seen) == ("slow", draft.position, "slow")
        assert (shown.plain == draft.plain).all()


def test_the_network_can_be_seen_beside_lanczos(play: Play) -> None:
    player = play(paused=True, position=1.0)
    bicubic = network_frame(player)
    player.choose(baseline="Lanczos")
    lanczos = network_frame(player, bicubic.number)
    assert (lanczos.baseline, lanczos.position, player.status().baseline) == ("Lanczos", bicubic.position, "Lanczos")
    assert (lanczos.network == bicubic.network).all()
    assert 0.1 < np.abs(lanczos.plain.astype(int) - bicubic.plain).mean() < 5


def test_closing_does_not_wait_for_a_network_that_is_at_work() -> None:
    gate = Gate()
    with Player(Slides(), FakeNetworks(1.0, gate), "slow", 2):
        gate.wait()
    at_work = [thread for thread in threading.enumerate() if thread.name == "vsr preview network"]
    assert at_work
    gate.open(9)
    at_work[-1].join(20)
    assert not at_work[-1].is_alive()


def test_a_network_that_does_not_open_is_said_and_the_old_one_stays(play: Play) -> None:
    player = play(paused=True)
    network_frame(player)
    player.choose(model="broken")
    until(lambda: player.status().notice == "broken: it does not work")
    assert player.status().model == "fast"
    shown = network_frame(player)
    player.step(1)
    assert network_frame(player, shown.number).position > 0


def test_a_network_that_cannot_run_is_said_and_the_old_one_stays(play: Play) -> None:
    player = play(paused=True)
    shown = network_frame(player)
    player.choose(model="bursting")
    until(lambda: "no room" in player.status().notice)
    player.choose(model="buggy")
    until(lambda: player.status().notice == "no such thing")
    assert player.status().model == "fast"
    player.step(1)
    assert network_frame(player, shown.number).position > 0
    player.choose(model="fast")
    assert player.status().notice == ""


def test_a_seek_survives_a_network_that_does_not_open(play: Play) -> None:
    player = play(paused=True)
    first = network_frame(player)
    for moment in (0.0, 0.005, 0.01, 0.02):
        player.seek(2.0)
        time.sleep(moment)
        player.choose(model="broken")
        until(lambda: network_frame(player).position == pytest.approx(2.0, abs=0.04))
        player.seek(0.0)
        until(lambda: network_frame(player, first.number).position == 0)


def test_an_image_is_shown_and_stays(media: Media, play: Play) -> None:
    player = play(media("cover.png"))
    shown = network_frame(player)
    assert (shown.plain == np.array([0, 0, 255])).mean() > 0.9 or np.abs(shown.plain - [0, 0, 255]).max() <= 3
    until(lambda: player.status().paused)
    player.choose(scale=3)
    assert network_frame(player, shown.number).network.shape == (192, 192, 3)


def test_what_breaks_while_playing_reaches_those_who_wait(media: Media, play: Play) -> None:
    player = play(media("interlaced.mkv"))
    with pytest.raises(InputError, match="is interlaced"):
        network_frame(player)


def test_closing_leaves_no_thread_and_no_open_network(media: Media) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        with Player(open_clip(str(media("lossless.mkv"))), FakeNetworks(), "fast", 2) as player:
            network_frame(player)
    assert not [each for each in threading.enumerate() if each not in before and each.name.startswith("vsr preview")]


def test_a_first_network_that_does_not_open_is_raised() -> None:
    with pytest.raises(BackendError, match="it does not work"):
        Player(open_clip(str(CLIP)), FakeNetworks(), "broken", 2)


def test_what_cannot_be_played_is_said(media: Media) -> None:
    with pytest.raises(UsageError, match="standard input"):
        open_clip("-")
    with pytest.raises(InputError, match="not a video"):
        open_clip(str(media.folder / "text.txt"))
    with pytest.raises(UsageError, match="Expected a format that FFmpeg has here, got 'nonsense'"):
        open_clip("x", "nonsense")
    with pytest.raises(InputError, match="expected a camera"):
        open_clip(str(media.folder / "text.txt"), "v4l2")


def test_a_camera_is_played_as_it_comes(media: Media) -> None:
    clip = open_clip(str(media("plain.mp4")), "v4l2")  # OpenCV opens files and cameras alike
    with Player(clip, FakeNetworks(), "fast", 2) as player:
        assert network_frame(player).network.shape == (108, 192, 3)
        player.seek(1.0)  # there is no going back
        assert player.status().duration == 0


def test_auto_leaves_the_camera_to_the_player(media: Media) -> None:
    clip = open_clip(str(media("plain.mp4")), "v4l2")
    assert Networks().best(clip, 2).model in Networks().models(2)
    with Player(clip, FakeNetworks(), "fast", 2) as player:
        assert network_frame(player).network.shape == (108, 192, 3)


def test_a_camera_that_gives_nothing_is_said(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = open_clip(str(media("plain.mp4")), "v4l2")
    monkeypatch.setattr(cv2.VideoCapture, "read", lambda _: (False, None))
    with Player(clip, FakeNetworks(), "fast", 2) as player, pytest.raises(InputError, match="expected a camera that"):
        network_frame(player)


def test_interlaced_clips_are_deinterlaced_if_asked(media: Media) -> None:
    with Player(
        open_clip(str(media("interlaced.mkv")), None, Selection(deinterlace=True)), FakeNetworks(), "fast", 2
    ) as player:
        assert network_frame(player).network.shape == (108, 192, 3)


def test_pixels_that_are_not_square_are_said(media: Media, play: Play) -> None:
    assert play(media("wide.mp4")).status().pixel_aspect == pytest.approx(32 / 27)
    assert play(media("plain.mp4")).status().pixel_aspect == 1.0


def test_ffmpegs_own_sources_are_clips() -> None:
    with Player(open_clip("testsrc2=s=64x48:d=1", "lavfi"), FakeNetworks(), "fast", 2) as player:
        assert network_frame(player).network.shape == (96, 128, 3)
