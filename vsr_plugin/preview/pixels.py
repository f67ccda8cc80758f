"""Frames to what a screen takes: 8 bits of blue, green and red, fast enough for every picture of a film.

Matrix, range, depth and chroma siting are the file's; chroma is interpolated linearly, as players do. Samples of HDR
are shown as they are, and transparency is left out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..color import Conversion, chroma_grid, codes_to_rgb
from ..engine import torch_threads
from ..errors import UsageError
from ..frames import ColorSpec, Frame, Matrix
from ..kernels import enlarge_samples

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine import Upscaler
    from . import Picture


@dataclass(frozen=True, slots=True, eq=False)
class Versions:
    """A frame, enlarged twice.

    Attributes:
        bicubic: Enlarged bicubically.
        network: Enlarged by the network.
        network_seconds: What the network took.
        display_seconds: What all else took.
        notice: Why the second is bicubic, too; empty if it is not.
    """

    bicubic: Picture
    network: Picture
    network_seconds: float
    display_seconds: float
    notice: str


def versions(frame: Frame, upscaler: Upscaler, turns: int = 0) -> Versions:
    """Enlarge a frame by a network and bicubically, for a screen.

    Args:
        frame: Integer samples.
        upscaler: The network.
        turns: Quarter turns to the left.

    Raises:
        VsrError: as `Upscaler.upscale` does.
    """
    began = time.perf_counter()
    notice = ""
    try:
        (large,) = upscaler.upscale([frame])
    except UsageError as error:
        notice = str(error)
        large = bicubic(frame, upscaler.scale)
    enlarged = time.perf_counter()
    with torch_threads(1):
        shares = upscaler.spec.channels == 1 and not frame.is_gray and frame.color.matrix is not Matrix.RGB
        plain = bicubic(frame, upscaler.scale, large if shares else None)
        before, after = (np.ascontiguousarray(np.rot90(each, turns)) for each in pictures(plain, large))
    return Versions(before, after, enlarged - began, time.perf_counter() - enlarged, notice)


def bicubic(frame: Frame, scale: int, chroma_of: Frame | None = None) -> Frame:
    """Enlarge every plane bicubically, chroma with its siting.

    Args:
        frame: Integer samples.
        scale: Whole number.
        chroma_of: The same frame, enlarged by a network of luma, whose chroma is bicubic already.
    """
    color = frame.color
    shape = (frame.height * scale, frame.width * scale)
    if chroma_of is not None:
        (luma,) = enlarge_samples(frame.planes[0][None], scale, color.depth, shape)
        return replace(chroma_of, planes=(luma, *chroma_of.planes[1:]))
    planes = [plane[None] for plane in frame.planes]
    if color.matrix is Matrix.RGB:
        large = [enlarge_samples(plane, scale, color.depth, shape) for plane in planes]
    else:
        luma = enlarge_samples(planes[0], scale, color.depth, shape)
        large = list(Conversion(color, len(planes), 1, scale).join(luma[:, None], planes[1:]))
    return replace(frame, planes=tuple(plane[0] for plane in large))


def pictures(*frames: Frame) -> list[Picture]:
    """What a screen shows of frames of one geometry; chroma planes that they share are looked at once.

    Raises:
        UsageError: a matrix that is not linear.
    """
    color = frames[0].color
    matrix = _matrix(color, gray=frames[0].is_gray)
    seen: dict[int, Any] = {}
    large = [cv2.transform(cv2.merge(_components(frame, seen)), matrix) for frame in frames]
    return large if color.depth == 8 else [cv2.convertScaleAbs(picture, alpha=1 / 257) for picture in large]


def _components(frame: Frame, seen: dict[int, Any]) -> list[Any]:
    """Three (H, W) arrays of the frame's samples."""
    first = frame.planes[0].contiguous().numpy()
    if frame.is_gray:
        return [first, first, first]
    return [first, *(_full_size(plane, frame, seen) for plane in frame.planes[1:3])]


def _full_size(plane: Tensor, frame: Frame, seen: dict[int, Any]) -> Any:
    if id(plane) not in seen:
        samples = plane.contiguous().numpy()
        if frame.color.subsampling != (0, 0):
            (fy, fx), (oy, ox) = chroma_grid(frame.color)
            place = np.array([[1 / fx, 0, -ox / fx], [0, 1 / fy, -oy / fy]])
            how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            size = (frame.width, frame.height)
            samples = cv2.warpAffine(samples, place, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
        seen[id(plane)] = samples
    return seen[id(plane)]


@lru_cache(maxsize=16)
def _matrix(color: ColorSpec, *, gray: bool) -> Any:
    """(3, 4) for cv2.transform: code values to blue, green, red of 8 bits, or of 16 for samples of more than 8."""
    if gray:
        color = replace(color, matrix=Matrix.RGB, subsampling=(0, 0))
    return (codes_to_rgb(color) * (255 if color.depth == 8 else 65535)).flip(0).numpy()
