from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

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

from .conftest import CLIP, FakeNetworks, Play


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
    player = play()
    picture(player)
    player.pause()
    still = picture(player)
    until(lambda: player.wait(still.number, 0.3) is None)
    assert player.status().paused
    player.pause()
    assert picture(player, still.number).position > still.position - 1e-6


@pytest.mark.parametrize("paused", [False, True])
def test_a_jump_shows_the_frame_that_is_seen_there(media: Media, play: Play, *, paused: bool) -> None:
    times = [float(time) for time in frame_times(media("vfr.mp4"))]
    player = play(media("vfr.mp4"), paused=paused)
    first = picture(player)
    player.seek(times[12] + 0.001)
    until(lambda: picture(player).number > first.number and picture(player).position >= times[12] - 1e-6)
    if paused:
        assert picture(player).position == pytest.approx(times[12])
        assert player.wait(picture(player).number, 0.2) is None


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
    player = play(model="slow", seconds=0.2, paused=True)
    first = picture(player)
    for _ in range(3):
        player.skip(0.5)
        time.sleep(0.05)  # the first of them is being made
    until(lambda: picture(player, first.number).position == pytest.approx(1.5, abs=0.04))
    for _ in range(3):
        player.step(-1)
        time.sleep(0.05)
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


@pytest.mark.parametrize("moment", [0.02, 0.15, 0.28])
def test_a_step_shows_the_next_frame_whatever_was_left_out(play: Play, moment: float) -> None:
    """While a picture is made, while one waits, and after frames were dropped."""
    player = play(model="slow", seconds=0.3)
    seen = picture(player, picture(player).number)
    time.sleep(moment)
    player.step(1)
    here = picture(player)  # the one above, if no other was shown meanwhile
    after = here if here.number > seen.number and here.position < seen.position + 0.04 else picture(player, here.number)
    before = seen if after is here else here
    assert after.position - before.position == pytest.approx(1 / 30, abs=0.002)
    player.step(1)
    player.step(1)
    until(lambda: picture(player).position == pytest.approx(after.position + 2 / 30, abs=0.002))
    assert player.wait(picture(player).number, 0.5) is None


def test_at_the_end_play_begins_again(media: Media, play: Play) -> None:
    player = play(media("lossless.mkv"))
    last = played(player)[-1]
    player.pause()
    first = picture(player, last.number)
    assert first.position < last.position
    assert picture(player, first.number).position > first.position  # and goes on


def test_a_loop_does_not_end(media: Media, play: Play) -> None:
    player = play(media("lossless.mkv"), loop=True)
    until(lambda: picture(player).position > 0.3)
    until(lambda: picture(player).position < 0.2)
    assert not player.status().paused


class Slides:
    """Three frames of 0.3 s each; see `preview.Clip`."""

    name, width, height, turns, pixel_aspect, frame_rate = "slides", 8, 8, 0, 1.0, 1 / 0.3
    duration, live = 0.9, False

    def frames(self, position: float) -> Generator[tuple[Frame, float]]:
        for index in range(int(position / 0.3), 3):
            yield slide(index), 0.3 * index


def slide(index: int) -> Frame:
    plane = torch.full((8, 8), index % 200, dtype=torch.uint8)
    return Frame((plane,), 3 * index, Fraction(1, 10), 3, ColorSpec())


class Camera(Slides):
    """Fifty frames per second, of which a driver keeps four until they are read."""

    duration, live = 0.0, True

    def __init__(self) -> None:
        self.began = time.monotonic()

    def frames(self, position: float) -> Generator[tuple[Frame, float]]:
        count = 0
        while True:
            now = int(50 * (time.monotonic() - self.began))
            if count >= now:
                time.sleep(0.005)
                continue
            count = max(count, now - 4) + 1
            yield slide(count), count / 50


class Silent(Slides):
    """A stream whose sender is gone after the first frame."""

    def frames(self, position: float) -> Generator[tuple[Frame, float]]:
        yield slide(0), 0.0
        time.sleep(30)


