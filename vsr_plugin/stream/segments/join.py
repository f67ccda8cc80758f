"""`join`: writes the segments into one file, with the writer that also writes a film in one go.

MP4 and MOV of x265 and SVT-AV1 lack the table ``sdtp``, which lists frames that no other refers to: PyAV cannot set
that flag of a packet. The frames themselves contain it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...errors import OutputError
from ..encode import writing
from ..output import Part as HiddenFolder
from ..writer import Writer
from .encoding import Nowhere
from .parts import packets
from .plan import without_samples
from .section import Copied

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from av.packet import Packet

    from ...sizes import Target
    from ..written import Written
    from . import Film
    from .parts import Part

Drop = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Header:
    """What all parts of a film must have in common.

    Attributes:
        output: Name of the file that they are joined into.
        codec: The encoder's name.
        data: The encoder's extradata.
    """

    output: str
    codec: str
    data: bytes

    def check(self, part: Part) -> None:
        """Raise OutputError if a part differs."""
        if part.codec != self.codec or not _alike(bytes.fromhex(part.header), self.data, part.codec):
            raise OutputError(
                f"{self.output}: the encoder of segment {part.number} was not the same one as here: expected one "
                "version of FFmpeg's libraries and one kind of machine",
                fresh=True,
            )


def header(film: Film, output: Path, target: Target, drop: Drop) -> Header:
    """Return the header of the file before any part is made, and report everything that the file cannot store.

    Args:
        film: The film.
        output: The file to write.
        target: Size, scales and pixel aspect ratio of the enlarged frames.
        drop: As for `join`.

    Raises:
        UsageError: the encoder does not know an option or a value.
        OutputError: the file cannot store what it should.
    """
    with ExitStack() as cleanup:
        copied = Copied(film, quiet=True)
        cleanup.callback(copied.close)
        writer = PartsWriter(Nowhere(film.suffix), film, copied, output.name, drop)
        cleanup.callback(writer.abandon)
        with writing(writer):
            writer.open(without_samples(film.plan.opening.frame, target))
        return Header(output.name, writer.written.codec, writer.header)


def join(
    film: Film,
    parts: Sequence[Part],
    folder: Path,
    output: Path,
    target: Target,
    *,
    overwrite: bool,
    drop: Drop,
    before_placed: Callable[[Path, Written, int], None] = lambda *_: None,
) -> tuple[Written, int]:
    """Write the file.

    Args:
        film: The film of the parts.
        parts: Parts of all segments, in order.
        folder: Folder of the parts.
        output: The file to write.
        target: Size, scales and pixel aspect ratio of the enlarged frames.
        overwrite: Replace an existing file.
        drop: Called with what is not copied, and why; may raise.
        before_placed: Called with the complete file, what was written, and the number of damaged places of the input,
            before the file gets its name.

    Returns:
        What was written, and the number of damaged places of the input.

    Raises:
        OutputError: a part is damaged, or from another encoder; the file cannot be written.
    """
    with ExitStack() as cleanup:
        copied = Copied(film)
        cleanup.callback(copied.close)
        hidden = cleanup.enter_context(HiddenFolder(output, sequence=False, overwrite=overwrite))
        writer = PartsWriter(hidden.file, film, copied, output.name, drop)
        cleanup.callback(writer.abandon)
        with writing(writer):
            writer.open(without_samples(film.plan.opening.frame, target))
            copied.settle()
        made = Header(output.name, writer.written.codec, writer.header)
        for part in parts:
            made.check(part)
        end = Fraction(0)
        for packet in timed(parts, folder):
            assert packet.pts is not None
            copied.follow(packet)
            end = max(end, (packet.pts + (packet.duration or 0)) * copied.file.time_base)
            with writing(writer):
                writer.put(packet)
        copied.finish(writer.written.frames, end)
        with writing(writer):
            writer.complete()
        damaged = copied.file.damaged + sum(part.damaged for part in parts)
        before_placed(hidden.file, writer.written, damaged)
        writer.written.output = str(hidden.place())
        return writer.written, damaged


class PartsWriter(Writer):
    """Writes the packets of parts; its own encoder only makes the header.

    Args:
        file: File to write to.
        film: The film of the parts.
        copied: Source of everything else.
        name: Name of the output.
        drop: As for `join`.
    """

    def __init__(self, file: Any, film: Film, copied: Copied, name: str, drop: Drop) -> None:
        self._say_dropped = drop
        super().__init__(file, film.suffix, copied.file, film.encoding, strict=film.strict, name=name)

    def _drop(self, what: str, why: str) -> None:
        self._say_dropped(what, why)

    def put(self, packet: Packet[Any]) -> None:
        """Write a packet of a part."""
        packet.time_base = self.ticks
        super().put(packet)
        self.written.frames += 1
        self.written.position = float((packet.pts or 0) * self.ticks)


def _alike(one: bytes, other: bytes, codec: str) -> bool:
    """Whether two headers are equivalent; x265 also stores its number of threads in them."""
    if one == other:
        return True
    return codec == "libx265" and _without_notes(one) == _without_notes(other)


def _without_notes(header: bytes) -> list[bytes]:
    """Return the NAL units of an HEVC header except those of type 39 (ITU-T H.265, table 7-1: prefix SEI)."""
    units = header.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [unit for unit in units if unit and unit[0] >> 1 & 0x3F != 39]


def timed(parts: Sequence[Part], folder: Path) -> Iterator[Packet[Any]]:
    """Yield the packets of all parts in decoding order, with decoding times that increase across the seams.

    The decoding time of packet n is the presentation time of frame n − d in display order, where d is the largest
    `_delay` of the parts.
    """
    times = [pts for part in parts for pts in sorted(row[0] for row in part.packets)]
    delay = max((_delay(part) for part in parts), default=0)
    count = 0
    for part in parts:
        for packet in packets(folder, part):
            packet.dts = _decoding_time(times, count, delay)
            count += 1
            yield packet


def _delay(part: Part) -> int:
    """Largest number of places by which a frame comes later in decoding order than in display order."""
    places = {pts: place for place, pts in enumerate(sorted(row[0] for row in part.packets))}
    return max((count - places[row[0]] for count, row in enumerate(part.packets)), default=0)


def _decoding_time(times: Sequence[int], count: int, delay: int) -> int:
    if count >= delay:
        return times[count - delay]
    if delay < len(times):  # before the first frame is shown, at the rate of the first frames
        return times[count] - (times[delay] - times[0])
    return times[0] - (delay - count)
