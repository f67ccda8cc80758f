"""Converts images in arrays, as NumPy, Pillow and OpenCV use them, to frames and back; and arrays to tensors."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UsageError
from .frames import ColorSpec, Frame, Matrix, Range, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .frames import Samples

    type Array = Any  # an array, or a tensor: what both can do is used
    type Image = np.ndarray[Any, np.dtype[Any]]

# No image has a sum of magnitudes beyond it. OpenVINO's convolutions in bfloat16 overflow to 1e30, not to infinity.
_MOST = 1e20
_BRIGHTEST = 4.0  # allows samples beyond white, but no 8-bit samples that were only cast
_DEPTHS = {"uint8": 8, "uint16": 16, "float16": 16, "float32": 32, "float64": 32}


def to_frame(image: Image) -> Frame:
    """Make a frame of an image.

    Args:
        image: (H, W) or (H, W, 1) gray, (H, W, 3) RGB or (H, W, 4) RGBA: full range, in uint8, uint16, or floating
            point from 0 (black) to 1 (white).

    Raises:
        UsageError: the image has another type, shape or range.
    """
    if not isinstance(image, np.ndarray):
        raise UsageError(f"Expected an image as a NumPy array, got {type(image).__name__}: numpy.asarray makes one")
    image = plain("an image", image)
    depth = _DEPTHS.get(image.dtype.name)
    if depth is None:
        raise UsageError(f"Expected an image of uint8, uint16 or floating point, got {image.dtype}")
    count = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or count not in (1, 3, 4) or 0 in image.shape:
        raise UsageError(f"Expected an image of shape (H, W), (H, W, 3) or (H, W, 4), got {image.shape}")
    floating = image.dtype.kind == "f"
    if floating and _BRIGHTEST < image.max() < np.inf:
        raise UsageError(
            f"Expected floating point from 0 (black) to 1 (white), got up to {image.max():g}: divide by 255?"
        )
    kept = np.float32 if image.dtype.name == "float64" else image.dtype.newbyteorder("=")
    samples = image.astype(kept, copy=False).reshape(*image.shape[:2], count)
    planes = tuple(samples[:, :, index] for index in range(count))
    color = ColorSpec(Matrix.BT709 if count == 1 else Matrix.RGB, Range.FULL, depth, floating=floating)
    return Frame(planes, 0, Fraction(1), color=color)


def to_image(frame: Frame, like: Image) -> Image:
    """Make an image of a frame, in the layout and type of ``like``, the image before."""
    image = frame.planes[0] if like.ndim == 2 else np.stack(frame.planes, axis=2)
    return image.astype(like.dtype, copy=False)


def as_tensor(samples: Samples) -> Tensor:
    """A tensor of the same memory; of a copy, if that is read-only, runs backwards, or lies between whole samples."""
    import torch  # which takes seconds, and this module is used without it, too

    taken = samples.flags.writeable and all(step >= 0 and step % samples.itemsize == 0 for step in samples.strides)
    return torch.from_numpy(samples if taken else samples.copy())


def empty(like: Array, shape: tuple[int, ...]) -> Array:
    """An array or a tensor of this shape, otherwise like another."""
    return np.empty(shape, like.dtype) if isinstance(like, np.ndarray) else like.new_empty(shape)


def stack(parts: Sequence[Array]) -> Array:
    """Arrays or tensors in a row, along a new first dimension; copied."""
    if isinstance(parts[0], np.ndarray):
        return np.stack(parts)
    import torch

    return torch.stack(list(parts))


def copy(x: Array) -> Array:
    """A copy in one piece of memory, row by row."""
    if isinstance(x, np.ndarray):
        return x.copy()
    import torch

    return x.clone(memory_format=torch.contiguous_format)


def magnitude(x: Array) -> float:
    """The sum of the magnitudes of all samples, so that none cancels another."""
    if isinstance(x, np.ndarray):
        with np.errstate(over="ignore"):  # infinity says it, and `check_finite` tells
            return float(np.abs(x).sum())
    import torch

    return float(torch.linalg.vector_norm(x, 1, dtype=torch.float32))


def check_finite(total: float, given: Array, name: str) -> None:
    """Raise UsageError if finite input gave a sample that is NaN, infinite or beyond `_MOST`, which would be no image.

    Args:
        total: The `magnitude` of the result.
        given: The input.
        name: The network's name.
    """
    if not total < _MOST and abs(float(given.sum())) < _MOST:
        raise UsageError(f"{name} made samples that are NaN, infinite or huge: are its weights damaged?")
