from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vsr_plugin.preview import VIEWS, DisplayedFrame, Status
from vsr_plugin.preview.canvas import BAR, STRIP, add_keys, add_labels, add_loupe, clock, compose, figures, strip

HEIGHT, WIDTH = 300, 600
GENERATOR = np.random.default_rng(0)
SHOWN = DisplayedFrame(
    1,
    2.0,
    "bicubic",
    "espcn",
    GENERATOR.integers(0, 120, (HEIGHT, WIDTH, 3), np.uint8),
    GENERATOR.integers(130, 255, (HEIGHT, WIDTH, 3), np.uint8),
)
STATUS = Status(
    name="in.mp4",
    model="espcn",
    models=("espcn",),
    scale=3,
    scales=(2, 3),
    baseline="bicubic",
    seen="espcn",
    seen_scale=3,
    seen_width=600,
    seen_height=300,
    width=200,
    height=100,
    pixel_aspect=1.0,
    runs_on="eager on cpu",
    source_fps=25.0,
    shown_fps=24.5,
    dropped=3,
    decode_ms=1.0,
    network_ms=20.25,
    display_ms=3.0,
    position=30.0,
    target=30.0,
    duration=120.0,
    paused=True,
    notice="",
    command="",
)


@pytest.mark.parametrize("split", [0.0, 0.25, 0.8, 1.0])
def test_the_split_shows_bicubic_to_its_left_and_the_network_to_its_right(split: float) -> None:
    image = compose(SHOWN, "split", split)
    column = round(split * WIDTH)
    assert (image[:, :column] == SHOWN.plain[:, :column]).all()
    assert (image[:, column:] == SHOWN.network[:, column:]).all()
    assert SHOWN.network.min() >= 130, "what is drawn into is a copy"


def test_the_other_views() -> None:
    assert (compose(SHOWN, "network", 0.5) == SHOWN.network).all()
    both = compose(SHOWN, "side by side", 0.5)
    assert (both == np.concatenate([SHOWN.plain, SHOWN.network], 1)).all()
    near = DisplayedFrame(1, 0.0, "bicubic", "espcn", SHOWN.network - np.uint8(3), SHOWN.network)
    assert (compose(near, "difference", 0.5) == 128 + 8 * 3).all()
    assert (
        compose(DisplayedFrame(1, 0.0, "bicubic", "espcn", SHOWN.network, SHOWN.network), "difference", 0.5) == 128
    ).all()
    assert VIEWS == ("split", "network", "difference", "side by side")


@pytest.mark.parametrize(
    ("view", "lines", "named"),
    [
        ("split", [150], [slice(60, 140), slice(160, 240)]),
        ("side by side", [300], [slice(210, 290), slice(310, 390)]),
        ("network", [], [slice(10, 90)]),
        ("difference", [], [slice(10, 200)]),
    ],
)
def test_a_line_parts_the_images_and_each_is_named(view: str, lines: list[int], named: list[slice]) -> None:
    image = np.full((300, 600, 3), 90, np.uint8)
    add_labels(image, SHOWN, view, {"split": 150}.get(view, 300))
    changed = (image != 90).any((0, 2))
    below = np.flatnonzero((image[40:120] != 90).any((0, 2)))
    assert below.tolist() == [column for line in lines for column in (line - 1, line)]
    assert all(changed[where].any() for where in named)
    assert (image[40:120, below] == 255).all()
    handle = (image[134:167, 134:167] != 90).any(2).mean()
    assert (handle > 0.6) == (view == "split")


@pytest.mark.parametrize("mouse", [(0, 0), (300, 150), (599, 299)])
def test_the_loupe_is_labelled_and_leaves_the_mouse_free(mouse: tuple[int, int]) -> None:
    image = np.full_like(SHOWN.network, 1)
    add_loupe(image, replace(SHOWN, plain=SHOWN.network), mouse, mouse, 2)
    changed = (image != 1).any(2)
    assert not changed[mouse[1], mouse[0]]
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    title = image[rows[0] + 2 : rows[0] + 22, columns[0] + 2 : columns[-1] - 1]
    half = title.shape[1] // 2
    assert (title[:, :half].max(), title[:, half + 2 :].max()) > (200, 200)
    small = np.zeros((20, 30, 3), np.uint8)
    add_loupe(small, replace(SHOWN, plain=small, network=small + np.uint8(9)), (5, 5), (5, 5), 8)  # smaller than it


def test_the_strip_shows_where_and_how_well() -> None:
    image = strip(STATUS, [(0.5 * i, 20.0 + i) for i in range(20)], 900, 10.0, 1.0)
    assert image.shape == (STRIP, 900, 3)
    bar = image[BAR // 2]
    played = (bar == bar[0]).all(1).sum()
    assert played == pytest.approx(900 * 30 / 120, abs=2)
    other = strip(STATUS, [], 900, 10.0, 1.0)
    assert (image[:, 700:] != other[:, 700:]).any(), "the graph"
    assert (strip(STATUS, [], 200, 0.0, 1.0)[BAR:] != image[-1, 0]).any(), "words, in a narrow one"


@pytest.mark.parametrize("width", [500, 640])
def test_a_narrow_strip_has_all_figures_and_marks_what_it_cuts(width: int) -> None:
    slow = replace(STATUS, source_fps=23.976, dropped=12345, decode_ms=123.4, network_ms=1234.5, display_ms=12.3)
    assert (strip(slow, [], width, 0.0, 1.0) != strip(replace(slow, display_ms=12.4), [], width, 0.0, 1.0)).any(), (
        "its last"
    )
    command = "vsr-encode /home/somebody/Videos/holidays/2024/a_long_name_of_a_film.mkv -m edsr-baseline"
    said = [strip(replace(STATUS, notice=command + " -x 2" * times), [], width, 0.0, 1.0) for times in (9, 10)]
    assert (said[0] == said[1]).all()
    assert (said[0][BAR + 42 : BAR + 55, width - 19 :] == said[0][-1, 0]).all(), "no letter above the dots at its end"


def test_the_figures_say_everything() -> None:
    lines = figures(STATUS, 0.5)
    assert lines[0] == "espcn ×3   200×100 → 600×300, shown at 50 %   eager on cpu"
    assert lines[1] == "25 fps, shown 24.5, dropped 3   decode 1.0  network 20.2  display 3.0 ms"
    assert lines[2] == "? keys   paused   0:00:30.00 of 0:02:00.00   in.mp4"
    assert clock(3723.46) == "1:02:03.46"


def test_the_keys_are_drawn_into_images_of_any_size() -> None:
    for shape in ((400, 700, 3), (40, 60, 3)):
        image = np.full(shape, 200, np.uint8)
        add_keys(image, ("espcn", "fsrcnn"))
        assert (image != 200).any()
    narrow = np.full((400, 500, 3), 200, np.uint8)
    add_keys(narrow, ("espcn", "fsrcnn"))
    assert (narrow[14:360, 80:94] == 200 // 5).all(), "the keys to the left, what they do to the right"
