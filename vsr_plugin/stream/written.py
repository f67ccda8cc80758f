"""`Written`: what has been written to an output so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Written:
    """What has been written so far.

    Attributes:
        frames: Number of frames given to the encoder.
        position: Time of the last one, in seconds.
        size: Bytes of encoded video.
        encoded: Number of packets in ``size``, one for each frame; less than ``frames`` while the encoder looks ahead.
        codec: Name of the encoder.
        pixel_format: FFmpeg's name.
        width: Width of an encoded frame, in pixels.
        height: Height of an encoded frame, in pixels.
        transposed: Whether the header tells players to show the rows as columns.
        output: Name of the output; not the requested one if that was taken meanwhile.
    """

    frames: int = 0
    position: float = 0.0
    size: int = 0
    encoded: int = 0
    codec: str = ""
    pixel_format: str = ""
    width: int = 0
    height: int = 0
    transposed: bool = False
    output: str = "-"
