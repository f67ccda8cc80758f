from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from queue import Empty, SimpleQueue

import cv2
import numpy as np
import pytest
import torch

from tests.stream.conftest import Media, frame_times
from vsr_plugin.errors import BackendError, InputError, UsageError
from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.preview import Shown
from vsr_plugin.preview.clips import open_clip
from vsr_plugin.preview.networks import Networks
from vsr_plugin.preview.player import Player

from .conftest import CLIP, FakeNetworks, Gate, Play, Time


def picture(player: Player, after: int = 0) -> Shown:
    found = player.wait(after, 20.0)
    assert found is not None
    return found


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def played(player: Player) -> list[Shown]:
    """Every picture to the end, as far as we are fast enough to see it."""
    seen: list[Shown] = []
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
    assert seen[0].network.shape == seen[0].bicubic.shape == (108, 192, 3)
    assert np.abs(seen[0].network.astype(int) - seen[0].bicubic).mean() > 10
    status = player.status()
    assert status.paused
    assert (status.width, status.height, status.scale, status.source_fps) == (96, 54, 2, 25.0)


def test_pause_stands_still_and_goes_on(play: Play) -> None:
    player = play(now=Time())
    picture(player)
    player.pause()
    still = picture(player)
    assert player.status().paused
    assert player.wait(still.number, 0.3) is None
    player.pause()
    assert picture(player, still.number).position > still.position


@pytest.mark.parametrize("paused", [False, True])
def test_a_jump_shows_the_frame_that_is_seen_there(media: Media, play: Play, *, paused: bool) -> None:
    times = [float(time) for time in frame_times(media("vfr.mp4"))]
    player = play(media("vfr.mp4"), paused=paused, now=Time())  # in which nothing else would be shown
    first = picture(player)
    player.seek(times[12] + 0.001)
    assert picture(player, first.number).position == pytest.approx(times[12])
    assert player.wait(first.number + 1, 0.2) is None


@pytest.mark.parametrize("position", [1.6, 3.0, 1e9])
def test_a_jump_to_the_end_shows_the_last_frame(media: Media, play: Play, position: float) -> None:
    """The sound goes on for longer than the pictures."""
    last = float(frame_times(media("long_sound.mp4"))[-1])
    player = play(media("long_sound.mp4"), paused=True)
    first = picture(player)
    assert player.status().duration > last + 2
    player.seek(position)
    assert picture(player, first.number).position == pytest.approx(last)


def test_jumps_that_come_fast_add_up(play: Play) -> None:
    gate = Gate()
    player = play(model="slow", seconds=1.0, work=gate, paused=True)
    gate.open()
    first = picture(player)
    gate.wait()
    for _ in range(3):
        player.skip(0.5)
        gate.wait()  # it is being made
        gate.open()
        player.skip(0.0)  # and comes too late
    gate.open(9)
    until(lambda: picture(player, first.number).position == pytest.approx(1.5, abs=0.04))
    for _ in range(3):
        player.step(-1)
    until(lambda: picture(player).position == pytest.approx(1.4, abs=0.001))


def test_a_film_of_a_telephone_stands_upright(shared: Path, play: Play) -> None:
    player = play(shared / "video/exoplayer/video_1.mp4", paused=True)
    status = player.status()
    height, width, _ = picture(player).network.shape
    assert (width, height) == (2 * status.width, 2 * status.height)
    assert height > width


def test_steps_go_frame_by_frame_both_ways(media: Media, play: Play) -> None:
    times = [float(time) for time in frame_times(media("vfr.mp4"))]
    player = play(media("vfr.mp4"), paused=True)
    found = [picture(player)]
    for step in (1, 1, 1, -1, -1, 1):
        player.step(step)
        found.append(picture(player, found[-1].number))
    expected = [times[index] for index in (0, 1, 2, 3, 2, 1, 2)]
    assert [shown.position for shown in found] == pytest.approx(expected)


