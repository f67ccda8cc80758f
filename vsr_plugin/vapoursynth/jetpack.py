"""A scaler for vs-jetpack: for whatever takes a `vskernels.Scaler`, such as supersampling and antialiasing.

from vsr_plugin.vapoursynth.jetpack import VSR

clip = VSR("espcn").supersample(clip, 2)
"""

from __future__ import annotations

from typing import Any

import vapoursynth as vs

try:
    from vskernels import Scaler
except ImportError as error:
    message = "vsr_plugin.vapoursynth.jetpack needs vs-jetpack: pip install vsjetpack"
    raise ImportError(message) from error

from ..errors import VsrError
from ..models import find_model
from . import arguments, upscale
from .graph import sentence

__all__ = ["VSR"]


class VSR(Scaler):
    """Scales by the network's next scale, and resamples what it makes once, to the size and shift.

    Args:
        model: As in `upscale`.
        options: Its other arguments, but sizes and scale.
    """

    def __init__(self, model: str = "espcn", **options: Any) -> None:
        self.model = model
        self.options = options
        super().__init__()

    @property
    def kernel_radius(self) -> int:
        """Input samples on each side of one that the network sees, at the scale where it sees most."""
        return max(find_model(self.model).overlap.values())

    def scale(
        self,
        clip: vs.VideoNode,
        width: int | None = None,
        height: int | None = None,
        shift: tuple[float, float] = (0, 0),
        **options: Any,
    ) -> vs.VideoNode:
        """Scale a clip.

        Args:
            clip: As in `upscale`.
            width: Of the result; by default the clip's.
            height: ″
            shift: (top, left) in samples of the clip, as the ``src_top`` and ``src_left`` of VapourSynth's resizers.
            options: In place of those that the scaler was made with.

        Raises:
            vapoursynth.Error: as from `upscale`.
        """
        size = (clip.width if width is None else width, clip.height if height is None else height)
        options = self.options | options
        try:
            scale = arguments.scale(self.model, None, clip, size, options.get("model_path"))
        except VsrError as error:
            raise vs.Error(sentence(error)) from None
        large = upscale(clip, self.model, scale, **options)
        if (large.width, large.height) == size and not any(shift):
            return large
        return large.resize.Spline36(*size, src_top=shift[0] * scale, src_left=shift[1] * scale)
