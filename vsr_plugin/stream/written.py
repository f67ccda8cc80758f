"""`Written`: what an output holds so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Written:
    """What has been written so far.

    Attributes:
        frames: Given to the encoder.
        position: Time of the last one, in seconds.
        size: Bytes of the encoded video.
        encoded: Packets that these are, one for each frame; encoders look ahead.
        codec: The encoder's name.
        pixel_format: FFmpeg's name.
        width: Of an encoded frame, in pixels.
        height: Of an encoded frame, in pixels.
        transposed: Whether the header says that players show its rows as columns.
        output: Where it went; another name than asked for if that was taken meanwhile.
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
