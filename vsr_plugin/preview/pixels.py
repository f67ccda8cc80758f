"""Turn frames into images for a screen: 8 bits of blue, green and red, fast enough for every frame of a film.

Matrix, range, depth and chroma siting are the file's; chroma is interpolated linearly, as players do. HDR is shown
without tone mapping; transparency is ignored.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from ..arrays import as_tensor
from ..color import Conversion, codes_to_rgb
from ..device import torch_threads
from ..errors import UsageError
from ..frames import ColorSpec, Frame, Matrix
from ..samples import chroma_grid
from ..sizes import Target, Window

if TYPE_CHECKING:
    from torch import Tensor

    from ..engine import Upscaler
    from ..frames import Samples
    from ..reuse import Reuse
    from ..sizes import Size
    from . import Image

_ANY_SCALE = range(1, 257)  # for a draft, which no network limits


@dataclass(frozen=True, slots=True, eq=False)
class Enlarged:
    """A frame, enlarged twice.

    Attributes:
        plain: Enlarged by the baseline.
        network: Enlarged by the network.
        network_seconds: Seconds that the network took.
        display_seconds: Seconds that the rest took.
    """

    plain: Image
    network: Image
    network_seconds: float
    display_seconds: float


def enlarge(
    frame: Frame, upscaler: Upscaler, turns: int = 0, baseline: str = "bicubic", reuse: Reuse | None = None
) -> Enlarged:
    """Enlarge a frame by a network and by a baseline, for a screen.

    Args:
        frame: Integer samples.
        upscaler: The network.
        turns: Quarter turns to the left.
        baseline: One of `BASELINES`.
        reuse: State that earlier frames have left for this network.

    Raises:
        VsrError: as `Upscaler.upscale` does.
    """
    began = time.perf_counter()
    (large,) = upscaler.stage(iter([frame]), reuse)
    enlarged = time.perf_counter()
    with torch_threads(1):
        shares = upscaler.spec.channels == 1 and not frame.is_gray and frame.color.matrix is not Matrix.RGB
        plain = interpolate(frame, upscaler.target(frame), baseline, large if shares else None)
        before, after = (_turned(each, turns) for each in images(plain, large))
    return Enlarged(before, after, enlarged - began, time.perf_counter() - enlarged)


def draft(frame: Frame, scale: int | Size, turns: int, baseline: str) -> Image:
    """Enlarge a frame by a baseline alone; see `enlarge`. If the size cannot be reached, the frame keeps its own."""
    try:
        target = scale if isinstance(scale, int) else scale.of(frame, _ANY_SCALE)
    except UsageError:
        target = 1
    with torch_threads(1):
        (image,) = images(interpolate(frame, target, baseline))
    return _turned(image, turns)


def _turned(image: Image, turns: int) -> Image:
    return np.ascontiguousarray(np.rot90(image, turns))


def interpolate(frame: Frame, target: int | Target, baseline: str = "bicubic", chroma_of: Frame | None = None) -> Frame:
    """Enlarge every plane without a network: luma and RGB by the baseline, chroma bicubically, with its siting.

    Args:
        frame: Integer samples.
        target: How many times larger, or the size and window of the output.
        baseline: "bicubic" (MATLAB's imresize), or "Lanczos" (OpenCV's, of radius 4).
        chroma_of: The same frame enlarged by a network of luma, whose bicubic chroma is taken.
    """
    color = frame.color
    if isinstance(target, int):
        target = Target(frame.width * target, frame.height * target, (target,))
    shape = (target.height, target.width)
    window = target.window or Window(Fraction(0), Fraction(0), Fraction(frame.width), Fraction(frame.height))
    conversion = Conversion(color, len(frame.planes), 1, target.scale, target)

    def large(plane: Samples) -> Tensor:
        if baseline == "bicubic":
            return conversion.enlarge_plane(as_tensor(plane)[None], shape)
        samples = np.ascontiguousarray(plane)
        if window.is_all_of(frame.width, frame.height):
            samples = cv2.resize(samples, shape[::-1], interpolation=cv2.INTER_LANCZOS4)
        else:
            x, y = float(window.width / target.width), float(window.height / target.height)
            place = np.array([[x, 0, x / 2 - 0.5 + float(window.left)], [0, y, y / 2 - 0.5 + float(window.top)]])
            how = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
            samples = cv2.warpAffine(samples, place, shape[::-1], flags=how, borderMode=cv2.BORDER_REPLICATE)
        return torch.from_numpy(np.minimum(samples, color.peak))[None]

    if chroma_of is not None:
        return replace(chroma_of, planes=(large(frame.planes[0])[0].numpy(), *chroma_of.planes[1:]))
    if color.matrix is Matrix.RGB:
        planes = [large(plane) for plane in frame.planes]
    else:
        chroma = [as_tensor(plane)[None] for plane in frame.planes[1:]]
        planes = list(conversion.join(large(frame.planes[0])[:, None], chroma))
    return replace(frame, planes=tuple(plane[0].numpy() for plane in planes))


def images(*frames: Frame) -> list[Image]:
    """Images for a screen from frames of one geometry; chroma planes that they share are converted once.

    Raises:
        UsageError: a matrix that is not linear.
    """
    color = frames[0].color
    matrix = _matrix(color, gray=frames[0].is_gray)
    seen: dict[int, Any] = {}
    large = [cv2.transform(cv2.merge(_components(frame, seen)), matrix) for frame in frames]
    return large if color.depth == 8 else [cv2.convertScaleAbs(image, alpha=1 / 257) for image in large]


def _components(frame: Frame, seen: dict[int, Any]) -> list[Any]:
    """Three (H, W) arrays of the frame's samples."""
    first = np.ascontiguousarray(frame.planes[0])
    if frame.is_gray:
        return [first, first, first]
    return [first, *(_full_size(plane, frame, seen) for plane in frame.planes[1:3])]


def _full_size(plane: Samples, frame: Frame, seen: dict[int, Any]) -> Any:
    if id(plane) not in seen:
        samples = np.ascontiguousarray(plane)
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
