"""PSNR and SSIM exactly as the papers of these networks measure them.

Luma networks, as in SRCNN, FSRCNN, ESPCN and VDSR: the truth is BT.601 studio-range luma, rounded to 8 bits and
cropped to a multiple of the scale; the input is the truth shrunk by MATLAB's imresize, not rounded; the output is
rounded to 8 bits; ``scale`` samples are cropped from every side. Bicubic enlargement then has the literature's 33.66,
30.39 and 28.42 dB on Set5.

RGB networks, as in EDSR: the input is the RGB truth shrunk by imresize and rounded to 8 bits; the output is rounded to
8 bits; the luma of both, rounded, is compared within the same border. Gray images are compared without conversion.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UsageError
from .images import crop_to_multiple, rgb_to_luma, shrink
from .kernels import enlarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from .images import Image


@dataclass(frozen=True, slots=True)
class Score:
    """The figures of one image: PSNR in dB, SSIM in [−1, 1]."""

    name: str
    psnr: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of a set of images; each is the mean over the images."""

    images: tuple[Score, ...]

    @property
    def psnr(self) -> float:
        """Mean PSNR in dB."""
        return fmean(score.psnr for score in self.images)

    @property
    def ssim(self) -> float:
        """Mean SSIM."""
        return fmean(score.ssim for score in self.images)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The input of a network, and the correct output.

    Attributes:
        name: The name of the image.
        small: (C, H, W) float32 in [0, 1].
        truth: (H·scale, W·scale) uint8 luma.
        gray: Whether the image has no color.
    """

    name: str
    small: Tensor
    truth: NDArray[np.uint8]
    gray: bool = False


def evaluate(network: Callable[[Tensor], Tensor], scale: int, images: Iterable[Image], channels: int = 1) -> Scores:
    """Measure a network, or anything that enlarges like one, on whole images.

    Args:
        network: (1, C, H, W) float32 in [0, 1] on the CPU → (1, C, H·scale, W·scale) in [0, 1], not rounded.
        scale: Whole number.
        images: The large images, of any size, read with ``channels``.
        channels: C: 1 for luma, 3 for RGB.

    Raises:
        UsageError: there is no image, or the network's output has another size.
    """
    return measure(network, scale, (shrunk_pair(image, scale, channels) for image in images))


def shrunk_pair(image: Image, scale: int, channels: int) -> Pair:
    """Crop an image to a multiple of the scale, and shrink it."""
    small = shrink(crop_to_multiple(image.samples(channels), scale), scale)
    return Pair(image.name, small, crop_to_multiple(image.luma, scale), image.gray)


def measure(network: Callable[[Tensor], Tensor], scale: int, pairs: Iterable[Pair]) -> Scores:
    """`evaluate`, for images that were shrunk in another way.

    Raises:
        UsageError: there is no pair, or the network's output has another size.
    """
    scores = []
    for pair in pairs:
        with torch.inference_mode():
            output = network(pair.small[None])
        if output.shape[2:] != pair.truth.shape:
            raise UsageError(f"Expected {pair.truth.shape} samples for {pair.name}, got {tuple(output.shape[2:])}")
        is_luma = len(pair.small) == 1
        result = to_uint8(output[0, 0]) if is_luma else _luma(to_uint8(output[0].permute(1, 2, 0)), gray=pair.gray)
        border = slice(scale, -scale)
        truth, result = pair.truth[border, border], result[border, border]
        scores.append(Score(pair.name, psnr(truth, result), ssim(truth, result)))
    if not scores:
        raise UsageError("Expected at least one image to measure, got none")
    return Scores(tuple(scores))


def _luma(rgb: NDArray[np.uint8], *, gray: bool) -> NDArray[np.uint8]:
    """The luma by which an enlarged image is compared; for a gray one the mean of its channels, in full range."""
    if gray:
        return np.floor(rgb.mean(2) + 0.5).astype(np.uint8)
    return rgb_to_luma(rgb)


def bicubic(scale: int) -> Callable[[Tensor], Tensor]:
    """The baseline of every paper, as a network."""
    return lambda x: enlarge(x.double(), scale)


def to_uint8(samples: Tensor) -> NDArray[np.uint8]:
    """Samples in [0, 1] as 8-bit ones: clamped, rounded half up."""
    rounded: NDArray[Any] = torch.floor(samples.double() * 255.0 + 0.5).clamp(0, 255).cpu().numpy()
    return rounded.astype(np.uint8)


def psnr(truth: NDArray[np.uint8], result: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit images of one shape; infinite if they are equal."""
    error = float(np.square(truth.astype(np.float64) - result).mean())
    return float("inf") if error == 0 else float(10.0 * np.log10(255.0**2 / error))


def ssim(truth: NDArray[np.uint8], result: NDArray[np.uint8]) -> float:
    """Structural similarity of 8-bit images of one shape, at least 11 × 11.

    An 11 × 11 Gaussian window with σ = 1.5 inside the image, K = (0.01, 0.03), L = 255. Source: Wang et al., "Image
    Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 2004, section III.

    Raises:
        UsageError: an image smaller than the window.
    """
    if min(truth.shape) < 11:
        raise UsageError(f"Expected images of at least 11 × 11 samples for SSIM, got {truth.shape}")
    window = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5.0) ** 2) / (2 * 1.5**2))
    window = window / window.sum()

    def blur(x: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(x, window.view(1, 1, 11, 1)), window.view(1, 1, 1, 11))

    x, y = (torch.from_numpy(image.astype(np.float64))[None, None] for image in (truth, result))
    mean_x, mean_y = blur(x), blur(y)
    variance_x, variance_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return float(similarity.mean())
