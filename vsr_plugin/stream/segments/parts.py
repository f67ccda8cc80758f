"""A part: the encoded packets of one segment, and what is known of them, in one file.

``00007-TOKEN.part`` has the packets one after the other; then, as JSON, what is known of them, such as their times in
the time base of the source, which no container holds as they are: NUT has no durations, Matroska has milliseconds; then
the length of that, and its checksum. It is written under a temporary name, and one rename decides that it is there. The
token is another one each time: who makes the same part a second time, such as a worker that outlives its command,
replaces nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from av.packet import Packet

from ...errors import OutputError
from ..output import sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


NOT_THERE = (FileNotFoundError, NotADirectoryError)
NAME = re.compile(r"(\d{5,})-[0-9a-f]{8}\.part")
_LENGTH, _DIGEST = 8, 32  # bytes at the end of a file
_PIECE = 1 << 20  # bytes that are read at a time
# Checksums of the frames before and behind a seam, as they were decoded; the former is None if decoding began there.
Seam = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of an encoded segment.

    Attributes:
        number: Of the segment.
        job: As in `Film`.
        frames: How many it has.
        damaged: Places in the input that did not decode.
        told: What was said of some of them.
        dropped: What of its frames is lost, and why.
        unread: Whether an error ended the reading of the input; it may pass.
        first: The seam that it begins with; None if there is no frame.
        beyond: The seam behind its last frame; None at the end of the film.
        codec: The encoder's name.
        header: The encoder's extradata in hexadecimal.
        size: Bytes of all packets.
        sha256: Of them.
        packets: (pts, duration, bytes, whether it is a key frame) of each, in decoding order, in ticks of the output.
        seconds: That it took.
        reused: How many frames' work of the networks was not done, for nothing had changed; where several segments are
            made in one go, that of the frames read ahead counts for the one before.
        token: What tells it from others of the same segment.
    """

    number: int
    job: str
    frames: int
    damaged: int
    first: Seam | None
    beyond: Seam | None
    codec: str
    header: str
    size: int
    sha256: str
    packets: list[tuple[int, int, int, int]]
    told: tuple[str, ...] = ()
    dropped: tuple[tuple[str, str], ...] = ()
    unread: bool = False
    seconds: float = 0.0
    reused: float = 0.0
    token: str = field(default_factory=lambda: secrets.token_hex(4))


def place(folder: Path, part: Part) -> Path:
    """Where a part lies."""
    return folder / f"{part.number:05}-{part.token}.part"


def find_parts(folder: Path) -> dict[int, list[Path]]:
    """The files of all parts in a folder, whole or not, by the number of their segment; none if it is not there.

    Raises:
        OutputError: it cannot be told, for the disk does not answer.
    """
    found: dict[int, list[Path]] = {}
    with suppress(*NOT_THERE), reading(folder):
        for file in sorted(folder.iterdir()):
            if match := NAME.fullmatch(file.name):
                found.setdefault(int(match[1]), []).append(file)
    return found


def read_part(file: Path) -> Part | None:
    """What is known of a part, from its file; None if that is not whole.

    Raises:
        OutputError: it cannot be told, for the disk does not answer.
    """
    try:
        with reading(file), file.open("rb") as opened:
            end = opened.seek(0, os.SEEK_END) - _LENGTH - _DIGEST
            if end < 0:
                return None
            opened.seek(end)
            length = int.from_bytes(opened.read(_LENGTH))
            checksum = opened.read(_DIGEST)
            if length > end:
                return None
            opened.seek(end - length)
            known = opened.read(length)
        if hashlib.sha256(known).digest() != checksum:
            return None
        part = part_of(json.loads(known))
    except (*NOT_THERE, ValueError, TypeError, KeyError):
        return None
    return part if part.size == end - length and file.name == place(file.parent, part).name else None


def part_of(found: dict[str, Any]) -> Part:
    """A part as JSON has it.

    Raises:
        TypeError, KeyError: it is none.
    """
    pairs = {name: [tuple(row) for row in found[name]] for name in ("packets", "dropped")}
    seams = {name: found[name] and tuple(found[name]) for name in ("first", "beyond")}
    return Part(**{**found, **pairs, **seams, "dropped": tuple(pairs["dropped"]), "told": tuple(found["told"])})


def remove_part(file: Path) -> None:
    """Forget a part; harmless where there is none.

    Raises:
        OutputError: it cannot be removed.
    """
    with writing_to(file.parent):
        file.unlink(missing_ok=True)


