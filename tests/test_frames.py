"""Frames check themselves."""

from __future__ import annotations

import pickle
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


def test_a_pickled_frame_is_as_small_as_its_memory() -> None:
    color = ColorSpec(depth=10, subsampling=(1, 1))
    shapes = [(2160, 3840), (1080, 1920), (1080, 1920)]
    whole = Frame(
        tuple(np.broadcast_to(np.full(1, value, np.uint16), shape) for value, shape in enumerate(shapes)),
        7, Fraction(1, 25), color=color, side_data={"A": b"b"}, sample_aspect_ratio=Fraction(4, 3),
    )  # fmt: skip
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        pickled = pickle.dumps(whole, protocol)
        assert len(pickled) < 2000
        again = pickle.loads(pickled)
        assert again.repeats(whole)
        assert (again.pts, again.time_base, again.side_data) == (7, Fraction(1, 25), {"A": b"b"})


@pytest.mark.parametrize("steps", [(1, 1), (-1, 2), (3, -1)])
def test_a_pickled_frame_has_its_samples(steps: tuple[int, int]) -> None:
    samples = np.arange(35, dtype=np.uint8).reshape(5, 7)
    row = np.broadcast_to(np.arange(7, dtype=np.uint8), (5, 7))
    for one in (samples, row, row.T, samples[:1], samples[:, :1]):
        given = frame(one[:: steps[0], :: steps[1]])
        assert pickle.loads(pickle.dumps(given)).repeats(given)
