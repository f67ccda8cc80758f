"""What surrounds a luma network on the CPU: Y passes through it as it is stored, and the other planes grow bicubically.

`color` does the same on a GPU, and all other conversions, in torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .frames import ColorSpec, Matrix
from .samples import chroma_grid, enlarge_plane, luma_format

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .frames import Samples
    from .samples import SampleFormat


@dataclass(frozen=True, slots=True)
class LumaConversion:
    """For one kind of frame.

    Attributes:
        color: How the frames are stored, before and after.
        count: Planes of a frame: 1 gray, 3 YUV, one more with alpha.
        scale: The network's.
    """

    color: ColorSpec
    count: int
    scale: int

    @property
    def format(self) -> SampleFormat | None:
        """How the network reads Y; None if no Y is stored, or none in integers: then `color.Conversion` makes it."""
        stored = self.color.matrix is not Matrix.RGB and not self.color.floating
        return luma_format(self.color) if stored else None

    def join(self, luma: Samples, rest: Sequence[Samples]) -> list[Samples]:
        """All planes of the results.

        Args:
            luma: (N, H·scale, W·scale), the network's results.
            rest: The other planes of the frames, (N, H, W); chroma is smaller by its subsampling.
        """
        height, width = luma.shape[1:]
        chroma = self.color.chroma_shape(height, width)
        large = [luma]
        for index, plane in enumerate(rest, 1):
            if index in (1, 2) and self.count > 2:
                large.append(enlarge_plane(plane, self.scale, self.color.depth, chroma, *chroma_grid(self.color)))
            else:
                large.append(enlarge_plane(plane, self.scale, self.color.depth, (height, width)))
        return large