def test_a_camera_shows_what_is_now_also_after_a_pause() -> None:
    camera = Camera()
    with Player(camera, FakeNetworks(), "fast", 2, paused=True) as player:
        picture(player)
        time.sleep(1.0)
        player.pause(paused=False)
        number = picture(player).number
        for _ in range(30):
            shown = picture(player, number)
            assert time.monotonic() - camera.began - shown.position < 0.3
            number = shown.number
        assert player.status().dropped < 30  # but for the pause


def test_a_slow_network_leaves_out_what_a_camera_sent_meanwhile() -> None:
    camera = Camera()
    with Player(camera, FakeNetworks(0.2), "slow", 2) as player:
        number = 0
        for _ in range(4):
            shown = picture(player, number)
            assert time.monotonic() - camera.began - shown.position < 0.7
            number = shown.number
        assert player.status().dropped > 15


def test_closing_does_not_wait_for_a_silent_source() -> None:
    began = time.monotonic()
    with Player(Silent(), FakeNetworks(), "fast", 2) as player:
        shown = picture(player)
        player.choose(scale=3)
        assert picture(player, shown.number).network.shape == (24, 24, 3)
    assert time.monotonic() - began < 10


def test_the_last_frames_are_stepped_through_and_then_it_is_over() -> None:
    with Player(Slides(), FakeNetworks(), "fast", 2) as player:
        until(lambda: picture(player).position == pytest.approx(0.3))
        assert not player.status().paused  # though all is decoded
        player.step(1)
        assert picture(player, 2).position == pytest.approx(0.6)
        player.pause()
        assert picture(player, 3).position == 0


def test_steps_that_come_at_once_are_frame_by_frame(play: Play) -> None:
    player = play(model="slow", seconds=0.1, position=0.0)
    picture(player, 4)
    with player._changed:  # as messages that arrive together
        before = picture(player)
        player.step(1)
        player.step(1)
    until(lambda: picture(player).position == pytest.approx(before.position + 2 / 30, abs=0.002))
    assert player.wait(picture(player).number, 0.5) is None
    with player._changed:
        player.step(1)
        player.step(-1)
    time.sleep(0.5)
    assert picture(player).position == pytest.approx(before.position + 2 / 30, abs=0.002)


def test_in_a_loop_the_last_frame_stands_as_long_as_the_others() -> None:
    with Player(Slides(), FakeNetworks(), "fast", 2, loop=True) as player:
        last = picture(player)
        while last.position < 0.5:
            last = picture(player, last.number)
        began = time.monotonic()
        first = picture(player, last.number)
        assert first.position == 0
        assert time.monotonic() - began > 0.2
        assert picture(player, first.number).position == pytest.approx(0.3)


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
    player = play(model="slow", seconds=0.3, paused=True)
    first = picture(player)
    player.seek(2.0)
    time.sleep(0.1)
    player.choose(model="fast")
    until(lambda: picture(player, first.number).model == "fast")
    assert picture(player).position == pytest.approx(2.0, abs=0.04)


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
    assert player.status().model == "fast"
    player.step(1)
    assert picture(player, shown.number).position > 0
    player.choose(model="fast")
    assert player.status().notice == ""


def test_a_choice_made_while_another_fails_counts(play: Play) -> None:
    player = play(seconds=0.3, paused=True)
    picture(player)
    player.choose(model="broken")
    time.sleep(0.1)
    player.choose(model="slow")
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


def test_a_slow_network_drops_frames_and_says_so(play: Play) -> None:
    player = play(model="slow", seconds=0.2)
    seen = [picture(player)]
    while seen[-1].position < 2.0:
        seen.append(picture(player, seen[-1].number))
    status = player.status()
    assert status.dropped >= 2.0 * 30 - len(seen) - 12  # but for the ones before the first picture, and those ahead
    assert status.network_ms >= 200
    assert all(later.position > sooner.position for sooner, later in pairwise(seen))


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
    before = threading.active_count()
    for _ in range(3):
        with Player(open_clip(str(media("lossless.mkv"))), FakeNetworks(), "fast", 2) as player:
            picture(player)
    assert threading.active_count() == before


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
