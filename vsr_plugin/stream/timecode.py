"""SMPTE ST 12-1 time codes: ``01:02:03:04``, and ``01:02:03;04`` if two numbers are dropped in most minutes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

_FORM = re.compile(r"(\d\d):([0-5]\d):([0-5]\d)([:;.])(\d\d)")


def later(timecode: str, seconds: Fraction, rate: Fraction) -> str | None:
    """Return the time code ``seconds`` after this one; None if it is invalid at this rate.

    Args:
        timecode: Time code of the first frame.
        seconds: Time to add; rounded to whole frames.
        rate: Frames per second.
    """
    match = _FORM.fullmatch(timecode)
    nominal = round(rate)
    if match is None or nominal < 1 or int(match[5]) >= nominal:
        return None
    drops = match[4] != ":"
    if drops and nominal not in (30, 60):
        return None
    dropped = nominal // 15 if drops else 0  # numbers skipped at the start of each minute except every tenth
    hours, minutes, whole, frames = int(match[1]), int(match[2]), int(match[3]), int(match[5])
    total = 60 * hours + minutes
    number = (60 * total + whole) * nominal + frames - dropped * (total - total // 10) + round(seconds * rate)
    if drops:
        ten = 600 * nominal - 9 * dropped
        tens, rest = divmod(number, ten)
        number += 9 * dropped * tens + dropped * max(0, (rest - dropped) // (60 * nominal - dropped))
    whole, frames = divmod(number, nominal)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours % 24:02}:{minutes:02}:{whole:02}{match[4]}{frames:02}"
