"""Frames check themselves."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from vsr_plugin.errors import UsageError
from vsr_plugin.frames import ChromaLocation, ColorSpec, Frame, Matrix, Range

if TYPE_CHECKING:
    from vsr_plugin.frames import Samples


def plane(height: int, width: int, dtype: Any = np.uint8) -> Samples:
    return np.zeros((height, width), dtype)


def frame(*planes: Samples, **color: Any) -> Frame:
    return Frame(planes, 0, Fraction(1, 25), color=ColorSpec(**color))


def test_chroma_shapes_round_up() -> None:
    shapes = {(1, 1): (3, 4), (1, 0): (5, 4), (0, 0): (5, 7), (2, 0): (5, 2), (2, 2): (2, 2), (0, 1): (3, 7)}
    for subsampling, shape in shapes.items():
        assert ColorSpec(subsampling=subsampling).chroma_shape(5, 7) == shape
        whole = frame(plane(5, 7), plane(*shape), plane(*shape), subsampling=subsampling)
        assert (whole.height, whole.width) == (5, 7)


@pytest.mark.parametrize(
    ("planes", "color", "message"),
    [
        ((), {}, "Expected 1 to 4 planes"),
        ((plane(4, 4),) * 5, {}, "Expected 1 to 4 planes"),
        ((plane(4, 4), plane(4, 4), plane(4, 4)), {"subsampling": (1, 1)}, "Expected plane 1 of shape (2, 2)"),
        ((plane(4, 4), plane(3, 4)), {}, "Expected plane 1 of shape (4, 4), got (3, 4)"),
        ((plane(4, 4),), {"depth": 10}, "Expected uint16 samples for 10 bits, got uint8"),
        ((plane(4, 4, np.uint16),), {}, "Expected uint8 samples for 8 bits, got uint16"),
        ((plane(4, 4),), {"matrix": Matrix.RGB}, "Expected three planes for RGB"),
    ],
)
def test_contradictions_are_refused(planes: Any, color: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        frame(*planes, **color)
    assert message in str(caught.value)


@pytest.mark.parametrize("color", [{"depth": 7}, {"depth": 17}, {"matrix": Matrix.RGB, "subsampling": (1, 1)}])
def test_formats_that_no_one_supports_are_refused(color: Any) -> None:
    with pytest.raises(UsageError):
        ColorSpec(**color)


def test_frames_are_equal_only_to_themselves() -> None:
    one = frame(plane(4, 4))
    assert one == one
    assert one != frame(plane(4, 4))
    assert len({one, frame(plane(4, 4))}) == 2


def test_kinds_of_frames() -> None:
    kinds = [frame(*[plane(2, 2)] * count) for count in (1, 2, 3, 4)]
    assert [kind.is_gray for kind in kinds] == [True, True, False, False]
    assert [kind.has_alpha for kind in kinds] == [False, True, False, True]


def test_geometry_is_what_a_batch_shares() -> None:
    a = frame(plane(2, 2))
    assert a.geometry == Frame((plane(2, 2),), 7, Fraction(1, 30), color=ColorSpec()).geometry
    for other in (
        frame(plane(2, 3)),
        frame(plane(2, 2), plane(2, 2)),
        frame(plane(2, 2), range=Range.FULL),
        frame(plane(2, 2), chroma_location=ChromaLocation.CENTER),
    ):
        assert a.geometry != other.geometry


def test_a_frame_prints_its_shape_and_not_its_samples() -> None:
    text = repr(frame(plane(2, 3), depth=8))
    assert text == "Frame(3×2 gray 8-bit, pts=0·1/25s)"
