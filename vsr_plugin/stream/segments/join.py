"""`join`: parts into the file, by the writer that writes a film in one go."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ...errors import OutputError
from ..encode import writing
from ..output import Part as HiddenFolder
from ..writer import Writer
from .parts import packets
from .plan import without_samples
from .section import Copied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from av.packet import Packet

    from ...sizes import Target
    from ..written import Written
    from . import Film
    from .parts import Part


def join(
    film: Film,
    parts: Sequence[Part],
    folder: Path,
    output: Path,
    target: Target,
    *,
    overwrite: bool,
    before_placed: Callable[[Path], None] = lambda _: None,
) -> tuple[Written, int]:
    """Write the file.

    Args:
        film: What the parts are of.
        parts: Of all segments, in order.
        folder: Where their packets lie.
        output: The file.
        target: What has become of the film's frames in the parts.
        overwrite: Replace an existing file.
        before_placed: Called with the whole file, before it gets its name.

    Returns:
        What was written, and in how many places the input is damaged.

    Raises:
        OutputError: a part is damaged or of another encoder; the file cannot be written.
    """
    with ExitStack() as cleanup:
        copied = Copied(film)
        cleanup.callback(copied.close)
        hidden = cleanup.enter_context(HiddenFolder(output, sequence=False, overwrite=overwrite))
        writer = PartsWriter(hidden.file, film.suffix, copied.file, film.encoding, strict=film.strict, name=output.name)
        cleanup.callback(writer.abandon)
        with writing(writer):
            writer.open(without_samples(film.plan.opening.frame, target))
            copied.settle()
            writer.check(parts)
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
        before_placed(hidden.file)
        writer.written.output = str(hidden.place())
        return writer.written, copied.file.damaged + sum(part.damaged for part in parts)


class PartsWriter(Writer):
    """Writes what encoders have left in parts; its own encoder only makes the header."""

    def check(self, parts: Sequence[Part]) -> None:
        """Raise OutputError unless all parts have the header that the file will have."""
        for part in parts:
            if part.codec != self.written.codec or not _alike(bytes.fromhex(part.header), self.header, part.codec):
                raise OutputError(
                    f"{self.name}: the encoder of segment {part.number} was not the same one as here: expected one "
                    "version of FFmpeg's libraries and one kind of machine"
                )

    def put(self, packet: Packet[Any]) -> None:
        """Write a packet of a part."""
        packet.time_base = self.ticks
        super().put(packet)
        self.written.frames += 1
        self.written.position = float((packet.pts or 0) * self.ticks)


def _alike(one: bytes, other: bytes, codec: str) -> bool:
    """Whether two headers say the same; x265 also writes down how many threads it has."""
    if one == other:
        return True
    return codec == "libx265" and _without_notes(one) == _without_notes(other)


def _without_notes(header: bytes) -> list[bytes]:
    """The NAL units of a header of HEVC but those of type 39 (ITU-T H.265, table 7-1: prefix SEI)."""
    units = header.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [unit for unit in units if unit and unit[0] >> 1 & 0x3F != 39]


def timed(parts: Sequence[Part], folder: Path) -> Iterator[Packet[Any]]:
    """The packets of all parts in decoding order, with decoding times that rise over the seams.

    The n-th packet is decoded when the frame is shown that comes as many places before the n-th as any packet has to
    come before its own.
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
    """How many frames later than it is decoded a frame is shown, at most."""
    places = {pts: place for place, pts in enumerate(sorted(row[0] for row in part.packets))}
    return max((count - places[row[0]] for count, row in enumerate(part.packets)), default=0)


def _decoding_time(times: Sequence[int], count: int, delay: int) -> int:
    if count >= delay:
        return times[count - delay]
    if delay < len(times):  # before the first frame is shown, at the pace of the first frames
        return times[count] - (times[delay] - times[0])
    return times[0] - (delay - count)