def test_a_step_while_a_picture_is_made_shows_that_one(play: Play) -> None:
    gate = Gate()
    player = play(model="slow", seconds=1.0, work=gate, now=Time())
    gate.open()
    first = picture(player)
    gate.wait()
    gate.wait()
    player.step(1)
    assert player.wait(first.number, 0.1) is None
    gate.open()
    assert picture(player, first.number).position == pytest.approx(1 / 30, abs=0.002)
    player.step(1)
    player.step(1)
    gate.open(2)
    until(lambda: picture(player).position == pytest.approx(3 / 30, abs=0.002))
    gate.open(5)
    assert player.wait(picture(player).number, 0.2) is None


def test_a_step_while_pictures_wait_shows_the_next_of_them(play: Play) -> None:
    player = play(now=Time())
    first = picture(player)
    until(lambda: len(player._ready) == 2)
    player.step(1)
    assert picture(player, first.number).position == pytest.approx(1 / 30, abs=0.002)


def test_a_step_after_frames_were_dropped_shows_the_first_of_them(play: Play) -> None:
    gate, now = Gate(), Time()
    player = play(model="slow", seconds=1.0, work=gate, now=now)
    gate.open()
    picture(player)
    gate.wait()
    gate.wait()
    now.pass_by(0.5)
    gate.open()  # the picture of the second frame comes late; there is no time for those after it
    shown = picture(player, 1)
    gate.wait()
    assert player.status().dropped > 10
    player.step(1)
    gate.open(2)
    assert picture(player, shown.number).position == pytest.approx(shown.position + 1 / 30, abs=0.002)


def test_at_the_end_play_begins_again(media: Media, play: Play) -> None:
    now = Time()
    player = play(media("lossless.mkv"), now=now)
    last = picture(player)
    for number in range(2, 13):
        until(lambda: bool(player._ready))
        now.pass_by(0.04001)
        last = picture(player, number - 1)
    assert last.position == pytest.approx(0.44)
    until(lambda: player.status().paused)
    player.pause()
    assert picture(player, 12).position == 0
    now.pass_by(0.04)
    assert picture(player, 13).position == pytest.approx(0.04)  # and goes on


def test_a_loop_does_not_end(media: Media, play: Play) -> None:
    player = play(media("lossless.mkv"), loop=True)
    until(lambda: picture(player).position > 0.3)
    until(lambda: picture(player).position < 0.2)
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
    plane = torch.full((8, 8), index % 200, dtype=torch.uint8)
    return Frame((plane,), 3 * index, Fraction(1, 10), 3, ColorSpec())


class Camera(Slides):
    """Sends what a test puts in."""

    duration, live = 0.0, True

    def __init__(self) -> None:
        self.sent: SimpleQueue[int] = SimpleQueue()

    def send(self, *indices: int) -> None:
        for index in indices:
            self.sent.put(index)

    def frames(self, position: float, cancelled: Callable[[], bool] = never) -> Generator[tuple[Frame, float]]:
        while not cancelled():
            try:
                index = self.sent.get(timeout=0.05)
            except Empty:
                continue
            yield slide(index), index / 50


