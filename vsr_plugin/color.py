"""Conversion between native samples and the input and output of a network.

A luma network gets Y as it is stored, and chroma is enlarged bicubically; an RGB network gets all components. The
arithmetic is in `kernels`; this module has the matrices and ranges of H.273.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from .arrays import as_tensor
from .errors import UsageError
from .frames import ColorSpec, Matrix, Range
from .kernels import (
    enlarge,
    enlarge_samples,
    mix,
    planes_to_rgb,
    resize,
    rgb_to_planes,
    to_samples,
    to_unit,
)
from .samples import chroma_grid, enlarge_plane, luma_format, shifts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from .arrays import Array
    from .frames import Samples
    from .sizes import Target, Window

# (Kr, Kb) of H.273, table 4.
_LUMA_WEIGHTS = {
    Matrix.BT709: (0.2126, 0.0722),
    Matrix.FCC: (0.30, 0.11),
    Matrix.BT470BG: (0.299, 0.114),
    Matrix.SMPTE170M: (0.299, 0.114),
    Matrix.SMPTE240M: (0.212, 0.087),
    Matrix.BT2020_NCL: (0.2627, 0.0593),
}

# MATLAB's rgb2ycbcr divided by 255: RGB in [0, 1] to studio-range Y, Cb, Cr, as luma networks are trained.
_STUDIO_601 = (
    (65.481 / 255, 128.553 / 255, 24.966 / 255, 16 / 255),
    (-37.797 / 255, -74.203 / 255, 112.0 / 255, 128 / 255),
    (112.0 / 255, -93.786 / 255, -18.214 / 255, 128 / 255),
)
# The same for luma from 0 (black) to 1 (white): gain and black.
_STUDIO_LUMA = (219 / 255, 16 / 255)


@dataclass(frozen=True)
class Conversion:
    """Converts one kind of frame for one network: `split` before it, `join` after it.

    Attributes:
        color: How the frames are stored, before and after.
        count: Planes of a frame: 1 gray, 3 YUV or RGB, one more with alpha.
        channels: 1 for a luma network, 3 for an RGB network.
        scale: The product of the scales of all networks that a frame passes.
        target: The size of the results and how it is reached, if not by ``scale`` alone.

    Raises:
        UsageError: the network needs RGB, and no matrix converts the frames to it.
    """

    color: ColorSpec
    count: int
    channels: int
    scale: int
    target: Target | None = None

    def __post_init__(self) -> None:
        if self.channels == 3:
            _rgb_to_codes(self.color)

    @torch.inference_mode()
    def enlarge(self, planes: Sequence[Array], network: Callable[[Array], Array], *, native: bool) -> Sequence[Array]:
        """Enlarge frames by a network.

        Args:
            planes: (N, H, W) native samples per component: arrays on the CPU, tensors on a GPU; and so are the results.
            network: (N, channels, H, W) → (N, channels, H·scale, W·scale).
            native: Whether it takes and gives Y as it is stored.
        """
        tensors = [as_tensor(plane) if isinstance(plane, np.ndarray) else plane for plane in planes]
        x, rest = (tensors[0][:, None], tuple(tensors[1:])) if native else self.split(tensors)
        large = self.join(network(x), rest)
        return [plane.numpy() for plane in large] if tensors[0].is_cpu else large

    def split(self, planes: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Make the input of the network, and set aside the planes that do not pass through it.

        Args:
            planes: (N, H, W) native samples per component; chroma is smaller by its subsampling.

        Returns:
            float32 (N, channels, H, W) in [0, 1], and the rest for `join`.
        """
        color = self.color
        if color.floating:
            planes = [plane.to(torch.float32) for plane in planes]
        if self.channels == 3 and self.count <= 2:  # gray is R = G = B: only its range matters
            matrix = _invert(_rgb_to_codes(replace(color, matrix=Matrix.RGB, subsampling=(0, 0))))
            rgb = planes_to_rgb((planes[0], planes[0], planes[0]), matrix)
            return rgb.clamp_(0, 1), tuple(planes[1:])
        if self.channels == 3:
            matrix = _invert(_rgb_to_codes(color))
            rgb = planes_to_rgb((planes[0], planes[1], planes[2]), matrix, *chroma_grid(color))
            return rgb.clamp_(0, 1), tuple(planes[3:])
        if color.matrix is Matrix.RGB:
            matrix = _compose(torch.tensor(_STUDIO_601, dtype=torch.float64), _invert(_rgb_to_codes(color)))
            ycc = planes_to_rgb((planes[0], planes[1], planes[2]), matrix)
            return ycc[:, :1].clamp(0, 1), (ycc[:, 1:], *planes[3:])
        if color.floating:
            gain, black = _STUDIO_LUMA
            return (planes[0] * gain + black).clamp_(0, 1)[:, None], tuple(planes[1:])
        return to_unit(planes[0], luma_format(color).peak)[:, None], tuple(planes[1:])

    def join(self, x: Tensor, rest: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make native samples of the network's output and of the planes that `split` set aside.

        Args:
            x: (N, channels, H·scale, W·scale), floating point, not clamped; or finished native samples.
            rest: As `split` returned it for the same frames.

        Returns:
            ``count`` planes, (N, H·scale, W·scale) or of the target's size, with chroma subsampled as before.
        """
        color = self.color
        if self.window is not None and x.is_floating_point():
            x = self._resized(x.clamp(0, 1), self.scale)
        height, width = x.shape[-2:]
        alpha = [self.enlarge_plane(rest[-1], (height, width))] if self.count in (2, 4) else []
        if self.channels == 3:
            matrix = _rgb_to_codes(color)
            if self.count <= 2:
                matrix = matrix[:1]
            return (*_store(x.clamp(0, 1), matrix, color), *alpha)
        if color.matrix is Matrix.RGB:
            if self.window is not None:
                chroma = self._resized(rest[0])
            else:
                # In float64, because torch lets CUDA round the factors of float32 convolutions to 10 bits.
                chroma = enlarge(rest[0].to(torch.float64), self.scale, edges="symmetric").to(torch.float32)
            ycc = torch.cat([x.clamp(0, 1), chroma], 1)
            matrix = _compose(_rgb_to_codes(color), _invert(torch.tensor(_STUDIO_601, dtype=torch.float64)))
            return (*_store(ycc, matrix, color), *alpha)
        if color.floating:
            gain, black = _STUDIO_LUMA
            luma = ((x[:, 0].clamp(0, 1) - black) / gain).to(_dtype(color))
        elif x.is_floating_point():
            luma = to_samples(x[:, 0], color.depth, peak=luma_format(color).peak)
        else:
            luma = x[:, 0]
        if self.count <= 2:
            return (luma, *alpha)
        shape = color.chroma_shape(height, width)
        return (luma, *(self.enlarge_plane(plane, shape, *chroma_grid(color)) for plane in rest[:2]), *alpha)

    @property
    def window(self) -> Window | None:
        """The part of a frame that is resampled to the target's size; None if only the networks enlarge."""
        return None if self.target is None else self.target.window

    def enlarge_plane(
        self,
        plane: Tensor,
        shape: tuple[int, int],
        spacing: tuple[int, int] = (1, 1),
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> Tensor:
        """Enlarge a plane of native samples without a network.

        Args:
            plane: (N, H, W).
            shape: (height, width) of the result.
            spacing: (vertical, horizontal) luma samples per sample.
            offset: (vertical, horizontal) position of the first sample, in luma samples from the first luma sample.
        """
        color = self.color
        if self.window is not None:
            large = self._resized(plane.to(torch.float32), 1, shape, spacing, offset)
            return large.to(_dtype(color)) if color.floating else to_samples(large, color.depth)
        if not color.floating and plane.is_cpu:
            return torch.from_numpy(enlarge_plane(plane.numpy(), self.scale, color.depth, shape, spacing, offset))
        shift = shifts(self.scale, spacing, offset)
        if not color.floating:
            return enlarge_samples(plane, self.scale, color.depth, shape, shift)
        # In float64 for the same reason as RGB's chroma.
        large = enlarge(plane[:, None].to(torch.float64), self.scale, shift=shift, edges="symmetric")
        return large[:, 0, : shape[0], : shape[1]].to(_dtype(color))

    def _resized(
        self,
        x: Tensor,
        scale: int = 1,
        shape: tuple[int, int] | None = None,
        spacing: tuple[int, int] = (1, 1),
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> Tensor:
        """Resample the target's window of planes to its size; samples keep their position among luma samples.

        Output sample k is at luma sample p = f·k + o of the result. In the frame that is luma sample
        q = (p + 0.5)·step − 0.5 + begin, and in the plane sample (q − o) / f.

        Args:
            x: (…, H, W), floating point.
            scale: How many times larger than the frame ``x`` is already.
            shape: (height, width) of the result; by default the target's.
            spacing: As in `enlarge_plane`, and so is ``offset``.
            offset: ″
        """
        target, window = self.target, self.window
        assert target is not None
        assert window is not None
        steps = (window.height / target.height, window.width / target.width)
        begins = (window.top, window.left)
        ratio = [float(1 / (step * scale)) for step in steps]
        shift = [
            (0.5 - (o + 0.5) / f) * (1 - float(step)) + float(begin) * scale / f
            for step, begin, f, o in zip(steps, begins, spacing, offset, strict=True)
        ]
        return resize(x, shape or (target.height, target.width), (ratio[0], ratio[1]), (shift[0], shift[1]))


def convert(planes: Sequence[Samples], color: ColorSpec, target: ColorSpec) -> tuple[Samples, ...]:
    """Convert a frame to another matrix, range, depth or subsampling at the same size; sited, and rounded once.

    Args:
        planes: Three (H, W) planes of native samples.
        color: How to read them.
        target: How to write them.

    Raises:
        UsageError: the matrices differ, and one of them is not linear or is unspecified.
    """
    if color.matrix is target.matrix and color.matrix is not Matrix.RGB:  # any matrix will do, as it is undone
        color, target = replace(color, matrix=Matrix.BT709), replace(target, matrix=Matrix.BT709)
    matrix = _compose(_rgb_to_codes(target), _invert(_rgb_to_codes(color)))
    y, cb, cr = (as_tensor(plane)[None] for plane in planes)
    codes = planes_to_rgb((y, cb, cr), matrix, *chroma_grid(color))
    same = torch.eye(3, 4, dtype=torch.float64)
    return tuple(plane[0].numpy() for plane in rgb_to_planes(codes, same, target.depth, *chroma_grid(target)))


def _store(x: Tensor, matrix: Tensor, color: ColorSpec) -> tuple[Tensor, ...]:
    """Apply a (P, 4) matrix to (N, 3, H, W): P native planes; floating samples are not clamped."""
    if color.floating:
        return mix(x, matrix).to(_dtype(color)).unbind(1)
    return rgb_to_planes(x, matrix, color.depth, *chroma_grid(color))


def _dtype(color: ColorSpec) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, color.dtype.name)
    return dtype


@lru_cache(maxsize=64)
def _rgb_to_codes(color: ColorSpec) -> Tensor:
    """(3, 4) float64: RGB in [0, 1] to code values, before rounding and subsampling (H.273, section 8.3).

    Raises:
        UsageError: the matrix is unspecified, or not linear.
    """
    if color.matrix is Matrix.RGB:
        rows = torch.eye(3, dtype=torch.float64)
    elif color.matrix is Matrix.YCGCO:
        rows = torch.tensor([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]], dtype=torch.float64)
    elif color.matrix in _LUMA_WEIGHTS:
        kr, kb = _LUMA_WEIGHTS[color.matrix]
        luma = torch.tensor([kr, 1 - kr - kb, kb], dtype=torch.float64)
        red, blue = torch.eye(3, dtype=torch.float64)[[0, 2]]
        rows = torch.stack([luma, (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))])
    else:
        known = ", ".join(matrix.name for matrix in (Matrix.RGB, Matrix.YCGCO, *_LUMA_WEIGHTS))
        raise UsageError(
            f"Expected a matrix out of {known} for a network of RGB, got {color.matrix.name}: convert first"
        )
    has_chroma = color.matrix is not Matrix.RGB
    if color.floating:
        return torch.cat([rows, torch.zeros(3, 1, dtype=torch.float64)], 1)
    one = 1 << (color.depth - 8)
    if color.range is Range.LIMITED:
        black, gain = 16.0 * one, 219.0 * one
        chroma_gain = 224.0 * one if has_chroma and color.matrix is not Matrix.YCGCO else gain
    else:
        black, gain, chroma_gain = 0.0, float(color.peak), float(color.peak)
    middle = 128.0 * one if has_chroma else black
    gains = torch.tensor([gain, chroma_gain, chroma_gain], dtype=torch.float64)
    constants = torch.tensor([black, middle, middle], dtype=torch.float64)
    return torch.cat([rows * gains[:, None], constants[:, None]], 1)


def codes_to_rgb(color: ColorSpec) -> Tensor:
    """(3, 4) float64: code values at one place to RGB in [0, 1], the inverse of H.273, section 8.3.

    Raises:
        UsageError: the matrix is unspecified, or not linear.
    """
    return _invert(_rgb_to_codes(color))


def _invert(matrix: Tensor) -> Tensor:
    """The inverse of a (3, 4) matrix."""
    inverse = torch.linalg.inv(matrix[:, :3])
    return torch.cat([inverse, -inverse @ matrix[:, 3:]], 1)


def _compose(outer: Tensor, inner: Tensor) -> Tensor:
    """The (3, 4) matrix that applies ``inner``, then ``outer``."""
    constant = outer[:, :3] @ inner[:, 3:] + outer[:, 3:]
    return torch.cat([outer[:, :3] @ inner[:, :3], constant], 1)
