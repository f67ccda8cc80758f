"""Readers of the headers of H.264, MPEG-2 and AV1: which color tags they contain (`Said`)."""

from __future__ import annotations

from typing import NamedTuple

_START = b"\0\0\1"
_MOST = 4096  # bytes of a header that are read
# ITU-T H.264, table 7-1
_SLICES, _SPS, _PPS = (1, 5), 7, 8
# Profiles whose headers state the chroma format (ITU-T H.264, 7.3.2.1.1)
_HIGH = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_OWN_RATIO = 255  # the aspect ratio follows in 32 bits
# ITU-T H.262, table 6-1, and 6.3.5 for the extension
_PICTURE, _SEQUENCE, _EXTENSION, _SEQUENCE_END, _DISPLAY = 0x00, 0xB3, 0xB5, 0xB7, 2
_SEQUENCE_OBU = 1  # AV1, 6.2.2


class Said(NamedTuple):
    """Which color tags a header contains."""

    range: bool
    description: bool  # primaries, transfer and matrix


ALL = Said(range=True, description=True)


class H264:
    """Reads sequence and picture parameter sets."""

    def __init__(self) -> None:
        self._said: dict[int, Said] = {}  # by the number of the sequence parameter set
        self._sets: dict[int, int] = {}  # number of a picture parameter set → number of its sequence parameter set

    def read(self, data: bytes) -> Said:
        """Read a packet: what the headers of its frame contain."""
        place = data.find(_START)
        while 0 <= place < len(data) - 3:
            kind, unit = data[place + 3] & 0x1F, data[place + 4 : place + 4 + _MOST]
            place = data.find(_START, place + 3)
            try:
                if kind == _SPS:
                    number, said = _sequence_parameters(unit)
                    self._said[number] = said
                elif kind == _PPS:
                    bits = _Bits(_unescaped(unit))
                    self._sets[bits.number()] = bits.number()
                elif kind in _SLICES:
                    bits = _Bits(_unescaped(unit[:64]))
                    bits.skip_numbers(2)
                    return self._said.get(self._sets.get(bits.number(), -1), ALL)
            except EOFError:  # damage, which the decoder reports
                continue
        return ALL


class Mpeg2:
    """Reads sequence headers and their display extensions.

    Some encoders write the extension once, some with every header. A header without one begins another film if it
    states another size or rate, if a sequence ended before it, or if all headers before it, at least two, had one.

    Attributes:
        inherits: Whether the header in the last packet leaves its colors to those before; None if it has no header.
        stated: The last header with a display extension.
    """

    def __init__(self) -> None:
        self.inherits: bool | None = None
        self.stated = b""
        self._said = ALL
        self._header = b""
        self._extended = self._bare = 0  # frames of this film whose headers have the extension, or lack it

    def read(self, data: bytes) -> Said:
        """Read a packet, or headers alone: what the headers of its frame contain."""
        header, described, frame, end = b"", None, False, len(data)
        place = data.find(_START)
        while 0 <= place < len(data) - 4 and not frame:
            kind, unit = data[place + 3], data[place + 4 : place + 11]
            frame, end = kind == _PICTURE, place
            place = data.find(_START, place + 3)
            if kind == _SEQUENCE_END:
                self._header = b""
            elif kind == _SEQUENCE:
                header = unit
            elif kind == _EXTENSION and unit[0] >> 4 == _DISPLAY:
                described = bool(unit[0] & 1)
        self.inherits = described is None if header else None
        if header and described is not None:
            self.stated = data[:end] if frame else data
        if header:
            self._note(header, described, frame=frame)
        if _START + bytes((_SEQUENCE_END,)) in data[-8:]:
            self._header = b""
        return self._said

    def _note(self, header: bytes, described: bool | None, *, frame: bool) -> None:
        another = header != self._header or (described is None and self._extended > 1 and not self._bare)
        if another:
            self._header, self._extended, self._bare = header, 0, 0
        if another or described is not None:
            self._said = Said(range=True, description=bool(described))
        if frame and described is None:
            self._bare += 1
        elif frame:
            self._extended += 1


