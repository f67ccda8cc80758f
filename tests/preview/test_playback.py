"""What is played, without threads and without time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.preview import DisplayedFrame
from vsr_plugin.preview.clock import Clock
from vsr_plugin.preview.playback import Playback, Task
from vsr_plugin.preview.stages import DecodedFrame, EnlargedFrame, Look, Seek

FAST, SLOW = Look("fast", 2), Look("slow", 2)
IMAGE = np.zeros((2, 2, 3), np.uint8)


class Machine:
    """Does what a playback asks for, in time that passes when a test says so.

    Args:
        count: Frames of the clip.
        fps: Of the clip.
        cost: Seconds that the network takes for a frame.
        how: Fields of the playback.
    """

    def __init__(self, count: int = 3, fps: int = 10, cost: float = 0.0, **how: object) -> None:
        self.now, self.cost = 100.0, cost
        self.clip = [
            DecodedFrame(Frame((np.zeros((2, 2), np.uint8),), index, Fraction(1, fps), 1, ColorSpec()), index / fps)
            for index in range(count)
        ]
        self.next = 0
        start = {"wanted": FAST, "opened": FAST, "duration": count / fps, "seeking": Seek(0.0), "target": 0.0}
        self.playback = Playback(**{**start, **how})  # type: ignore[arg-type]
        self.seen: list[tuple[str, float]] = []  # what was displayed: by which network, and where

    def do(self, method: str, *args: object, **how: object) -> None:
        self.playback = getattr(self.playback, method)(*args, **how)

    @property
    def positions(self) -> list[float]:
        return [round(position, 3) for _, position in self.seen]

    def prepare(self, *, drafts: bool = True) -> bool:
        """Whether there was something to do before the network."""
        empty = self.next == len(self.clip)
        at_end = empty and not self.playback.live
        task = self.playback.to_prepare(at_end=at_end)
        if task is Task.READ:
            seek = self.playback.seeking
            assert seek is not None
            self.next = next(
                (i for i, each in reversed(list(enumerate(self.clip))) if each.position <= seek.position), 0
            )
            self.do("read")
        elif task is Task.TAKE and at_end:
            self.do("end")
        elif task is Task.TAKE and not empty:
            self.do("take", self.clip[self.next], self.now)
            self.next += 1
        elif task is Task.DRAFT and drafts:
            self.do("enlarge", self.playback.session, self.made(self.playback, is_draft=True), None, self.now)
        else:
            return False
        return True

    def made(self, playback: Playback, *, is_draft: bool = False) -> EnlargedFrame:
        """The first pending frame."""
        pending, look = playback.pending[0], playback.wanted
        shown = DisplayedFrame(0, pending.decoded.position, "bicubic", "" if is_draft else look.model, IMAGE, IMAGE)
        return EnlargedFrame(pending, shown, look.scale, is_draft=is_draft)

    def enlarge(self) -> bool:
        """Whether there was something to do with the network."""
        task = self.playback.to_enlarge()
        if task is Task.OPEN:
            self.do("open", self.playback.wanted)
        elif task is Task.ENLARGE:
            before, began = self.playback, self.now
            self.pass_by(self.cost)
            self.do("enlarge", before.session, self.made(before), self.now - began, self.now)
        else:
            return False
        return True

    def display(self) -> bool:
        """Whether there was something to display."""
        due = self.playback.display_at(self.now)
        if due is None or due > self.now:
            return False
        self.do("display", self.now)
        shown = self.playback.displayed
        assert shown is not None
        self.seen.append((shown.shown.model, shown.shown.position))
        assert shown.shown.number == len(self.seen)
        return True

    def settle(self, *, network: bool = True) -> None:
        """Do all that can be done now."""
        while self.prepare() or self.display() or (network and self.enlarge()):
            pass

    def pass_by(self, seconds: float) -> None:
        """Let time pass, in which all is displayed that is due."""
        end = self.now + seconds
        while (due := self.playback.display_at(self.now)) is not None and due <= end:
            self.now = max(self.now, due)
            self.display()
        self.now = end

    def play(self, seconds: float) -> None:
        """Let time pass, in which everything is done."""
        end = self.now + seconds
        self.settle()
        while self.now < end:
            due = self.playback.display_at(self.now)
            self.pass_by(min(end - self.now, max(1e-6, (due or end) - self.now)))
            self.settle()


def test_a_clip_plays_at_its_timestamps_and_begins_again_at_the_end() -> None:
    machine = Machine()
    machine.settle()
    assert machine.positions == [0.0]
    machine.pass_by(0.09)
    machine.settle()
    assert machine.positions == [0.0]
    machine.play(0.2)
    assert machine.positions == [0.0, 0.1, 0.2]
    assert machine.playback.over
    machine.do("pause")
    machine.settle()
    assert machine.positions == [0.0, 0.1, 0.2, 0.0]
    machine.play(0.1)
    assert machine.positions[-1] == 0.1


def test_pause_stands_still_and_goes_on() -> None:
    machine = Machine()
    machine.settle()
    machine.do("pause")
    machine.play(5.0)
    assert machine.positions == [0.0]
    machine.do("pause")
    machine.play(0.1)
    assert machine.positions == [0.0, 0.1]
    machine.do("pause", paused=True)
    machine.do("pause", paused=True)
    assert machine.playback.paused


def test_in_a_loop_the_last_frame_stands_as_long_as_the_others() -> None:
    machine = Machine(loop=True)
    machine.settle()
    for count in range(2, 9):
        machine.play(0.09)
        assert len(machine.seen) == count - 1
        machine.play(0.0101)
        assert len(machine.seen) == count
    assert machine.positions == [0.0, 0.1, 0.2, 0.0, 0.1, 0.2, 0.0, 0.1]
    assert not machine.playback.over


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize(("to", "found"), [(0.25, 0.2), (0.3, 0.3), (99.0, 0.9), (-1.0, 0.0)])
def test_a_seek_displays_the_frame_that_is_seen_there(to: float, found: float, *, paused: bool) -> None:
    machine = Machine(10, paused=paused)
    machine.settle()
    machine.do("seek", to)
    assert machine.playback.position == pytest.approx(min(max(to, 0.0), 1.0))  # the bar does not go back
    machine.settle()
    assert machine.positions == [0.0, found]
    assert machine.playback.position == pytest.approx(found)


def test_without_a_duration_there_is_no_seeking() -> None:
    machine = Machine(duration=0.0)
    machine.settle()
    machine.do("seek", 0.2)
    machine.do("skip", 1.0)
    assert machine.playback.seeking is None


def test_skips_that_come_fast_add_up() -> None:
    machine = Machine(10, paused=True)
    machine.settle()
    for _ in range(3):
        machine.do("skip", 0.2)
    machine.settle()
    assert machine.positions == [0.0, 0.6]


def test_a_frame_that_is_made_for_another_place_is_not_displayed() -> None:
    machine = Machine(10, paused=True)
    machine.settle()
    machine.do("seek", 0.5)
    machine.prepare(), machine.prepare()
    before = machine.playback
    assert before.to_enlarge() is Task.ENLARGE
    machine.do("seek", 0.7)
    machine.do("enlarge", before.session, machine.made(before), 0.1, machine.now)
    machine.do("take", machine.clip[6], machine.now)  # read for the place before
    machine.do("end")
    machine.settle()
    assert machine.positions == [0.0, 0.7]


@pytest.mark.parametrize("paused", [False, True])
def test_steps_go_frame_by_frame_both_ways(*, paused: bool) -> None:
    machine = Machine(10, paused=paused)
    machine.settle()
    for step in (1, 1, 1, -1, -1, 1):
        machine.do("step", step)
        machine.settle()
    assert machine.positions == [0.0, 0.1, 0.2, 0.3, 0.2, 0.1, 0.2]


def test_steps_that_come_at_once_are_frame_by_frame() -> None:
    machine = Machine(10)
    machine.settle()
    for steps, expected in (((1, 1), 0.2), ((1, -1), 0.2), ((1, 1, 1), 0.5), ((-1, -1), 0.3)):
        for step in steps:
            machine.do("step", step)
        machine.settle()
        assert machine.positions[-1] == expected


def test_a_step_while_a_frame_is_made_displays_that_one() -> None:
    machine = Machine(10)
    machine.settle()
    machine.play(0.15)
    while machine.playback.queue:
        machine.pass_by(0.1)
    machine.prepare()
    assert machine.playback.pending
    coming = machine.playback.pending[0].decoded.position
    machine.do("step", 1)
    machine.settle()
    assert machine.positions[-1] == pytest.approx(coming)


def test_a_step_after_frames_were_dropped_displays_the_first_of_them() -> None:
    machine = Machine(40)
    machine.settle()
    machine.now += 0.75  # something else was in the way
    machine.settle()
    assert machine.playback.dropped > 0
    before = machine.positions[-1]
    machine.do("step", 1)
    machine.settle()
    assert machine.positions[-1] == pytest.approx(before + 0.1)


def test_the_last_frames_are_stepped_through_and_then_it_is_over() -> None:
    machine = Machine()
    machine.settle()
    assert not machine.playback.over
    for step in range(4):
        machine.do("step", 1)
        machine.settle()
        assert machine.positions[-1] == min(0.1 * (step + 1), 0.2)
    assert machine.playback.over
    machine.do("pause")
    machine.settle()
    assert machine.positions[-1] == 0.0


@pytest.mark.parametrize("cost", [0.08, 0.2, 0.45])
def test_a_slow_network_drops_frames_and_counts_them(cost: float) -> None:
    machine = Machine(90, 30, cost)
    machine.settle()
    while not machine.playback.over:
        machine.play(0.01)
    by_network = [position for model, position in machine.seen if model]
    assert len(by_network) + machine.playback.dropped == 90, "every frame is displayed, or counted"
    assert machine.positions[-1] == pytest.approx(89 / 30, abs=0.001), "what is on the screen in the end is the end"
    as_many_as_there_is_time_for = 3 / cost
    at_the_ends = 5  # the first ones are made before time begins, the last one whether there is time or not
    assert 0.85 * as_many_as_there_is_time_for - 1 < len(by_network) < 1.15 * as_many_as_there_is_time_for + at_the_ends
    assert by_network == sorted(set(by_network))


def test_a_fast_network_drops_none() -> None:
    machine = Machine(90, 30)
    machine.play(4.0)
    assert len(machine.seen) == 90
    assert machine.playback.dropped == 0


def test_a_camera_shows_what_is_now() -> None:
    machine = Machine(100, duration=0.0, live=True)
    later, machine.clip = machine.clip, machine.clip[:1]
    machine.settle()
    machine.do("pause")
    for newest in (50, 80):
        machine.do("miss", 29)  # nobody missed anything while time stood still
        machine.clip.append(later[newest])
        machine.settle()
        machine.do("step", 1)
        machine.settle()
        assert machine.positions[-1] == newest / 10
    machine.do("pause")
    machine.clip += later[98:]
    machine.do("miss", 17)
    machine.settle()
    assert machine.positions == [0.0, 5.0, 8.0, 9.8, 9.9]
    assert machine.playback.dropped == 17


# Another network.


@pytest.mark.parametrize("paused", [False, True])
def test_another_network_takes_over_where_the_clip_is(*, paused: bool) -> None:
    machine = Machine(paused=paused)
    machine.settle()
    machine.do("choose", SLOW)
    assert not machine.playback.settled
    machine.settle()
    assert machine.seen == [("fast", 0.0), ("slow", 0.0)]
    machine.do("pause", paused=False)
    machine.play(0.3)
    assert machine.positions == [0.0, 0.0, 0.1, 0.2], "also what was ready already"
    assert {model for model, _ in machine.seen[1:]} == {"slow"}


def test_another_network_on_the_way_to_another_place_goes_there() -> None:
    for done in range(4):
        machine = Machine(10, paused=True)
        machine.settle()
        machine.do("seek", 0.7)
        for _ in range(done):
            machine.prepare()
        machine.do("choose", SLOW)
        machine.do("choose", replace(SLOW, scale=3))
        machine.settle()
        assert machine.seen == [("fast", 0.0), ("slow", 0.7)]


def test_a_network_that_does_not_open_is_said_and_the_old_one_stays() -> None:
    machine = Machine(paused=True)
    machine.settle()
    machine.do("choose", SLOW)
    machine.do("open", SLOW, "no such luck")
    assert machine.playback.notice == "no such luck"
    machine.settle()
    assert machine.playback.wanted == FAST
    assert machine.seen == [("fast", 0.0)]
    machine.do("step", 1)
    machine.settle()
    assert machine.seen[-1] == ("fast", 0.1)
    machine.do("choose", FAST)
    assert machine.playback.notice == ""
    machine.do("choose", SLOW)
    machine.settle(network=False)
    machine.pass_by(0.2)
    assert machine.seen[-1] == ("", 0.1)
    machine.do("open", SLOW, "no such luck")
    machine.settle()
    assert machine.seen[-1] == ("fast", 0.1)


def test_a_choice_made_while_another_fails_counts() -> None:
    machine = Machine(paused=True)
    machine.settle()
    machine.do("choose", replace(SLOW, model="broken"))
    machine.do("choose", SLOW)
    machine.do("open", Look("broken", 2), "no such luck")
    assert machine.playback.notice == ""
    machine.settle()
    assert machine.seen[-1] == ("slow", 0.0)


# Drafts.


def test_a_seek_shows_the_baseline_at_once_where_the_network_is_slow() -> None:
    machine = Machine(10, cost=2.0, paused=True)
    machine.settle()
    machine.do("seek", 0.5)
    machine.settle(network=False)
    assert machine.seen[-1] == ("", 0.5)
    machine.do("seek", 0.7)
    machine.settle()
    assert machine.seen[-2:] == [("", 0.7), ("fast", 0.7)]
    assert machine.playback.draft is None


def test_no_draft_is_seen_where_the_network_is_fast() -> None:
    machine = Machine(10, cost=0.01, paused=True)
    machine.settle()
    machine.do("seek", 0.5)
    machine.settle()
    machine.do("choose", SLOW)
    machine.settle()
    assert machine.seen == [("fast", 0.0), ("fast", 0.5), ("slow", 0.5)]


def test_another_network_that_takes_its_time_leaves_the_baseline_meanwhile() -> None:
    machine = Machine(10, cost=0.01, paused=True)
    machine.settle()
    machine.do("choose", SLOW)
    machine.settle(network=False)
    assert machine.seen == [("fast", 0.0)], "it may be there at once"
    machine.pass_by(0.11)
    assert machine.seen == [("fast", 0.0), ("", 0.0)]
    machine.settle()
    assert machine.seen == [("fast", 0.0), ("", 0.0), ("slow", 0.0)]
    machine.do("step", 1)
    machine.settle()
    assert machine.positions[-1] == 0.1


def test_a_draft_that_comes_too_late_is_not_displayed() -> None:
    machine = Machine(10, paused=True)
    machine.settle()
    machine.do("choose", SLOW)
    draft = machine.made(machine.playback, is_draft=True)
    session = machine.playback.session
    while machine.prepare(drafts=False) or machine.enlarge():
        pass
    machine.do("enlarge", session, draft, None, machine.now)
    machine.settle()
    assert machine.seen == [("fast", 0.0), ("slow", 0.0)]


# The clock.


def simulate(cost: float, frames: int = 240, decode: float = 0.0) -> tuple[list[tuple[float, float]], int]:
    """(position, when displayed) of a clip at 24 fps whose frames cost so much one by one, and how many are dropped."""
    now, clock = 0.0, Clock()
    shown = []
    for index in range(frames):
        position = index / 24
        now += decode
        if not clock.has_time_for(position, 1 / 24, now):
            continue
        now += cost
        clock = clock.spent(cost)
        now = max(now, clock.due(position, now))
        clock = clock.started(position, now)
        shown.append((position, now))
    return shown, frames - len(shown)


@pytest.mark.parametrize("cost", [0.030, 0.045, 0.060, 0.080, 0.090, 0.200, 1.5])
def test_frames_are_evenly_spaced_and_as_many_as_there_is_time_for(cost: float) -> None:
    shown, dropped = simulate(cost)
    assert (dropped == 0) == (cost < 1 / 24)
    lags = [time - shown[0][1] - position for position, time in shown]
    assert max(lags) < 1 / 24 + cost
    gaps = [later[1] - sooner[1] for sooner, later in pairwise(shown[5:])]
    assert max(gaps) - min(gaps) <= 1 / 24 + 1e-9
    assert min(gaps) >= cost - 1e-9
    assert len(shown) == pytest.approx(10 / max(cost, 1 / 24), rel=0.12)


def test_eighty_milliseconds_at_24_fps_show_every_second_frame_evenly() -> None:
    shown, _ = simulate(0.080)
    gaps = [later[1] - sooner[1] for sooner, later in pairwise(shown[2:])]
    assert max(gaps) - min(gaps) < 0.004
    assert len(shown) == pytest.approx(120, abs=6)


def test_where_decoding_alone_is_too_slow_time_waits() -> None:
    shown, _ = simulate(0.010, decode=0.100)
    assert len(shown) >= 10  # in 24 seconds
    assert max(later[1] - sooner[1] for sooner, later in pairwise(shown)) < 2.0


def test_one_hiccup_is_caught_up_with() -> None:
    machine = Machine(48, 24, cost=0.02)
    machine.play(0.4)
    machine.now += 0.3
    machine.play(2.0)
    assert machine.playback.over
    assert 0 < machine.playback.dropped < 12
