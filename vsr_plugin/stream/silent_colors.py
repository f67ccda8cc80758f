"""`SilentColors`: frames of H.264 whose headers do not say how their colors are stored.

FFmpeg's decoder gives them what other headers of the stream said, before or, where frames are reordered, after them. In
streams that were joined that is the reading of another film.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from av.codec.context import Flags

if TYPE_CHECKING:
    import av
    from av.packet import Packet

    from .input_file import InputFile

# Formats that say nothing of colors themselves, by FFmpeg's names: all that is known comes out of the bitstream.
_PLAIN = {"h264", "hevc", "obu", "mpegts", "mpeg", "mpegvideo"}
_UNSPECIFIED = 2  # ITU-T H.273, of primaries, transfer and matrix
_LIMITED, _FULL = 1, 2  # FFmpeg's ranges; 0 is unspecified
_START = b"\0\0\1"
_MOST = 4096  # bytes of a header that are read
# ITU-T H.264, table 7-1
_SLICES, _SPS, _PPS = (1, 5), 7, 8
# Profiles whose headers say how chroma is stored (ITU-T H.264, 7.3.2.1.1)
_HIGH = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_OWN_RATIO = 255  # the aspect ratio follows in 32 bits


class _Said(NamedTuple):
    range: bool
    description: bool  # primaries, transfer and matrix


_ALL = _Said(range=True, description=True)


class SilentColors:
    """Notes what the headers in the packets of a stream say, and clears what its frames have from elsewhere.

    Args:
        file: Whose packets these are.
        context: Its decoder, before it is opened; what the stream said of its colors when it was found is taken off.
    """

    def __init__(self, file: InputFile, context: av.VideoCodecContext) -> None:
        plain = file.container.format.name in _PLAIN
        self._reads = plain and context.codec.canonical_name == "h264"
        self._said: dict[int, _Said] = {}  # by the number of a sequence parameter set
        self._sets: dict[int, int] = {}  # a picture parameter set's number → that of its sequence's
        if self._reads:
            context.flags |= Flags.copy_opaque
        if plain:
            context.color_primaries = context.color_trc = context.colorspace = _UNSPECIFIED
            context.color_range = 0

    def feed(self, packet: Packet[av.VideoStream]) -> None:
        """Note a packet that goes into the decoder."""
        if not self._reads or not packet.size:
            return
        data = bytes(packet)
        place = data.find(_START)
        while 0 <= place < len(data) - 3:
            kind, unit = data[place + 3] & 0x1F, data[place + 4 : place + 4 + _MOST]
            place = data.find(_START, place + 3)
            try:
                if kind == _SPS:
                    number, said = _sequence_header(unit)
                    self._said[number] = said
                elif kind == _PPS:
                    bits = _Bits(unit)
                    self._sets[bits.number()] = bits.number()
                elif kind in _SLICES:
                    bits = _Bits(unit[:64])
                    bits.skip_numbers(2)
                    said = self._said.get(self._sets.get(bits.number(), -1), _ALL)
                    if said != _ALL:
                        packet.opaque = said
                    return
            except EOFError:  # damage, of which the decoder tells
                continue

    def clear(self, frame: av.VideoFrame) -> None:
        """Take off a decoded frame what its own headers do not say."""
        said = frame.opaque
        if not isinstance(said, _Said):
            return
        if not said.range and frame.color_range == _FULL:
            frame.color_range = _LIMITED  # what is meant then (E.2.1), while the pixel format may be that of another
        if not said.description:
            frame.color_primaries = frame.color_trc = frame.colorspace = _UNSPECIFIED


class _Bits:
    """Reads the bits of a NAL unit behind its first byte.

    Raises:
        EOFError: it has no more.
    """

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")  # what keeps start codes out of it
        self._bits = int.from_bytes(data)
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        """An unsigned number of ``count`` bits."""
        if count > self._left:
            raise EOFError
        self._left -= count
        return self._bits >> self._left & (1 << count) - 1

    def number(self) -> int:
        """An Exp-Golomb code (ITU-T H.264, 9.1)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def skip_numbers(self, count: int) -> None:
        """Pass over Exp-Golomb codes."""
        for _ in range(count):
            self.number()

    def signed(self) -> int:
        """A signed Exp-Golomb code (ITU-T H.264, 9.1.1)."""
        code = self.number()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _sequence_header(unit: bytes) -> tuple[int, _Said]:
    """The number of a sequence parameter set, and what it says (ITU-T H.264, 7.3.2.1.1 and E.1.1)."""
    bits = _Bits(unit)
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
        return number, _Said(range=False, description=False)
    if bits.take(1) and bits.take(8) == _OWN_RATIO:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if not bits.take(1):
        return number, _Said(range=False, description=False)
    bits.take(4)
    return number, _Said(range=True, description=bool(bits.take(1)))


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.take(1):
            continue
        last = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (last + bits.signed()) % 256
            last = following or last
