"""What one viewer sees, and what the mouse does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vsr_plugin.preview import DisplayedFrame
from vsr_plugin.preview.canvas import BAR, GROUND, HANDLE, LEAST_WIDTH, STRIP
from vsr_plugin.preview.viewer import Viewer

from .test_canvas import SHOWN, STATUS

HEIGHT, WIDTH = SHOWN.network.shape[:2]  # 300 × 600
PLAIN, NETWORK = (40, 40, 40), (200, 200, 200)
FLAT = replace(SHOWN, plain=np.full_like(SHOWN.plain, 40), network=np.full_like(SHOWN.network, 200))
RAMP = replace(FLAT, network=np.indices((HEIGHT, WIDTH)).sum(0)[..., None].repeat(3, 2).astype(np.uint8))


def drawn(
    viewer: Viewer, shown: DisplayedFrame = FLAT, size: tuple[int, int] = (WIDTH, HEIGHT + STRIP)
) -> np.ndarray[Any, Any]:
    image = viewer.draw(shown, STATUS, [], 0.0, size)
    assert image.shape == (size[1], size[0], 3)
    return image


@pytest.mark.parametrize("size", [(600, 384), (1000, 384), (600, 900), (300, 200), (1920, 1080)])
@pytest.mark.parametrize("aspect", [1.0, 4 / 3])
@pytest.mark.parametrize("view", ["split", "side by side"])
def test_a_frame_fills_a_window_of_any_size_as_far_as_its_shape_allows(
    size: tuple[int, int], aspect: float, view: str
) -> None:
    viewer = Viewer(aspect)
    viewer.view = view
    image = drawn(viewer, size=size)
    inside = (image[: max(1, size[1] - STRIP)] != GROUND).any(2)
    height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
    shape = (2 if view == "side by side" else 1) * WIDTH * aspect / HEIGHT
    assert width / height == pytest.approx(shape, rel=0.03)
    assert width == size[0] or height == len(inside)


def test_a_window_is_as_large_as_the_frame_or_as_there_is_room() -> None:
    viewer = Viewer(1.0)
    assert viewer.natural_size(FLAT, (1280, 1024)) == (LEAST_WIDTH, HEIGHT + STRIP)
    assert viewer.natural_size(FLAT, (1280, 234)) == (LEAST_WIDTH, 150 + STRIP)
    for _ in range(3):
        viewer.next_view()
    assert viewer.natural_size(FLAT, (1000, 1024)) == (1000, 250 + STRIP)
    viewer.figures = False
    assert viewer.natural_size(FLAT, (1000, 1024)) == (1000, 250 + BAR)


def test_the_time_at_the_mouse_stands_above_the_time_bar() -> None:
    viewer = Viewer(1.0)
    plain = drawn(viewer)
    viewer.move(WIDTH // 2, HEIGHT + 5, held=False)
    there = drawn(viewer)
    changed = np.argwhere((there != plain).any(2))
    assert changed[:, 0].min() >= HEIGHT - 30
    assert changed[:, 0].max() < HEIGHT
    assert changed[:, 1].mean() == pytest.approx(WIDTH / 2, abs=10)
    viewer.move(WIDTH - 1, HEIGHT + 5, held=False)
    assert (drawn(viewer) != plain)[:, -20:].any(), "all of it is inside"
    viewer.move(WIDTH // 2, HEIGHT - 50, held=False)
    assert (drawn(viewer) == plain).all()


def test_the_split_line_follows_the_mouse() -> None:
    viewer = Viewer(1.0)
    drawn(viewer)
    assert viewer.press(150, 20) is None
    for x, part in ((150, 0.25), (480, 0.8), (-50, 0.0), (9999, 1.0)):
        assert viewer.move(x, 20) is None
        assert viewer.split == part
    viewer.move(300, 20, held=False)
    viewer.move(300, 20)
    assert viewer.split == 1.0, "it was let go"
    viewer.press(150, 200)
    row = drawn(viewer)[250]
    assert (row[20:140] == PLAIN).all()
    assert (row[160:] == NETWORK).all()
    viewer.next_view()
    viewer.press(480, 100)
    assert viewer.split == 0.25, "there is no line in this view"


def test_a_drag_on_the_time_bar_goes_where_the_mouse_is() -> None:
    viewer = Viewer(1.0)
    drawn(viewer)
    assert viewer.press(200, HEIGHT + BAR // 2) == pytest.approx(1 / 3)
    assert viewer.move(400, 10) == pytest.approx(2 / 3)  # not so steady a hand
    assert viewer.move(-5, HEIGHT) == 0.0
    assert viewer.split == 0.5
    assert viewer.move(100, HEIGHT, held=False) is None
    assert viewer.press(200, HEIGHT + BAR + 30) is None


def test_at_100_percent_a_pixel_is_a_pixel_and_the_frame_can_be_dragged() -> None:
    viewer = Viewer(1.0)
    viewer.view, viewer.actual = "network", True
    size = (200, 100 + STRIP)

    def seen() -> np.ndarray[Any, Any]:
        return drawn(viewer, RAMP, size)[60:90, 120:190]

    assert (seen() == RAMP.network[160:190, 320:390]).all(), "the middle"
    viewer.press(100, 50)
    viewer.move(90, 45)
    assert (seen() == RAMP.network[165:195, 330:400]).all()
    viewer.move(-9999, -9999)
    assert (seen() == RAMP.network[260:290, 520:590]).all(), "no farther than its edge"
    viewer.move(0, 0, held=False)


def test_at_100_percent_the_line_is_moved_by_its_handle_and_stays_when_the_frame_is_dragged() -> None:
    viewer = Viewer(1.0)
    viewer.actual = True
    size = (200, 100 + STRIP)
    drawn(viewer, size=size)
    viewer.press(100 + HANDLE, 50)
    viewer.move(150, 50)
    assert viewer.split == 150 / 200
    viewer.move(150, 50, held=False)
    drawn(viewer, size=size)
    for x, to in ((20, 9999), (20, -9999)):
        viewer.press(x, 50)
        viewer.move(to, 50)
        viewer.move(to, 50, held=False)
        row = drawn(viewer, size=size)[90]
        assert viewer.split == 150 / 200
        assert (row[:148] == PLAIN).all(), "bicubic to the left of the line, at either edge of the frame"
        assert (row[152:] == NETWORK).all()


def test_the_loupe_magnifies_what_is_under_the_mouse_from_2_to_16_times() -> None:
    viewer = Viewer(1.0)
    size = (1600, 800 + STRIP)
    viewer.magnify(-1)
    assert (viewer.loupe, viewer.zoom) == (True, 4), "it is there first"
    zooms = []
    for step in (-1, -1, 1, 1, 1, 1):
        viewer.magnify(step)
        zooms.append(viewer.zoom)
    assert zooms == [2, 2, 4, 8, 16, 16]
    viewer.zoom = 4
    drawn(viewer, SHOWN, size)
    viewer.move(1500, 700, held=False)
    image = drawn(viewer, SHOWN, size)
    top, left = 12 + 2 + 22, 12 + 2
    seen = image[top : top + 280 : 4, left : left + 400 : 4]
    assert seen.shape == (70, 100, 3)
    assert (image[top : top + 280, left : left + 400] == seen.repeat(4, 0).repeat(4, 1)).all()
    rows = np.lib.stride_tricks.sliding_window_view(SHOWN.plain[..., 0], (70, 100))
    y, x = np.argwhere((rows == seen[..., 0]).all((2, 3)))[0]
    at = (1500 / 1600 * WIDTH, 700 / 800 * HEIGHT)
    assert x <= at[0] <= x + 100
    assert y <= at[1] <= y + 70


def test_a_window_of_next_to_no_size_is_drawn() -> None:
    viewer = Viewer(1.0)
    viewer.loupe = viewer.keys = True
    for view in range(4):
        for size in ((1, 1), (3, STRIP), (40, STRIP + 5), (120, 130)):
            viewer.actual = view % 2 == 0
            drawn(viewer, size=size)
        viewer.next_view()


def test_keys_and_figures_are_drawn_if_wanted() -> None:
    viewer = Viewer(1.0)
    before = drawn(viewer)
    viewer.keys = True
    assert (drawn(viewer)[:HEIGHT] != before[:HEIGHT]).any()
    viewer.keys = viewer.figures = False
    assert (drawn(viewer, size=(WIDTH, HEIGHT + BAR))[:HEIGHT] == before[:HEIGHT]).all()
