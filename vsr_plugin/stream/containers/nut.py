"""`nut_check`: checks the packets of a NUT file, each of which states its length (NUT specification, 2013)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .walk import BrokenError

if TYPE_CHECKING:
    from collections.abc import Generator

    from .walk import Steps, Walk

_FILE_ID = b"nut/multimedia container\0"
_MAIN = bytes.fromhex("4e4d7a561f5f04ad")  # startcodes: of the main header, of streams, sync points, the index, tags
_OTHERS = {
    bytes.fromhex(mark)
    for mark in ("4e5311405bf2f9db", "4e4be4adeeca4569", "4e58dd672f23e64e", "4e49ab68b596ba78")
}  # fmt: skip
_LARGEST = 1 << 64  # number
_CODES = 256
_LONG = 4096  # bytes: longer packets have a checksum after their length, longer frames have no prefix removed

# Flags of a frame.
_CODED_PTS, _STREAM, _SIZE, _CHECKSUM, _RESERVED, _PREFIX, _MATCH, _CODED, _INVALID = (
    8, 16, 32, 64, 128, 1024, 2048, 4096, 8192
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _FrameCode:
    """Properties of a frame that its first byte encodes."""

    flags: int
    factor: int = 1
    size: int = 0
    reserved: int = 0
    prefix: int = 0


@dataclass(slots=True)
class _Main:
    """The main header: the meaning of each frame code, and how many bytes of a frame each prefix replaces."""

    codes: list[_FrameCode] = field(default_factory=list)
    prefixes: list[int] = field(default_factory=lambda: [0])


def nut_check(walk: Walk) -> Steps:
    """Check the packets. The file may end after any of them, because an index is optional."""
    if (yield len(_FILE_ID)) != _FILE_ID:
        return
    main = None
    while True:
        at = walk.at
        walk.unfinished = None
        first = yield 1
        walk.unfinished = f"the packet at byte {at}"
        if first == b"N":
            mark = first + (yield 7)
            if mark != _MAIN and mark not in _OTHERS:
                raise BrokenError(f"there is no packet at byte {at}")
            length = yield from _number()
            if length > _LONG:
                yield -4
            end = walk.at + length
            if mark == _MAIN:
                main = yield from _read_main()
            if walk.at > end:
                raise BrokenError(f"there is no packet at byte {at}")
            yield walk.at - end
        elif main is None or (code := main.codes[first[0]]).flags & _INVALID:
            raise BrokenError(f"there is no packet at byte {at}")
        else:
            yield -(yield from _frame_size(main, code, at))


def _frame_size(main: _Main, code: _FrameCode, at: int) -> Generator[int | None, Any, int]:
    """Read a frame's header, and return the number of bytes that follow it."""
    flags, size, prefix, reserved = code.flags, code.size, code.prefix, code.reserved
    if flags & _CODED:
        flags ^= yield from _number()
    for flag in (_STREAM, _CODED_PTS):
        if flags & flag:
            yield from _number()
    if flags & _SIZE:
        size += code.factor * (yield from _number())
    if flags & _MATCH:
        yield from _number()
    if flags & _PREFIX:
        prefix = yield from _number()
    if flags & _RESERVED:
        reserved = yield from _number()
    for _ in range(reserved):
        yield from _number()
    if flags & _CHECKSUM:
        yield -4
    replaced = 0 if size > _LONG else main.prefixes[prefix] if prefix < len(main.prefixes) else size + 1
    if replaced > size:
        raise BrokenError(f"there is no packet at byte {at}")
    return size - replaced


def _read_main() -> Generator[int | None, Any, _Main]:
    if (yield from _number()) > 3:
        yield from _number()  # the minor version
    for _ in range(2):
        yield from _number()  # streams, and bytes between sync points
    for _ in range(2 * (yield from _number())):
        yield from _number()  # time bases
    main = _Main()
    factor, prefix = 1, 0
    while len(main.codes) < _CODES:
        flags = yield from _number()
        fields = []  # pts, factor, stream, size, reserved, count, match, prefix, …
        for _ in range((yield from _number())):
            fields.append((yield from _number()))  # noqa: PERF401 - each one is awaited
        factor = fields[1] if len(fields) > 1 else factor
        size = fields[3] if len(fields) > 3 else 0
        reserved = fields[4] if len(fields) > 4 else 0
        prefix = fields[7] if len(fields) > 7 else prefix
        count = fields[5] if len(fields) > 5 else factor - size
        for more in range(min(count, _CODES)):
            if len(main.codes) == ord("N"):
                main.codes.append(_FrameCode(_INVALID))
            main.codes.append(_FrameCode(flags, factor, size + more, reserved, prefix))
    for _ in range((yield from _number())):
        main.prefixes.append((yield from _number()))
        yield -main.prefixes[-1]
    return main


def _number() -> Generator[int | None, Any, int]:
    """Read a number: seven bits of each byte; the eighth is set if another byte follows."""
    value = 0
    while True:
        byte: int = (yield 1)[0]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value
        if value > _LARGEST:
            raise BrokenError("one of its numbers is too large")
