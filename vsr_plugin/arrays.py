"""Converts images in arrays, as NumPy, Pillow and OpenCV use them, to frames and back."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .errors import UsageError
from .frames import ColorSpec, Frame, Matrix, Range

if TYPE_CHECKING:
    from numpy import ndarray

    type Image = ndarray[Any, np.dtype[Any]]

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
    samples = np.ascontiguousarray(image.astype(kept, copy=False))
    samples = samples if samples.flags.writeable else samples.copy()  # PyTorch warns of Pillow's: read-only
    planes = torch.from_numpy(samples.reshape(*image.shape[:2], count)).unbind(2)
    color = ColorSpec(Matrix.BT709 if count == 1 else Matrix.RGB, Range.FULL, depth, floating=floating)
    return Frame(planes, 0, Fraction(1), color=color)


def to_image(frame: Frame, like: Image) -> Image:
    """Make an image of a frame, in the layout and type of ``like``, the image before."""
    planes = [plane.numpy() for plane in frame.planes]
    image = planes[0] if like.ndim == 2 else np.stack(planes, axis=2)
    return image.astype(like.dtype, copy=False)
