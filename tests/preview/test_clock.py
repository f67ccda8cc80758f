from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest

from vsr_plugin.preview.clock import Clock

FPS = Fraction(24)


def simulate(cost: float, frames: int = 240, decode: float = 0.0) -> tuple[list[tuple[float, float]], Clock]:
    """(position, time shown) of a clip whose pictures cost so much, one after the other, in time that we make."""
    now = 0.0
    clock = Clock(lambda: now)
    shown = []
    for index in range(frames):
        position = float(index / FPS)
        now += decode
        if not clock.has_time_for(position, float(1 / FPS)):
            continue
        now += cost
        clock.spent(cost)
        now = max(now, clock.due(position))
        shown.append((position, now))
    return shown, clock


def test_a_fast_network_shows_every_frame_at_its_time() -> None:
    shown, clock = simulate(0.030)
    assert clock.dropped == 0
    first = shown[0][1]
    assert [time - first for _, time in shown] == pytest.approx([position for position, _ in shown])


@pytest.mark.parametrize("cost", [0.045, 0.060, 0.080, 0.090, 0.200, 1.5])
def test_a_slow_network_leaves_frames_out_and_stays_even(cost: float) -> None:
    shown, clock = simulate(cost)
    assert len(shown) + clock.dropped == 240
    first = shown[0][1] - shown[0][0]
    lags = [time - first - position for position, time in shown]
    assert max(lags) < 1 / FPS + cost
    gaps = [later[1] - sooner[1] for sooner, later in pairwise(shown[5:])]
    assert max(gaps) - min(gaps) <= float(1 / FPS) + 1e-9
    assert min(gaps) >= cost - 1e-9
    assert len(shown) == pytest.approx(10 / max(cost, 1 / 24), rel=0.12)  # as many as there is time for


def test_eighty_milliseconds_at_24_fps_show_every_second_frame_evenly() -> None:
    shown, clock = simulate(0.080)
    gaps = [later[1] - sooner[1] for sooner, later in pairwise(shown[2:])]
    assert max(gaps) - min(gaps) < 0.004
    assert clock.dropped == 240 - len(shown)
    assert len(shown) == pytest.approx(120, abs=6)


def test_where_decoding_alone_is_too_slow_time_waits() -> None:
    shown, _ = simulate(0.010, decode=0.100)
    assert len(shown) >= 10  # in 24 seconds
    gaps = [later[1] - sooner[1] for sooner, later in pairwise(shown)]
    assert max(gaps) < 2.0


def test_one_hiccup_is_caught_up_with() -> None:
    now = 0.0
    clock = Clock(lambda: now)
    late = []
    for index in range(48):
        position = float(index / FPS)
        if clock.has_time_for(position, float(1 / FPS)):
            cost = 0.3 if index == 10 else 0.02
            now += cost
            clock.spent(cost)
            due = clock.due(position)
            late.append(now - due)
            now = max(now, due)
    assert 0 < clock.dropped < 12
    assert late[-1] <= 0


def test_a_stop_forgets_the_time() -> None:
    now = 5.0
    clock = Clock(lambda: now)
    clock.due(0.0)
    clock.spent(0.5)
    assert not clock.has_time_for(0.1, 0.04)
    assert clock.dropped == 1
    clock.stop()
    assert clock.cost == 0.0
    assert clock.has_time_for(99.0, 0.04)
    assert clock.due(99.0) == now
