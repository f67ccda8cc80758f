"""`AspectWriter`: writes the sample aspect ratio into a y4m header."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

from ..errors import OutputError

if TYPE_CHECKING:
    from fractions import Fraction


class AspectWriter:
    """A binary file to mux y4m into; it puts the sample aspect ratio into the header.

    FFmpeg's muxer reads the ratio from a field of the stream that PyAV cannot set, and writes A0:0, for unknown.

    Args:
        file: File to write to; not closed here.
        ratio: Width : height of a pixel.
    """

    def __init__(self, file: BinaryIO, ratio: Fraction) -> None:
        self._file = file
        self._stated = f" A{ratio.numerator}:{ratio.denominator}".encode()
        self._begun = False

    def write(self, data: bytes) -> int:
        """Write all of ``data``; in the first call it begins with the header.

        Raises:
            BrokenPipeError: the reader has closed the pipe.
            OutputError: the file cannot be written.
        """
        written = bytes(data)
        if not self._begun:
            self._begun = True
            header, line, rest = written.partition(b"\n")
            written = header.replace(b" A0:0", self._stated, 1) + line + rest
        try:
            self._file.write(written)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"Cannot write y4m: {error.strerror}") from error
        return len(data)
