"""What tests and their scripts show to the filter: files through PyAV, numbered frames, and counting computers.

Scripts run by vspipe import this file by its folder, so it imports nothing of the tests.
"""

from __future__ import annotations

import threading
from itertools import chain
from typing import TYPE_CHECKING

import av
import numpy as np
import vapoursynth as vs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vsr_plugin.frames import Frame

FORMATS = {
    "yuv420p": vs.YUV420P8,
    "yuv422p": vs.YUV422P8,
    "yuv420p10le": vs.YUV420P10,
    "yuv444p16le": vs.YUV444P16,
    "gray": vs.GRAY8,
    "gbrp": vs.RGB24,
}


def open_file(path: str | Path) -> vs.VideoNode:
    """All frames of a short file, tagged as the file tags them; every one is kept in memory."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate
        pictures = [(picture, _planes(picture)) for picture in container.decode(stream)]
    first = pictures[0][0]
    empty = vs.core.std.BlankClip(
        width=first.width,
        height=first.height,
        format=FORMATS[first.format.name],
        length=len(pictures),
        fpsnum=rate.numerator if rate else 25,
        fpsden=rate.denominator if rate else 1,
    )

    def give(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        picture, planes = pictures[n]
        frame = f.copy()
        for index, plane in enumerate(planes):
            np.copyto(np.asarray(frame[index]), plane)
        frame.props["_Matrix"] = 0 if picture.format.is_rgb else picture.colorspace
        if picture.color_range:
            frame.props["_Range"] = int(picture.color_range == 2)
        if picture.chroma_location:
            frame.props["_ChromaLocation"] = picture.chroma_location - 1
        return frame

    return empty.std.ModifyFrame(empty, give)


def _planes(picture: av.VideoFrame) -> list[np.ndarray]:
    """Planes in VapourSynth's order: R, G, B where FFmpeg has G, B, R."""
    planes = []
    for plane in picture.planes:
        kind = np.dtype("<u2" if plane.line_size >= 2 * plane.width and "16" in picture.format.name else np.uint8)
        if any(component.bits > 8 for component in picture.format.components):
            kind = np.dtype("<u2")
        rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
        planes.append(rows[:, : plane.width].copy())
    return [planes[2], planes[0], planes[1]] if picture.format.is_rgb else planes


def numbered(length: int, width: int = 32, height: int = 16, form: int = vs.YUV420P8) -> vs.VideoNode:
    """Frames whose first plane and whose property `number` say which one it is."""
    empty = vs.core.std.BlankClip(width=width, height=height, format=form, length=length, keep=True)

    def give(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        frame = f.copy()
        np.asarray(frame[0])[:] = n % 251
        frame.props["number"] = n
        return frame

    return empty.std.ModifyFrame(empty, give)


class Counter:
    """Enlarges nothing, and notes which frames it got together.

    Args:
        error: Raised for every batch in which there is frame ``bad``.
        bad: ″
    """

    def __init__(self, error: Exception | None = None, bad: int = 0) -> None:
        self.batches: list[list[int]] = []
        self.closed = False
        self.threads: set[str] = set()
        self._error, self._bad = error, bad

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        assert not self.closed
        self.threads.add(threading.current_thread().name)
        self.batches.append([frame.pts for frame in frames])
        if self._error is not None and self._bad in self.batches[-1]:
            raise self._error
        return [_copied(frame) for frame in frames]

    def close(self) -> None:
        self.closed = True


def computed(counters: Sequence[Counter]) -> list[int]:
    """The numbers of all frames, in order, as often as they were computed."""
    return sorted(chain.from_iterable(chain.from_iterable(counter.batches for counter in counters)))


def _copied(frame: Frame) -> Frame:
    """What belongs to VapourSynth must not be kept."""
    from dataclasses import replace

    return replace(frame, planes=tuple(plane.copy() for plane in frame.planes))
