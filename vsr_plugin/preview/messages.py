"""What the page and its server send each other: commands, and images with figures."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import cv2

if TYPE_CHECKING:
    from collections.abc import Iterable

    from . import Image

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def parse(text: str) -> dict[str, Any]:
    """Parse a command, with every number as a float; empty if it is not valid."""
    try:
        command = json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return {}
    return command if isinstance(command, dict) else {}


def jpegs(images: Iterable[Image]) -> list[bytes]:
    """Encode images to be looked at."""
    return [cv2.imencode(".jpg", image, _QUALITY)[1].tobytes() for image in images]


def pngs(images: Iterable[Image]) -> list[bytes]:
    """Encode images without loss."""
    return [cv2.imencode(".png", image)[1].tobytes() for image in images]


def pack(words: dict[str, Any], files: list[bytes]) -> bytes:
    """``words`` as JSON, and the files, each preceded by its length in four bytes."""
    return b"".join(struct.pack(">I", len(part)) + part for part in (json.dumps(words).encode(), *files))
