"""Images as arrays: in and out in one type, the same samples as through frames."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from vsr_plugin import ColorSpec, Execution, Frame, Matrix, Range, Upscaler, UsageError
from vsr_plugin.arrays import as_tensor, check_finite, magnitude

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = {"gray": (20, 30), "one channel": (20, 30, 1), "rgb": (20, 30, 3), "rgba": (20, 30, 4)}


@pytest.fixture(scope="module")
def espcn() -> Iterator[Upscaler]:
    with Upscaler("espcn", 2, Execution(backend="eager", device="cpu", precision="float32")) as upscaler:
        yield upscaler


def noise(shape: tuple[int, ...], kind: str) -> Any:
    values = np.random.default_rng(1).random(shape)
    return values.astype(kind) if kind.startswith("float") else (values * np.iinfo(kind).max).astype(kind)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_an_image_comes_out_in_its_own_type(espcn: Upscaler, shape: tuple[int, ...], kind: str) -> None:
    image = noise(shape, kind)
    large = espcn(image)
    assert large.dtype == image.dtype
    assert large.shape == (40, 60, *shape[2:])
    peak = 1.0 if image.dtype.kind == "f" else np.iinfo(kind).max
    shrunk = large.reshape(20, 2, 30, 2, -1).mean((1, 3), dtype=np.float64) / peak
    distance = np.abs(shrunk - image.reshape(20, 30, -1).astype(np.float64) / peak).mean((0, 1))
    assert distance.max() < 0.15  # of noise: no channel is another's, and nothing is scaled


def test_an_image_is_a_frame_of_full_range(espcn: Upscaler) -> None:
    image = noise((20, 30, 3), "uint8")
    planes = tuple(image[..., index] for index in range(3))
    (large,) = espcn.upscale([Frame(planes, 0, Fraction(1), color=ColorSpec(Matrix.RGB, Range.FULL))])
    np.testing.assert_array_equal(espcn.enlarge_image(image), np.stack(large.planes, 2))


def test_views_of_arrays_are_taken(espcn: Upscaler) -> None:
    image = noise((20, 60, 3), "uint8")[:, ::2, ::-1]
    np.testing.assert_array_equal(espcn(image), espcn(image.copy()))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[0, 1], [2, 3]], "Expected an image as a NumPy array, got list"),
        (np.full((4, 4), 200, np.float32), r"from 0 \(black\) to 1 \(white\), got up to 200"),
        (np.zeros((4, 4), np.int32), "Expected an image of uint8, uint16 or floating point, got int32"),
        (np.zeros((4, 4, 2), np.uint8), r"Expected an image of shape .*, got \(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"Expected an image of shape .*, got \(1, 4, 4, 3\)"),
        (np.zeros((0, 4), np.uint8), r"Expected an image of shape .*, got \(0, 4\)"),
        (np.ma.masked_equal(np.zeros((4, 4), np.uint8), 0), "Expected an image without a mask, got a masked array"),
    ],
)
def test_what_is_no_image_is_refused(espcn: Upscaler, image: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        espcn(image)


@pytest.mark.filterwarnings("error")
def test_arrays_that_cannot_be_written_give_no_warning(espcn: Upscaler) -> None:
    image = noise((20, 30, 3), "uint8")
    image.flags.writeable = False
    assert espcn(image).shape == (40, 60, 3)
    assert Frame((image[..., 0],), 0, Fraction(1)).height == 20


def test_a_frame_takes_arrays() -> None:
    plane: Any = np.arange(12, dtype=np.uint8).reshape(3, 4)
    frame = Frame((plane,), 0, Fraction(1))
    assert frame.planes[0] is plane


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("kind", [np.matrix, np.recarray])
def test_arrays_of_a_class_of_their_own_are_taken_as_plain_ones(espcn: Upscaler, kind: Any) -> None:
    image = noise((20, 30), "uint8")
    own = image.view(kind)
    frame = Frame((own,), 0, Fraction(1))
    assert type(frame.planes[0]) is np.ndarray
    assert np.shares_memory(frame.planes[0], own)
    assert type(espcn(own)) is np.ndarray
    assert np.array_equal(espcn(own), espcn(image))


def test_samples_that_do_not_lie_at_whole_distances_become_a_tensor() -> None:
    packed = np.zeros((3, 4), [("flag", "u1"), ("sample", "u2")])
    packed["sample"] = np.arange(12).reshape(3, 4)
    assert packed["sample"].strides == (12, 3)
    assert as_tensor(packed["sample"]).tolist() == packed["sample"].tolist()
    unaligned = np.zeros(25, np.uint8)[1:].view(np.uint16).reshape(3, 4)
    assert as_tensor(unaligned).tolist() == unaligned.tolist()


@pytest.mark.filterwarnings("error")
def test_samples_that_overflow_are_told_by_an_error_alone() -> None:
    huge = np.full((2, 2), 3e38, np.float32)
    assert magnitude(huge) == float("inf")
    with pytest.raises(UsageError, match="NaN, infinite or huge"):
        check_finite(magnitude(huge), np.zeros((2, 2), np.float32), "espcn")


def test_a_frame_takes_tensors_as_arrays_of_their_memory() -> None:
    tensor: Any = torch.zeros(3, 4, requires_grad=True)
    color = ColorSpec(depth=32, floating=True)
    frame = Frame((tensor,), 0, Fraction(1), color=color)
    with torch.no_grad():
        tensor[1, 2] = 7
    assert isinstance(frame.planes[0], np.ndarray)
    assert frame.planes[0].tolist() == [[0, 0, 0, 0], [0, 0, 7, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        ([[1, 2], [3, 4]], "as a NumPy array or a tensor on the CPU, got list"),
        (torch.zeros(3, 4, device="meta"), "as a NumPy array or a tensor on the CPU, got torch.float32 on meta"),
        (torch.zeros(3, 4, dtype=torch.bfloat16), "a tensor on the CPU, got torch.bfloat16 on cpu"),
        (np.zeros(4, np.uint8), r"of two dimensions, got \(4,\)"),
        (torch.zeros(1, 3, 4), r"of two dimensions, got \(1, 3, 4\)"),
        (np.zeros((3, 4)), "Expected uint8 samples for 8 bits, got float64"),
        (np.ma.masked_equal(np.zeros((3, 4), np.uint8), 1), "Expected plane 0 without a mask, got a masked array: its"),
    ],
)
def test_what_is_no_plane_is_refused(plane: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Frame((plane,), 0, Fraction(1))


@pytest.mark.parametrize("kind", [">u2", ">f4", ">f8"])
def test_samples_in_the_other_order_of_bytes_are_the_same_samples(espcn: Upscaler, kind: str) -> None:
    swapped = (
        noise((20, 30, 3), "float32").astype(kind) if kind[1] == "f" else noise((20, 30, 3), "uint16").astype(kind)
    )
    large = espcn(swapped)
    assert large.dtype == swapped.dtype
    assert np.array_equal(large, espcn(swapped.astype(swapped.dtype.newbyteorder("="))))


@pytest.mark.parametrize("plane", [noise((20, 30), "uint16").astype(">u2"), noise((20, 30), "uint16")[::-1, ::-1]])
def test_a_frame_takes_arrays_in_any_order(plane: Any) -> None:
    frame = Frame((plane,), 0, Fraction(1), color=ColorSpec(Matrix.BT709, Range.FULL, 16))
    assert np.array_equal(frame.planes[0], plane)


@pytest.mark.parametrize("kind", ["bool", "int64", "complex128", "object", "str", "longdouble"])
def test_samples_of_other_types_are_refused(espcn: Upscaler, kind: str) -> None:
    with pytest.raises(UsageError, match="Expected an image of uint8, uint16 or floating point, got"):
        espcn(np.zeros((20, 30)).astype(kind))


@pytest.mark.parametrize("sample", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(espcn: Upscaler, sample: float) -> None:
    image = noise((20, 30), "float32")
    image[3, 4] = sample
    with pytest.raises(UsageError, match="Expected numbers for samples, got NaN or infinity in plane 0 of Frame"):
        espcn(image)