class AV1:
    """Reads sequence headers."""

    def __init__(self) -> None:
        self._said = ALL

    def read(self, data: bytes) -> Said:
        """Read a packet: what the headers of its frame contain."""
        place = 0
        while place < len(data):
            kind, extended, sized = data[place] >> 3 & 15, data[place] >> 2 & 1, data[place] >> 1 & 1
            place += 1 + extended
            size = len(data) - place
            if sized:
                size, place = _leb128(data, place)
            if kind == _SEQUENCE_OBU:
                try:
                    self._said = Said(range=True, description=_describes(_Bits(data[place : place + size])))
                except EOFError:  # damage, which the decoder reports
                    self._said = ALL
            place += size
        return self._said


def _leb128(data: bytes, place: int) -> tuple[int, int]:
    """Read a number in seven bits a byte (AV1, 4.10.5): the number, and the place behind it."""
    value = 0
    for index, byte in enumerate(data[place : place + 8]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, place + index + 1
    return value, len(data)


def _describes(bits: _Bits) -> bool:
    """Whether a sequence header of AV1 describes its colors (5.5.1 and 5.5.2)."""
    profile = bits.take(3)
    bits.take(1)
    reduced = bits.take(1)
    if reduced:
        bits.take(5)
    else:
        _skip_operating_points(bits)
    width, height = bits.take(4) + 1, bits.take(4) + 1
    bits.take(width + height)
    if not reduced and bits.take(1):
        bits.take(7)
    bits.take(3)
    if not reduced:
        bits.take(4)
        ordered = bits.take(1)
        bits.take(2 * ordered)
        if (bits.take(1) or bits.take(1)) and not bits.take(1):
            bits.take(1)
        bits.take(3 * ordered)
    bits.take(3)
    deep = bits.take(1)
    if profile == 2 and deep:
        bits.take(1)
    if profile != 1:
        bits.take(1)
    return bool(bits.take(1))


def _skip_operating_points(bits: _Bits) -> None:
    modelled, length = 0, 0
    if bits.take(1):  # timing
        bits.take(64)
        if bits.take(1):
            bits.number()
        modelled = bits.take(1)
        if modelled:
            length = bits.take(5) + 1
            bits.take(42)
    delayed = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:
            bits.take(1)
        if modelled and bits.take(1):
            bits.take(2 * length + 1)
        if delayed and bits.take(1):
            bits.take(4)


class _Bits:
    """Reads bits, the highest of each byte first.

    Raises:
        EOFError: there are no more bits.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """Read an unsigned number of ``count`` bits."""
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._bits >> self._left & (1 << count) - 1

    def number(self) -> int:
        """Read an Exp-Golomb code (ITU-T H.264, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_numbers(self, count: int) -> None:
        """Skip ``count`` Exp-Golomb codes."""
        for _ in range(count):
            self.number()

    def signed(self) -> int:
        """Read a signed Exp-Golomb code (ITU-T H.264, 9.1.1)."""
        code = self.number()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _unescaped(unit: bytes) -> bytes:
    """Remove the emulation prevention bytes of a NAL unit."""
    return unit.replace(b"\0\0\3", b"\0\0")


def _sequence_parameters(unit: bytes) -> tuple[int, Said]:
    """Read the number of a sequence parameter set, and which tags it contains (ITU-T H.264, 7.3.2.1.1 and E.1.1)."""
    bits = _Bits(_unescaped(unit))
    profile = bits.take(8)
    bits.take(16)
    number = bits.number()
    if profile in _HIGH:
        separate = bits.number() == 3
        if separate:
            bits.take(1)
        bits.skip_numbers(2)
        bits.take(1)
        if bits.take(1):
            _skip_scaling(bits, 12 if separate else 8)
    bits.number()
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1)
        bits.skip_numbers(2)
        bits.skip_numbers(bits.number())
    bits.number()
    bits.take(1)
    bits.skip_numbers(2)
    if not bits.take(1):
        bits.take(1)
    bits.take(1)
    if bits.take(1):
        bits.skip_numbers(4)
    if not bits.take(1):
        return number, Said(range=False, description=False)
    if bits.take(1) and bits.take(8) == _OWN_RATIO:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if not bits.take(1):
        return number, Said(range=False, description=False)
    bits.take(4)
    return number, Said(range=True, description=bool(bits.take(1)))


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.take(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.signed()) % 256
            last = following or last