class Silent(Slides):
    """A stream whose sender is gone after the first frame."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def frames(self, position: float, cancelled: Callable[[], bool] = never) -> Generator[tuple[Frame, float]]:
        yield slide(0), 0.0
        self.over.wait(60)


def test_a_camera_shows_what_is_now_also_after_a_pause() -> None:
    camera = Camera()
    with Player(camera, FakeNetworks(), "fast", 2, paused=True) as player:
        camera.send(0)
        first = picture(player)
        camera.send(*range(1, 40))
        until(camera.sent.empty)
        until(lambda: player._reader is not None and player._reader.missed == 38)  # all but the newest
        player.pause(paused=False)
        assert picture(player, first.number).position == pytest.approx(39 / 50)
        assert player.status().dropped == 0  # nobody missed anything while time stood still


def test_steps_through_a_camera_show_what_is_now() -> None:
    camera = Camera()
    with Player(camera, FakeNetworks(), "fast", 2, paused=True) as player:
        camera.send(0)
        number = picture(player).number
        for newest in (20, 40):
            camera.send(*range(newest - 19, newest + 1))
            until(lambda newest=newest: newest_read(player) == newest / 50)  # type: ignore[misc]
            player.step(1)
            shown = picture(player, number)
            assert shown.position == pytest.approx(newest / 50)
            number = shown.number
        assert player.status().dropped == 0  # nobody missed anything while time stood still


def newest_read(player: Player) -> float | None:
    """Where the frame is that would be taken next."""
    found = player._reader._found if player._reader is not None else None
    return found[-1][1] if found else None


def test_a_slow_network_leaves_out_what_a_camera_sent_meanwhile() -> None:
    camera, gate = Camera(), Gate()
    with Player(camera, FakeNetworks(1.0, gate), "slow", 2) as player:
        camera.send(0)
        gate.wait()
        camera.send(*range(1, 11))
        until(camera.sent.empty)
        until(lambda: player._reader is not None and player._reader.missed == 9)
        gate.open(2)
        assert picture(player, 1).position == pytest.approx(10 / 50)
        assert player.status().dropped == 9


def test_closing_does_not_wait_for_a_silent_source() -> None:
    silent = Silent()
    with Player(silent, FakeNetworks(), "fast", 2) as player:
        shown = picture(player)
        player.choose(scale=3)
        assert picture(player, shown.number).network.shape == (24, 24, 3)
    assert not silent.over.is_set()
    silent.over.set()


def test_a_jump_during_a_jump_does_not_wait_for_it() -> None:
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
        first = picture(player)
        player.seek(0.3)
        until(lambda: 0.3 in started)
        player.seek(0.6)
        assert picture(player, first.number).position == 0.6
        player.seek(0.3)
        until(lambda: started.count(0.3) == 2)
    assert not [thread for thread in threading.enumerate() if thread.name == "vsr preview reader" and thread.is_alive()]


def test_the_last_frames_are_stepped_through_and_then_it_is_over() -> None:
    with Player(Slides(), FakeNetworks(), "fast", 2, now=Time()) as player:
        until(lambda: len(player._ready) == 2)  # all is made, but the first is shown
        assert picture(player).position == 0
        assert not player.status().paused
        player.step(1)
        assert picture(player, 1).position == pytest.approx(0.3)
        player.step(1)
        assert picture(player, 2).position == pytest.approx(0.6)
        until(lambda: player._ended)
        player.pause()
        assert picture(player, 3).position == 0


def test_steps_that_come_at_once_are_frame_by_frame(play: Play) -> None:
    player = play(now=Time())
    before = picture(player)
    with player._changed:  # as messages that arrive together
        player.step(1)
        player.step(1)
    until(lambda: picture(player).position == pytest.approx(before.position + 2 / 30, abs=0.002))
    assert player.wait(picture(player).number, 0.2) is None
    with player._changed:
        player.step(1)
        player.step(-1)
    assert player.wait(picture(player).number, 0.2) is None


def test_in_a_loop_the_last_frame_stands_as_long_as_the_others() -> None:
    now = Time()
    with Player(Slides(), FakeNetworks(), "fast", 2, loop=True, now=now) as player:
        assert picture(player).position == 0
        for number, position in enumerate((0.3, 0.6, 0.0, 0.3), 1):
            now.pass_by(0.2)
            assert player.wait(number, 0.2) is None
            now.pass_by(0.1001)
            assert picture(player, number).position == pytest.approx(position)


def test_another_network_takes_over_where_the_clip_is(play: Play) -> None:
    player = play(paused=True, position=1.0)
    before = picture(player)
    player.choose(scale=3)
    after = picture(player, before.number)
    assert after.position == before.position
    assert after.network.shape == (810, 1440, 3)
    assert player.status().models == ("fast",)
    player.choose(model="slow")
    assert player.status().notice == "slow has no weights for ×3"
    assert player.status().model == "fast"


def test_another_network_while_a_jump_is_made_goes_where_the_jump_goes(play: Play) -> None:
    gate = Gate()
    player = play(model="slow", seconds=1.0, work=gate, paused=True)
    gate.open()
    first = picture(player)
    gate.wait()
    player.seek(2.0)
    gate.wait()
    player.choose(model="fast")
    gate.open()
    until(lambda: picture(player, first.number).model == "fast")
    assert picture(player).position == pytest.approx(2.0, abs=0.04)


def test_another_network_near_the_end_shows_what_is_left_through_it() -> None:
    now = Time()
    with Player(Slides(), FakeNetworks(), "fast", 2, now=now) as player:
        first = picture(player)
        until(lambda: len(player._ready) == 2)
        now.pass_by(0.3001)
        assert picture(player, first.number).position == pytest.approx(0.3)
        until(lambda: player._ended)
        player.choose(scale=3)
        again = picture(player, 2)
        assert again.position == pytest.approx(0.3)
        assert again.network.shape == (24, 24, 3)
        until(lambda: bool(player._ready))
        now.pass_by(0.3001)
        assert picture(player, 3).position == pytest.approx(0.6)


def test_another_network_for_a_stream_without_end_shows_what_was_to_follow_through_it() -> None:
    class Endless(Slides):
        duration = 0.0

    now = Time()
    with Player(Endless(), FakeNetworks(), "fast", 2, now=now) as player:
        picture(player)
        until(lambda: len(player._ready) == 2)
        player.choose(scale=3)
        for number, position in ((1, 0.0), (2, 0.3), (3, 0.6)):
            shown = picture(player, number)
            assert shown.position == pytest.approx(position)
            assert shown.network.shape == (24, 24, 3)
            now.pass_by(0.3001)


def test_a_pause_while_the_last_picture_is_made_goes_on_with_it() -> None:
    gate = Gate()
    with Player(Slides(), FakeNetworks(1.0, gate), "slow", 2, now=Time()) as player:
        gate.open(2)
        picture(player)
        for _ in range(3):
            gate.wait()
        player.step(1)
        assert picture(player, 1).position == pytest.approx(0.3)
        player.pause(paused=True)
        player.pause(paused=False)
        gate.open(2)
        assert picture(player, 2).position == pytest.approx(0.6)


def test_closing_does_not_wait_for_a_network_that_is_at_work() -> None:
    gate = Gate()
    with Player(Slides(), FakeNetworks(1.0, gate), "slow", 2):
        gate.wait()
    at_work = [thread for thread in threading.enumerate() if thread.name == "vsr preview maker"]
    assert at_work
    gate.open(9)
    at_work[-1].join(20)
    assert not at_work[-1].is_alive()


def test_a_network_that_does_not_open_is_said_and_the_old_one_stays(play: Play) -> None:
    player = play(paused=True)
    picture(player)
    player.choose(model="broken")
    until(lambda: player.status().notice == "broken: it does not work")
    assert player.status().model == "fast"
    shown = picture(player)
    player.step(1)
    assert picture(player, shown.number).position > 0


def test_a_network_that_cannot_run_is_said_and_the_old_one_stays(play: Play) -> None:
    player = play(paused=True)
    shown = picture(player)
    player.choose(model="bursting")
    until(lambda: "no room" in player.status().notice)
    player.choose(model="buggy")
    until(lambda: player.status().notice == "no such thing")
    assert player.status().model == "fast"
    player.step(1)
    assert picture(player, shown.number).position > 0
    player.choose(model="fast")
    assert player.status().notice == ""


def test_a_choice_made_while_another_fails_counts() -> None:
    gate = Gate()
    with Player(Slides(), FakeNetworks(1.0, gate), "fast", 2, paused=True) as player:
        picture(player)
        player.choose(model="broken")
        gate.wait()  # it is being opened
        assert player.status().notice == "opening broken ×2 …"
        player.choose(model="slow")
        gate.open(9)
        until(lambda: player.status().model == "slow")


def test_a_jump_survives_a_network_that_does_not_open(play: Play) -> None:
    player = play(paused=True)
    first = picture(player)
    for moment in (0.0, 0.005, 0.01, 0.02):
        player.seek(2.0)
        time.sleep(moment)
        player.choose(model="broken")
        until(lambda: picture(player).position == pytest.approx(2.0, abs=0.04))
        player.seek(0.0)
        until(lambda: picture(player, first.number).position == 0)


@pytest.mark.parametrize("seconds", [0.08, 0.2, 0.45])
def test_a_slow_network_drops_frames_and_counts_them(play: Play, seconds: float) -> None:
    now = Time()
    player = play(model="slow", seconds=seconds, work=now.pass_by, now=now)
    seen = [picture(player)]
    while not player.status().paused:  # each picture made lets the time pass that it costs; here, what is left
        found = player.wait(seen[-1].number, 0.05)
        if found is not None:
            seen.append(found)
        elif player._ready:
            now.pass_by(0.01)
    number, last = seen[-1].number, seen[-1].position
    assert number + player.status().dropped == 90, "every frame is shown, or counted"
    assert last == pytest.approx(89 / 30, abs=0.002), "what is on the screen in the end is the end"
    as_many_as_there_is_time_for = 3 / seconds
    at_the_ends = 5  # the first ones are made before time begins, the last one whether there is time or not
    assert 0.85 * as_many_as_there_is_time_for - 1 < number < 1.15 * as_many_as_there_is_time_for + at_the_ends
    assert all(later.position > sooner.position for sooner, later in pairwise(seen))


def test_a_fast_network_drops_none(play: Play) -> None:
    now = Time()
    player = play(now=now)
    number = picture(player).number
    while number < 90:
        until(lambda: bool(player._ready))
        now.pass_by(1 / 30 + 1e-6)
        number = picture(player, number).number
    assert player.status().dropped == 0
    assert picture(player).position == pytest.approx(89 / 30, abs=0.002)


def test_a_picture_is_shown_and_stays(media: Media, play: Play) -> None:
    player = play(media("cover.png"))
    shown = picture(player)
    assert (shown.bicubic == np.array([0, 0, 255])).mean() > 0.9 or np.abs(shown.bicubic - [0, 0, 255]).max() <= 3
    until(lambda: player.status().paused)
    player.choose(scale=3)
    assert picture(player, shown.number).network.shape == (192, 192, 3)


def test_what_breaks_while_playing_reaches_those_who_wait(media: Media, play: Play) -> None:
    player = play(media("interlaced.mkv"))
    with pytest.raises(InputError, match="is interlaced"):
        picture(player)


def test_closing_leaves_no_thread_and_no_open_network(media: Media) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        with Player(open_clip(str(media("lossless.mkv"))), FakeNetworks(), "fast", 2) as player:
            picture(player)
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
        assert picture(player).network.shape == (108, 192, 3)
        player.seek(1.0)  # there is no going back
        assert player.status().duration == 0


def test_auto_leaves_the_camera_to_the_player(media: Media) -> None:
    clip = open_clip(str(media("plain.mp4")), "v4l2")
    assert Networks().best(clip, 2) in Networks().models(2)
    with Player(clip, FakeNetworks(), "fast", 2) as player:
        assert picture(player).network.shape == (108, 192, 3)


def test_a_camera_that_gives_nothing_is_said(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = open_clip(str(media("plain.mp4")), "v4l2")
    monkeypatch.setattr(cv2.VideoCapture, "read", lambda _: (False, None))
    with Player(clip, FakeNetworks(), "fast", 2) as player, pytest.raises(InputError, match="expected a camera that"):
        picture(player)


def test_fields_are_made_whole_if_asked(media: Media) -> None:
    with Player(open_clip(str(media("interlaced.mkv")), deinterlace=True), FakeNetworks(), "fast", 2) as player:
        assert picture(player).network.shape == (108, 192, 3)


def test_pixels_that_are_not_square_are_said(media: Media, play: Play) -> None:
    assert play(media("wide.mp4")).status().pixel_aspect == pytest.approx(32 / 27)
    assert play(media("plain.mp4")).status().pixel_aspect == 1.0


def test_ffmpegs_own_sources_are_clips() -> None:
    with Player(open_clip("testsrc2=s=64x48:d=1", "lavfi"), FakeNetworks(), "fast", 2) as player:
        assert picture(player).network.shape == (96, 128, 3)
