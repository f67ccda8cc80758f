"""Whole files: a generated clip, the job as `vsr encode` does it, and the same job without a network."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING

import torch.nn.functional as F

from ..arrays import as_tensor
from ..stream import Encoding, Source, upscale_file
from ..stream.buffered import buffered
from ..stream.encode import encode
from .clip import RATE, clip_planes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..engine import Upscaler
    from ..frames import Frame
    from . import Settings

_AHEAD = 4
# The defaults of `vsr encode`, spelled out for the programs that are compared with it.
CODEC, CRF, PRESET = "libx264", 17, "medium"
ENCODING = Encoding(CODEC, CRF, PRESET)
# The codec of OpenCV's VideoWriter, whose builds have no libx264.
PLAIN_CODEC = "mpeg4"


def make_clip(folder: Path, settings: Settings, rate: int = RATE) -> Path:
    """Write a clip of moving detail, ``clip.mp4``: rings that grow finer outwards, and a texture that drifts."""
    raw = folder / "clip.y4m"
    with raw.open("wb") as file:
        file.write(b"YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420mpeg2\n" % (settings.width, settings.height, rate))
        for planes in clip_planes(settings):
            file.write(b"FRAME\n")
            for plane in planes:
                file.write(plane.contiguous().numpy().tobytes())
    clip = folder / "clip.mp4"
    source = Source(raw, keep_packets=True)
    encode(source, clip, source, Encoding("libx264", 18, "medium"))
    raw.unlink()
    return clip


def load(clip: Path) -> list[Frame]:
    """All frames of a clip, in memory of their own."""
    return [replace(frame, planes=tuple(plane.copy() for plane in frame.planes)) for frame in Source(clip)]


def whole(clip: Path, output: Path, upscaler: Upscaler, encoding: Encoding = ENCODING) -> float:
    """Seconds per frame of decode → upscale → encode."""
    report = upscale_file(clip, output, upscaler, encoding=encoding, overwrite=True)
    return report.seconds / report.frames


def without_network(clip: Path, output: Path, scale: int) -> float:
    """Seconds per frame of decode → bicubic enlargement → encode, with the same encoder and the same threads."""
    began = perf_counter()
    source = Source(clip, keep_packets=True)
    enlarged = buffered(_bicubic(buffered(source, _AHEAD), scale), _AHEAD)
    frames = encode(enlarged, output, source, ENCODING, overwrite=True).frames
    return (perf_counter() - began) / frames


def plain_encoding(settings: Settings) -> Encoding:
    """One bit for each pixel of the large frame, as VideoWriter requests."""
    return Encoding(PLAIN_CODEC, options={"b": str(settings.width * settings.height * settings.scale**2 * RATE)})


def _bicubic(frames: buffered[Frame], scale: int) -> Iterator[Frame]:
    """Enlarge every plane, ignoring chroma siting: the least work that could replace the network."""
    with closing(frames):
        for frame in frames:
            large = (
                F.interpolate(as_tensor(plane)[None, None], scale_factor=scale, mode="bicubic")
                for plane in frame.planes
            )
            yield replace(frame, planes=tuple(plane[0, 0].numpy() for plane in large))
