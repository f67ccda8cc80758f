"""A part: the encoded packets of one segment, and their properties, in one file.

``00007-TOKEN.part`` contains the packets, one after the other; then their properties as JSON; then the length of that,
and its checksum. The properties include the times in the time base of the source, which no container stores exactly:
NUT has no durations, and Matroska has milliseconds. A part is written under a temporary name, and then renamed. The
token is random: a process that makes the same part again, such as a worker that outlives its command, replaces nothing.
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
# Checksums of the decoded frames before and after a seam; the former is None if decoding began there.
Seam = tuple[str | None, str]


@dataclass(frozen=True, slots=True)
class Part:
    """Properties of an encoded segment.

    Attributes:
        number: Number of the segment.
        job: As in `Film`.
        frames: Number of frames.
        damaged: Number of places in the input that did not decode.
        told: Descriptions of some of them.
        dropped: What of its frames is lost, and why.
        unread: Whether an error ended the reading of the input; the next try may succeed.
        first: The seam before its first frame; None if there is no frame.
        beyond: The seam after its last frame; None at the end of the film.
        codec: The encoder's name.
        header: The encoder's extradata in hexadecimal.
        size: Bytes of all packets.
        sha256: Checksum of all packets.
        packets: (pts, duration, bytes, whether it is a key frame) of each, in decoding order, in ticks of the output.
        seconds: Time that it took, in seconds.
        reused: The networks' work that was skipped because nothing had changed, in frames; if several segments are made
            in one go, frames that are read ahead count for the previous one.
        token: Distinguishes it from other parts of the same segment.
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
    """The path of a part."""
    return folder / f"{part.number:05}-{part.token}.part"


def find_parts(folder: Path) -> dict[int, list[Path]]:
    """Find the files of all parts in a folder, complete or not, by number of the segment; none without a folder.

    Raises:
        OutputError: the folder exists but cannot be read.
    """
    found: dict[int, list[Path]] = {}
    with suppress(*NOT_THERE), reading(folder):
        for file in sorted(folder.iterdir()):
            if match := NAME.fullmatch(file.name):
                found.setdefault(int(match[1]), []).append(file)
    return found


def read_part(file: Path) -> Part | None:
    """Read the properties of a part from its file; None if that is incomplete.

    Raises:
        OutputError: the file exists but cannot be read.
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
    """Convert a part from JSON.

    Raises:
        TypeError, KeyError: it is not a part.
    """
    pairs = {name: [tuple(row) for row in found[name]] for name in ("packets", "dropped")}
    seams = {name: found[name] and tuple(found[name]) for name in ("first", "beyond")}
    return Part(**{**found, **pairs, **seams, "dropped": tuple(pairs["dropped"]), "told": tuple(found["told"])})


def remove_part(file: Path) -> None:
    """Remove the file of a part, if it exists.

    Raises:
        OutputError: the file cannot be removed.
    """
    with writing_to(file.parent):
        file.unlink(missing_ok=True)


def is_whole(folder: Path, part: Part) -> bool:
    """Whether a part's packets match their checksum.

    Raises:
        OutputError: the file exists but cannot be read.
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
    """Yield the packets of a part in decoding order, without decoding times.

    Raises:
        OutputError: the packets cannot be read, or do not match their checksum.
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
        number: Number of the segment.
        file: File for its packets, opened for writing.

    Attributes:
        size: Bytes of packets so far.
    """

    def __init__(self, number: int, file: BinaryIO) -> None:
        self.number = number
        self.size = 0
        self._file = file
        self._checksum = hashlib.sha256()
        self._packets: list[tuple[int, int, int, int]] = []

    def close(self) -> None:
        """Discard the part unless it is finished; may be called again."""

    def add(self, packet: Packet[Any]) -> None:
        """Append a packet of the encoder, with its times in ticks of the output."""
        data = bytes(packet)
        self._file.write(data)
        self._checksum.update(data)
        self.size += len(data)
        self._packets.append((packet.pts or 0, packet.duration or 0, len(data), int(packet.is_keyframe)))

    def finish(self, **known: Any) -> Part:
        """Return the properties of the complete part."""
        return Part(
            number=self.number, size=self.size, sha256=self._checksum.hexdigest(), packets=self._packets, **known
        )


class PartFile(OpenPart):
    """A part that is being written; its file exists only after `finish`.

    Args:
        folder: Folder of the parts.
        number: Number of the segment.

    Raises:
        OutputError: the part cannot be written.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._folder = folder
        self._temporary = _temporary(folder / f"{number:05}.part")
        with writing_to(folder):
            super().__init__(number, self._temporary.open("wb"))

    def close(self) -> None:
        """Remove the file unless it is finished; may be called again."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def add(self, packet: Packet[Any]) -> None:
        """See `OpenPart.add`."""
        with writing_to(self._folder):
            super().add(packet)

    def finish(self, **known: Any) -> Part:
        """Move the part to its place, and return its properties."""
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
    """Store a part that was made elsewhere.

    Raises:
        OutputError: the part cannot be written.
    """
    write_atomically(place(folder, part), data + _known(part))


def read_text(file: Path) -> str:
    """Read the contents of a file; errors are as in `reading`."""
    with reading(file):
        return file.read_text(encoding="utf-8")


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Raise OutputError if a file exists but cannot be read, which does not mean that it is lost."""
    try:
        yield
    except NOT_THERE:
        raise
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no such file can exist
            raise FileNotFoundError(*error.args) from error
        raise OutputError(f"Cannot read {file}: {error.strerror}") from error


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise OutputError if a folder cannot be written to."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write to {folder}: {error.strerror}") from error


def _known(part: Part) -> bytes:
    """Return the bytes that follow the packets in a file."""
    known = json.dumps(asdict(part)).encode()
    return known + len(known).to_bytes(_LENGTH) + hashlib.sha256(known).digest()


def _temporary(file: Path) -> Path:
    """Return a name that no other process uses, on any machine."""
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file completely or not at all, even if interrupted.

    Raises:
        OutputError: the file cannot be written.
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