def is_whole(folder: Path, part: Part) -> bool:
    """Whether a part's packets are what was written.

    Raises:
        OutputError: it cannot be told, for the disk does not answer.
    """
    file = place(folder, part)
    checksum, left = hashlib.sha256(), part.size
    try:
        with reading(file), file.open("rb") as opened:
            while left and (data := opened.read(min(left, _PIECE))):
                checksum.update(data)
                left -= len(data)
    except NOT_THERE:
        return False
    return checksum.hexdigest() == part.sha256


def packets(folder: Path, part: Part) -> Iterator[Packet[Any]]:
    """The packets of a part in decoding order, without decoding times.

    Raises:
        OutputError: they are not what was written.
    """
    file, checksum = place(folder, part), hashlib.sha256()
    try:
        with file.open("rb") as opened:
            for pts, duration, size, key in part.packets:
                data = opened.read(size)
                checksum.update(data)
                packet: Packet[Any] = Packet(data)
                packet.pts, packet.duration = pts, duration
                packet.is_keyframe = bool(key)
                yield packet
    except OSError as error:
        raise OutputError(f"Cannot read {file}: {error.strerror}") from error
    if checksum.hexdigest() != part.sha256:
        raise OutputError(f"{file} is damaged")


class OpenPart:
    """A part that is being made.

    Args:
        number: Of the segment.
        file: Open for its packets.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, number: int, file: BinaryIO) -> None:
        self.number = number
        self.size = 0
        self._file = file
        self._checksum = hashlib.sha256()
        self._packets: list[tuple[int, int, int, int]] = []

    def close(self) -> None:
        """Nothing of it is left unless it is finished; harmless when called again."""

    def add(self, packet: Packet[Any]) -> None:
        """Append a packet of the encoder, with its times in ticks of the output."""
        data = bytes(packet)
        self._file.write(data)
        self._checksum.update(data)
        self.size += len(data)
        self._packets.append((packet.pts or 0, packet.duration or 0, len(data), int(packet.is_keyframe)))

    def finish(self, **known: Any) -> Part:
        """What is known of it, when it is whole."""
        return Part(
            number=self.number, size=self.size, sha256=self._checksum.hexdigest(), packets=self._packets, **known
        )


class PartFile(OpenPart):
    """A part that is being written; it is there when `finish` returns, or not at all.

    Args:
        folder: Of the parts.
        number: Of the segment.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._temporary = _temporary(folder / f"{number:05}.part")
        with writing_to(folder):
            super().__init__(number, self._temporary.open("wb"))

    def close(self) -> None:
        """Remove what is not finished; harmless when called again."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def add(self, packet: Packet[Any]) -> None:
        """As `OpenPart.add`."""
        with writing_to(self._folder):
            super().add(packet)

    def finish(self, **known: Any) -> Part:
        """Put the part in its place, and say what is known of it."""
        part = super().finish(**known)
        with writing_to(self._folder):
            self._file.write(_known(part))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(place(self._folder, part))
        sync(self._folder)
        return part


def store_part(folder: Path, part: Part, data: bytes) -> None:
    """Keep a part that was made elsewhere.

    Raises:
        OutputError: it cannot be written.
    """
    write_atomically(place(folder, part), data + _known(part))


def read_text(file: Path) -> str:
    """The contents of a file; errors are as in `reading`."""
    with reading(file):
        return file.read_text(encoding="utf-8")


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Where a file is there and cannot be read, raise OutputError: that does not mean that it is lost."""
    try:
        yield
    except NOT_THERE:
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # none can be there
            raise FileNotFoundError(*error.args) from error
        raise OutputError(f"Cannot read {file}: {error.strerror}") from error


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Where a folder cannot be written to, raise OutputError."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write to {folder}: {error.strerror}") from error


def _known(part: Part) -> bytes:
    """What a file has behind the packets."""
    known = json.dumps(asdict(part)).encode()
    return known + len(known).to_bytes(_LENGTH) + hashlib.sha256(known).digest()


def _temporary(file: Path) -> Path:
    """A name that no other process takes, on no other machine either."""
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file that is there as a whole or not at all, whatever happens.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = _temporary(file)
    with writing_to(file.parent):
        try:
            with temporary.open("wb") as opened:
                opened.write(data)
                opened.flush()
                os.fsync(opened.fileno())
            temporary.replace(file)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    sync(file.parent)
