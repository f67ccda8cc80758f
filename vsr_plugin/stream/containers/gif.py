"""`gif_check`: checks the blocks and images of a GIF (GIF89a, sections 17 to 27 and appendix F)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from .walk import BrokenError, perhaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .walk import Steps, Walk

    Integers = NDArray[np.int64]

_CODES = 4096  # size of the table


def gif_check(walk: Walk) -> Steps:
    """Check the blocks up to the trailer, and that all codes of images are in their table."""
    head = yield 13
    while head.startswith(b"GIF8"):
        walk.unfinished = "its frames: the trailer after them is not there"
        yield from _blocks(walk, _palette(head[10]))
        walk.unfinished = None
        head = yield from perhaps(13)  # header of another file joined to this one


def _blocks(walk: Walk, palette: int) -> Steps:
    yield -palette
    while True:
        at = walk.at
        kind = yield 1
        if kind == b";":
            return
        image = kind == b","
        if image:
            walk.frames.append(at)
            yield -_palette((yield 9)[8])
        elif kind != b"!":
            raise BrokenError(f"there is no block at byte {at}")
        bits = (yield 1)[0]
        data = b""
        while size := (yield 1)[0]:
            data += yield size
        if image and not fits(data, bits):
            walk.note(at, f"the image at byte {at} is damaged")


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def fits(data: bytes, bits: int) -> bool:
    """Whether every code is in the table that earlier codes define, and nothing follows the end code.

    FFmpeg decodes an image as far as its codes go, without an error.

    Args:
        data: LZW codes.
        bits: Bits of a sample; the first codes have one more.
    """
    if not 1 <= bits <= 11:
        return False
    padded = np.frombuffer(data + bytes(3), np.uint8).astype(np.int64)
    start, clear, size, full = 0, 1 << bits, 8 * len(data), False
    while True:
        places, widths, known = _codes(bits, full=full)
        here = start + places
        here = here[here + widths <= size]
        byte = here >> 3
        codes = (padded[byte] | padded[byte + 1] << 8 | padded[byte + 2] << 16) >> (here & 7)
        codes &= (1 << widths[: len(here)]) - 1
        marks = np.flatnonzero((codes == clear) | (codes == clear + 1))
        count = int(marks[0]) if len(marks) else len(codes)
        if (codes[:count] > known[:count]).any():
            return False
        if len(marks):
            start = int(here[count] + widths[count])
            full = False
            if codes[count] == clear + 1:
                return size - start < 16  # some programs add a byte
        elif len(codes) == _CODES:
            start = int(here[-1] + widths[-1])
            full = True
        else:
            return True  # some programs omit the end code


@cache
def _codes(bits: int, *, full: bool) -> tuple[Integers, Integers, Integers]:
    """For codes after a clear code, or with a full table: bits before each, bits of each, highest valid values."""
    index = np.arange(_CODES)
    free = np.full(_CODES, _CODES - 1) if full else np.minimum((1 << bits) + 2 + np.maximum(index - 1, 0), _CODES - 1)
    widths = np.floor(np.log2(free)).astype(np.int64) + 1
    known = free if full else np.where(index == 0, (1 << bits) - 1, free)
    return np.cumsum(widths) - widths, widths, known
