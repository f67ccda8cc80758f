"""vsr_plugin's filter under a name in the style of VapourSynth scripts.

    from vsvsr import upscale

    clip = upscale(clip, "espcn", 2)

`VSR` is the scaler for vs-jetpack, which must be installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsr_plugin.vapoursynth import upscale

if TYPE_CHECKING:
    from vsr_plugin.vapoursynth.jetpack import VSR

__all__ = ["VSR", "upscale"]


def __getattr__(name: str) -> object:
    """Import the scaler when it is first used."""
    if name != "VSR":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vsr_plugin.vapoursynth.jetpack import VSR

    return VSR
