"""`SilentColors`: frames of H.264 whose headers do not state their colors.

FFmpeg's decoder gives them the tags of other headers of the stream: earlier ones or, if frames are reordered, later
ones. In streams that were joined, those tags belong to another film. MPEG-2 and AV1 are not handled: a stream without
tags behind one with tags is read like it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from av.codec.context import Flags

if TYPE_CHECKING:
    import av
    from av.packet import Packet

    from .input_file import InputFile

# Formats without color tags of their own, by FFmpeg's names: all tags come from the bitstream.
_PLAIN = {"h264", "hevc", "obu", "mpegts", "mpeg", "mpegvideo"}
_UNSPECIFIED = 2  # ITU-T H.273, for primaries, transfer and matrix
_LIMITED, _FULL = 1, 2  # FFmpeg's ranges; 0 is unspecified
_START = b"\0\0\1"
_MOST = 4096  # bytes of a header that are read
# ITU-T H.264, table 7-1
_SLICES, _SPS, _PPS = (1, 5), 7, 8
# Profiles whose headers state the chroma format (ITU-T H.264, 7.3.2.1.1)
_HIGH = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
_OWN_RATIO = 255  # the aspect ratio follows in 32 bits


class _Said(NamedTuple):
    range: bool
    description: bool  # primaries, transfer and matrix


_ALL = _Said(range=True, description=True)


class SilentColors:
    """Records the tags that the headers in a stream's packets contain, and clears all other tags of its frames.

    Args:
        file: The file that the packets come from.
        context: Its decoder, before it is opened; color tags that were found when the file was opened are cleared.
    """

    def __init__(self, file: InputFile, context: av.VideoCodecContext) -> None:
        plain = file.container.format.name in _PLAIN
        self._reads = plain and context.codec.canonical_name == "h264"
        self._said: dict[int, _Said] = {}  # by the number of the sequence parameter set
        self._sets: dict[int, int] = {}  # number of a picture parameter set → number of its sequence parameter set
        if self._reads:
            context.flags |= Flags.copy_opaque
        if plain:
            context.color_primaries = context.color_trc = context.colorspace = _UNSPECIFIED
            context.color_range = 0

    def feed(self, packet: Packet[av.VideoStream]) -> None:
        """Record a packet that is sent to the decoder."""
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
            except EOFError:  # damage, which the decoder reports
                continue

    def clear(self, frame: av.VideoFrame) -> None:
        """Clear the tags of a decoded frame that its own headers do not contain."""
        said = frame.opaque
        if not isinstance(said, _Said):
            return
        if not said.range and frame.color_range == _FULL:
            frame.color_range = _LIMITED  # the inferred value (E.2.1), though the pixel format may say full range
        if not said.description:
            frame.color_primaries = frame.color_trc = frame.colorspace = _UNSPECIFIED

    @staticmethod
    def is_mistaken(frame: av.VideoFrame) -> bool:
        """Whether a frame is YUV, and the decoder takes it for RGB because an earlier header said so."""
        said = frame.opaque
        return isinstance(said, _Said) and not said.description and frame.format.name.startswith("gbr")


class _Bits:
    """Reads the bits of a NAL unit after its first byte.

    Raises:
        EOFError: there are no more bits.
    """

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\0\0\3", b"\0\0")  # remove the emulation prevention bytes
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


def _sequence_header(unit: bytes) -> tuple[int, _Said]:
    """Read the number of a sequence parameter set, and which tags it contains (ITU-T H.264, 7.3.2.1.1 and E.1.1)."""
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
