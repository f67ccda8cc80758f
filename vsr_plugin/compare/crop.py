"""Choose the part of an image to compare, and cut it out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ..arrays import as_tensor
from ..errors import UsageError

if TYPE_CHECKING:
    from ..frames import Frame

_STEP = 4  # samples between the places that are tried


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle, in pixels: printed and typed as 160x120+40+32."""

    width: int
    height: int
    x: int
    y: int

    @property
    def right(self) -> int:
        """The first column to the right of it."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.y + self.height

    def check(self, frame: Frame) -> None:
        """Raise UsageError if it reaches beyond a frame."""
        if self.right > frame.width or self.bottom > frame.height:
            raise UsageError(f"Expected a crop inside of {frame.width}×{frame.height}, got {self}")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.x}+{self.y}"


def busiest(frame: Frame, width: int, height: int, count: int = 1) -> list[Crop]:
    """The parts with most detail, which do not overlap: where neighbouring samples of the first plane differ most.

    Args:
        frame: Any.
        width: Width of each part in pixels, at most that of the frame.
        height: ″
        count: Number of parts; fewer if the frame has no room for them.
    """
    width, height = min(width, frame.width), min(height, frame.height)
    luma = as_tensor(frame.planes[0]).to(torch.float32)
    detail = torch.zeros_like(luma)
    detail[:, 1:] += (luma[:, 1:] - luma[:, :-1]).abs()
    detail[1:] += (luma[1:] - luma[:-1]).abs()
    means = F.avg_pool2d(detail[None, None], (height, width), _STEP)[0, 0]
    crops: list[Crop] = []
    while len(crops) < count and bool((means >= 0).any()):
        y, x = divmod(int(means.argmax()), means.shape[1])
        crops.append(Crop(width, height, x * _STEP, y * _STEP))
        down, across = -(-height // _STEP), -(-width // _STEP)
        means[max(0, y - down + 1) : y + down, max(0, x - across + 1) : x + across] = -1
    return crops


def cut(frame: Frame, crop: Crop, margin: int) -> tuple[Frame, int, int]:
    """A window around a crop, and where the crop lies in it.

    Args:
        frame: The frame to cut.
        crop: The part, inside of the frame.
        margin: Samples around the crop that the window has at least, as far as the frame reaches.

    Returns:
        The window; x and y of the crop in it.
    """
    horizontal, vertical = frame.color.subsampling
    # Chroma, too, is enlarged by its neighbours, and a window begins at a chroma sample.
    across, down = (margin + (4 << log2) for log2 in (horizontal, vertical))
    left, top = max(0, crop.x - across) >> horizontal << horizontal, max(0, crop.y - down) >> vertical << vertical
    right, bottom = min(frame.width, crop.right + across), min(frame.height, crop.bottom + down)
    planes = []
    for plane in frame.planes:
        small = tuple(plane.shape) != (frame.height, frame.width)
        fx, fy = (horizontal, vertical) if small else (0, 0)
        planes.append(plane[top >> fy : -(-bottom >> fy), left >> fx : -(-right >> fx)])
    return replace(frame, planes=tuple(planes)), crop.x - left, crop.y - top
