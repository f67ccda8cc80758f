"""`Crop`: the part of the frames that the container says to display (Matroska's PixelCrop…, the clap box of MP4)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.stream import VideoStream

    from ..frames import ColorSpec, Frame, Samples


@dataclass(frozen=True, slots=True)
class Crop:
    """Number of rows and columns of samples to cut off at each side."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    @classmethod
    def of(cls, stream: VideoStream) -> Crop:
        """The crop that a stream's container states; FFmpeg does not open a stream that is cropped to nothing."""
        stated = stream.codec_context.coded_side_data.get("frame_cropping")
        return cls(*struct.unpack("<4I", stated)) if stated else cls()

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height after cropping."""
        return width - self.left - self.right, height - self.top - self.bottom

    def __call__(self, frame: Frame) -> Frame:
        """Cut off the frame's borders; subsampled chroma is resampled if the cut is not at a chroma sample."""
        if self == Crop():
            return frame
        color = frame.color
        horizontal, vertical = (0, 0) if frame.is_gray else color.subsampling
        if not (self.left % (1 << horizontal) or self.top % (1 << vertical)):
            return replace(frame, planes=self._cut(frame.planes, frame))
        from ..color import convert  # this loads torch

        whole = replace(color, subsampling=(0, 0))
        planes = (*convert(frame.planes[:3], color, whole), *frame.planes[3:])
        planes = self._cut(planes, replace(frame, planes=planes, color=whole))
        return replace(frame, planes=(*convert(planes[:3], whole, color), *planes[3:]))

    def _cut(self, planes: tuple[Samples, ...], frame: Frame) -> tuple[Samples, ...]:
        width, height = self.size(frame.width, frame.height)
        return tuple(
            self._part(plane, width, height, frame.color, chroma=index in (1, 2) and not frame.is_gray)
            for index, plane in enumerate(planes)
        )

    def _part(self, plane: Samples, width: int, height: int, color: ColorSpec, *, chroma: bool) -> Samples:
        horizontal, vertical = color.subsampling if chroma else (0, 0)
        rows, columns = color.chroma_shape(height, width) if chroma else (height, width)
        top, left = self.top >> vertical, self.left >> horizontal
        return plane[top : top + rows, left : left + columns]
