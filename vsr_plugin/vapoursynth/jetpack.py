"""A scaler for vs-jetpack: for anything that takes a `vskernels.Scaler`, such as supersampling and antialiasing.

from vsr_plugin.vapoursynth.jetpack import VSR

clip = VSR("espcn").supersample(clip, 2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..installation import install_package

try:
    from vskernels import Scaler
except ImportError as error:
    message = f"vsr_plugin.vapoursynth.jetpack needs vs-jetpack: {install_package('vsjetpack')}"
    raise ImportError(message) from error

from ..models import MODELS, find_model
from . import upscale

if TYPE_CHECKING:
    import vapoursynth as vs

__all__ = ["VSR"]


class VSR(Scaler):
    """Scales by the network's next scale, and resamples the result once, to the size and shift.

    Args:
        model: As in `upscale`.
        options: Other arguments of `upscale`, except sizes and scale.
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
            width: Width of the result; by default the clip's.
            height: ″
            shift: (top, left) in samples of the clip, as the ``src_top`` and ``src_left`` of VapourSynth's resizers.
            options: Arguments that replace those the scaler was made with.

        Raises:
            vapoursynth.Error: as from `upscale`.
        """
        size = (clip.width if width is None else width, clip.height if height is None else height)
        options = self.options | options
        if size[0] <= clip.width and size[1] <= clip.height and self.model in MODELS:
            spec = MODELS[self.model]  # enlarge as little as possible, then shrink
            options = {"scale": min(filter(spec.weights, spec.scales), default=min(spec.scales)), **options}
        return upscale(clip, self.model, width=size[0], height=size[1], src_top=shift[0], src_left=shift[1], **options)
