"""`Selection`: which frames of a source are taken, and how they are decoded."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..arguments import checked_arguments
from ..errors import UsageError
from ..frames import Matrix, Range

# The names that an error message lists: the short ones first.
_NAMES: dict[type, tuple[str, ...]] = {
    Matrix: (
        "bt709", "bt601", "bt2020",
        *(one.name.lower() for one in Matrix if one not in (Matrix.RGB, Matrix.BT709, Matrix.UNSPECIFIED)),
    ),
    Range: ("limited", "full"),
}  # fmt: skip


# As FFmpeg names them (libavutil/hwcontext.c).
HWACCELS = (
    "amf", "cuda", "d3d11va", "d3d12va", "drm", "dxva2", "mediacodec", "ohcodec", "opencl", "qsv", "vaapi", "vdpau",
    "videotoolbox", "vulkan",
)  # fmt: skip


@checked_arguments("start", "duration", "frame_rate", "matrix", "range")
@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which frames of a source to take, and how to decode them; by default, all frames, unchanged.

    Times and the rate may be any kind of number; they are stored as fractions. Matrix and range may be given by name.

    Attributes:
        start: Where to begin, in seconds from the beginning of the file; the output then counts time from 0.
        duration: Number of seconds to take.
        frames: Maximum number of frames to take.
        frame_rate: Frame rate of image sequences and of streams without timestamps.
        deinterlace: Make one frame of every two fields (bwdif); without it, interlaced input is refused.
        hwaccel: Type of device to decode on (``cuda``); what it cannot decode is decoded in software.
        matrix: YUV matrix to use instead of the file's: ``Matrix.BT709``, or "bt709", "bt601", "bt2020". The output is
            tagged with it, too.
        range: Sample range to use instead of the file's: ``Range.FULL``, or "full", "limited".

    Raises:
        UsageError: a value is out of range.
    """

    start: Fraction | None = None
    duration: Fraction | None = None
    frames: int | None = None
    frame_rate: Fraction | None = None
    deinterlace: bool = False
    hwaccel: str | None = None
    matrix: Matrix | None = None
    range: Range | None = None

    def __post_init__(self) -> None:
        for name in ("start", "duration", "frame_rate"):
            value = getattr(self, name)
            if value is None:
                continue
            value = exact(name, value)
            if value < 0 or (name == "frame_rate" and value == 0):
                least = "above 0" if name == "frame_rate" else "of 0 or more"
                raise UsageError(f"Expected {name} to be a number {least}, got {value}")
            object.__setattr__(self, name, value)
        if self.hwaccel is not None and self.hwaccel not in HWACCELS:
            raise UsageError(f"Unknown hwaccel {self.hwaccel!r}. Expected one of {', '.join(HWACCELS)}")
        if self.frames is not None and self.frames < 1:
            raise UsageError(f"Expected frames to be 1 or more, got {self.frames}")
        object.__setattr__(self, "matrix", _named(Matrix, "matrix", self.matrix))
        object.__setattr__(self, "range", _named(Range, "range", self.range))
        if self.matrix in (Matrix.RGB, Matrix.UNSPECIFIED):
            raise UsageError(f"Expected a matrix of YUV, got {Matrix(self.matrix).name.lower()}", matrix=None)


def exact(name: str, value: Any) -> Fraction:
    """Convert a number, or a string that contains one, to a fraction; ``name`` is the name of the argument.

    A float is taken for the decimal number that Python prints: 0.1 is 1/10, so that 0.1 and 0.2 add up to 0.3.

    Raises:
        UsageError: the value is something else, or not finite.
    """
    try:
        return Fraction(float.__repr__(value) if isinstance(value, float) else value)
    except (TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise UsageError(f"Expected {name} to be a number, got {value!r}") from error


def _named[Kind: (Matrix, Range)](kind: type[Kind], what: str, value: Any) -> Kind | None:
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(_NAMES[kind])
        raise UsageError(f"Unknown {what} {value!r}. Expected one of {known}") from error
