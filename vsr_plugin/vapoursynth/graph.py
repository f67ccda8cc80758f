"""The nodes of the filter, and what runs behind them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
import vapoursynth as vs

from ..errors import VsrError
from .blocks import Blocks
from .pictures import read, write
from .quiet import quiet_python

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..engine import Upscaler
    from ..frames import Frame
    from .blocks import Computer


class Worker:
    """An upscaler with a stream of its own, so that several work side by side on one device.

    Attributes:
        batch: Frames that the network takes at once.

    Args:
        upscaler: Nobody else's.
        example: A frame like those to come: it is enlarged here, which compiles the network.

    Raises:
        VsrError: the network does not run.
    """

    def __init__(self, upscaler: Upscaler, example: Frame) -> None:
        self._upscaler = upscaler
        on_cuda = upscaler.device.type == "cuda"
        self._stream = torch.cuda.Stream(upscaler.device) if on_cuda else None  # type: ignore[no-untyped-call]
        self([example])
        assert upscaler.batch is not None
        self.batch = upscaler.batch

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Enlarge frames, each as its own tags say."""
        with quiet_python(), torch.cuda.stream(self._stream) if self._stream else nullcontext():
            return list(self._upscaler.stage(iter(frames)))

    def close(self) -> None:
        """Free the network."""
        self._upscaler.close()


class Error(vs.Error):  # type: ignore[misc] # VapourSynth's types are not known to mypy
    """A sentence for the user of vspipe from a callback: to an error with a traceback VapourSynth adds it."""

    __module__ = "vapoursynth"
    __traceback__ = property(lambda _: None, lambda *_: None)


def sentence(error: VsrError) -> str:
    """The same in the words of VapourSynth's filters."""
    text = str(error)
    return f"vsr.upscale: {text[0].lower()}{text[1:]}"


def enlarged(clip: vs.VideoNode, computers: Sequence[Computer], scale: int, block: int) -> vs.VideoNode:
    """The clip that ``computers`` make of ``clip``, in blocks of ``block`` frames; they are closed with the core.

    A callback may not request frames, so VapourSynth hands it all it may need: those of its block, and of the blocks
    that follow. It calls one at a time.
    """
    blocks = Blocks(computers, block, clip.num_frames)

    def select(n: int, f: list[vs.VideoFrame]) -> vs.VideoFrame:
        first = n - n % block
        try:
            large = blocks.get(n, lambda number: read(f[number - first], number))
        except VsrError as error:
            raise Error(sentence(error)) from None
        return write(large, f[n - first])

    vs.register_on_destroy(blocks.close)
    shape = clip.std.BlankClip(width=clip.width * scale, height=clip.height * scale, keep=True)
    return shape.std.ModifyFrame(_windows(clip, block, blocks.window), select)


def _windows(clip: vs.VideoNode, block: int, window: int) -> list[vs.VideoNode]:
    """For each of the ``window`` places from the begin of a block on: a clip whose frame n is there, for n's block.

    The last frame of ``clip`` stands for those beyond its end.
    """
    padded = clip + clip[-1] * (window + block)
    # All the places ask this one node for the same frames, more than VapourSynth keeps by itself: a window for each of
    # several parts that are played at once, and what many requests, out of their order, are apart.
    padded.std.SetVideoCache(mode=1, maxsize=4 * window + 64)
    if block == 1:
        return [padded[place:] for place in range(window)]
    begins = [padded[begin:] for begin in range(0, window, block)]
    return [
        begin.std.SelectEvery(block, [place] * block, modify_duration=False)
        for begin in begins
        for place in range(block)
    ]
