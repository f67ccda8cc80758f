"""Still images with known truth: reading them, and shrinking them as the literature does, with MATLAB's imresize.

It made all of the literature's low-resolution images, and every published figure depends on it: a different cubic, no
antialiasing, or another rounding costs 0.1 to 1 dB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import torch

from .errors import InputError, UsageError
from .kernels import resample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, slots=True)
class Image:
    """A high-resolution image.

    Attributes:
        name: The name of its file.
        luma: (H, W) uint8: studio-range BT.601 of a color image, the stored samples of a gray one.
        rgb: (H, W, 3) uint8, full range; None if not requested.
        gray: Whether the file has no color; then ``rgb`` is ``luma`` three times.
    """

    name: str
    luma: NDArray[np.uint8]
    rgb: NDArray[np.uint8] | None = None
    gray: bool = False

    def samples(self, channels: int) -> NDArray[np.uint8]:
        """The samples that a network of 1 or 3 channels should output: (H, W, channels)."""
        if channels == 1:
            return self.luma[..., None]
        assert self.rgb is not None
        return self.rgb


def list_images(folder: Path) -> list[Path]:
    """The image files directly in ``folder``, sorted by name.

    Raises:
        InputError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise InputError(f"Expected a folder of images, got {str(folder)!r}: no such folder")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"No images in {str(folder)!r}: expected files named {', '.join(sorted(SUFFIXES))}")
    return paths


def read_image(path: Path, channels: int = 1) -> Image:
    """Read an image file, with its RGB samples for ``channels`` = 3.

    Raises:
        InputError: the file cannot be opened or decoded.
    """
    try:
        with av.open(path) as container:
            frame = next(container.decode(video=0))
            samples: NDArray[Any] = frame.to_ndarray(
                format="gray" if frame.format.name.startswith(("gray", "ya")) else "rgb24"
            )
            palette = frame.format.name == "pal8"
    except (av.FFmpegError, StopIteration, IndexError) as error:
        raise InputError(f"Cannot read the image {str(path)!r}: {error}") from error
    if palette and bool((samples == samples[..., :1]).all()):
        samples = samples[..., 0]  # a gray image that was stored with a palette of grays
    if samples.ndim == 2:
        luma = np.ascontiguousarray(samples)
        return Image(path.name, luma, np.stack([luma] * 3, 2) if channels == 3 else None, gray=True)
    return Image(path.name, rgb_to_luma(samples), samples if channels == 3 else None)


def read_images(
    folder: Path, channels: int = 1, on_image: Callable[[int, int], object] = lambda number, count: None
) -> list[Image]:
    """All images of a folder, sorted by name.

    Args:
        folder: The folder.
        channels: 3 to read RGB samples, too.
        on_image: Called before each image with its number, from 1, and the number of images.

    Raises:
        InputError: there is no such folder, no image in it, or an image cannot be read.
    """
    paths = list_images(folder)
    images = []
    for number, path in enumerate(paths, 1):
        on_image(number, len(paths))
        images.append(read_image(path, channels))
    return images


def crop_to_multiple(image: NDArray[np.uint8], multiple: int, largest: int | None = None) -> NDArray[np.uint8]:
    """The top left part with sides of a multiple of ``multiple``; or the middle part, of at most ``largest`` a side."""
    height, width = (min(side, largest or side) // multiple * multiple for side in image.shape[:2])
    if largest is None:
        return image[:height, :width]
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def shrink(image: NDArray[np.uint8], scale: int) -> Tensor:
    """Make a network's input: (H, W, C) uint8 → (C, H/scale, W/scale) float32 in [0, 1].

    As in the papers, luma is shrunk in float64 and not rounded; RGB is rounded to 8 bits, as in image files. Both sides
    must be multiples of ``scale``.
    """
    if image.shape[2] == 1:
        small = torch.from_numpy(imresize(image.astype(np.float64) / 255.0, 1 / scale)).float()
    else:
        small = torch.from_numpy(imresize(image, 1 / scale)).float() / 255.0
    return small.permute(2, 0, 1)


def imresize(image: NDArray[Any], scale: float) -> NDArray[Any]:
    """Resize like MATLAB's ``imresize(image, scale, "bicubic")`` of the years when the benchmarks were made.

    Cubic with a = −0.5, widened by 1/scale when shrinking; edge samples repeated; rows (dimension 0) first. For a uint8
    image, each of the two passes is rounded half up to uint8; a floating one stays in float64 throughout.

    Args:
        image: (H, W) or (H, W, C), uint8 or floating.
        scale: New size over old, e.g. ``1 / 3``; the result has ceil(H · scale) × ceil(W · scale) samples.

    Returns:
        uint8 for uint8, otherwise float64.

    Raises:
        UsageError: the image has another dtype, or the scale is not positive.
    """
    if scale <= 0:
        raise UsageError(f"Expected a positive scale, got {scale}")
    if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
        raise UsageError(f"Expected uint8 or floating samples, got {image.dtype}: convert the image first")
    result = torch.from_numpy(np.ascontiguousarray(image)).to(torch.float64)
    for dim in (0, 1):
        result = resample(result, dim, math.ceil(image.shape[dim] * scale), scale)
        if image.dtype == np.uint8:
            result = torch.floor(result + 0.5).clamp(0, 255)
    return result.numpy().astype(image.dtype if image.dtype == np.uint8 else np.float64)


def rgb_to_luma(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BT.601 studio-range luma (16…235) of an RGB image, as MATLAB's ``rgb2ycbcr`` computes it for uint8.

    Args:
        image: (H, W, 3) full-range RGB.

    Returns:
        (H, W), rounded half up.
    """
    luma = 16.0 + image.astype(np.float64) @ (np.array([65.481, 128.553, 24.966]) / 255.0)
    return np.floor(luma + 0.5).astype(np.uint8)
