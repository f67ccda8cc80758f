"""The nodes of the filter, and their callback."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import vapoursynth as vs

from ..errors import VsrError
from .blocks import Blocks
from .frames import read, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..sizes import Target
    from .blocks import Computer


_LONGEST = 2**31 - 1  # frames in a clip


class Error(vs.Error):  # type: ignore[misc] # VapourSynth's types are not known to mypy
    """An error of a callback, without a traceback, which VapourSynth would add to the message for the user."""

    __module__ = "vapoursynth"
    __traceback__ = property(lambda _: None, lambda *_: None)


def sentence(error: VsrError) -> str:
    """The message of an error in the style of VapourSynth's filters."""
    text = str(error)
    return f"vsr.upscale: {text[0].lower()}{text[1:]}"


def enlarged(
    clip: vs.VideoNode, computers: Sequence[Computer], target: Target, block: int, *, ahead: int | None = None
) -> vs.VideoNode:
    """The clip that ``computers`` make of ``clip``, in blocks of ``block`` frames; they are closed with the core.

    ``ahead`` blocks are begun before they are requested; by default as many as there are computers.

    A callback may not request frames, so VapourSynth hands it all it may need: those of its block, and of the blocks
    that follow. VapourSynth runs one callback at a time.
    """
    seen = (clip.width, clip.height) if target.window is None else (target.window.width, target.window.height)
    pixels = Fraction(seen[0]) / target.width / (Fraction(seen[1]) / target.height)  # change of pixels' width : height
    blocks = Blocks(computers, block, clip.num_frames, ahead)

    def select(n: int, f: list[vs.VideoFrame] | vs.VideoFrame) -> vs.VideoFrame:
        if isinstance(f, vs.VideoFrame):  # of the only clip
            f = [f]
        first = n - n % block
        try:
            large = blocks.get(n, lambda number: read(f[number - first], number))
        except VsrError as error:
            raise Error(sentence(error)) from None
        return write(large, f[n - first], pixels)

    vs.register_on_destroy(blocks.close)
    shape = clip.std.BlankClip(width=target.width, height=target.height, keep=True)
    return shape.std.ModifyFrame(_windows(clip, block, blocks.window), select)


def _windows(clip: vs.VideoNode, block: int, window: int) -> list[vs.VideoNode]:
    """For each of the ``window`` places from a block's start on, a clip whose frame n is at that place of n's block.

    Beyond the end of ``clip``, its last frame is repeated.
    """
    # A clip on endless repeat has the greatest length of a clip: it is cut to make room for the added last frames.
    clip = clip[: _LONGEST - window - 2 * block]
    padded = clip + clip[-1] * (window + block)
    # All places request the same frames from this one node, more than VapourSynth keeps by itself: a window for each of
    # several parts that are played at once, and the distance between many requests out of order.
    padded.std.SetVideoCache(mode=1, maxsize=4 * window + 64)
    if block == 1:
        return [padded[place:] for place in range(window)]
    begins = [padded[begin:] for begin in range(0, window, block)]
    return [
        begin.std.SelectEvery(block, [place] * block, modify_duration=False)
        for begin in begins
        for place in range(block)
    ]
