"""`SilentColors`: frames of H.264, MPEG-2 and AV1 whose headers do not state their colors.

FFmpeg's decoders give them the tags of other headers of the stream: earlier ones or, if frames are reordered, later
ones. In streams that were joined, those tags belong to another film.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import av
from av.codec.context import Flags
from av.error import FFmpegError

from .color_headers import ALL, AV1, H264, Mpeg2, Said
from .input import open_input

if TYPE_CHECKING:
    from av.packet import Packet

    from .input_file import InputFile

log = logging.getLogger(__name__)

# Formats without color tags of their own, by FFmpeg's names: all tags come from the bitstream.
_PLAIN = {"h264", "hevc", "obu", "mpegts", "mpeg", "mpegvideo"}
_READERS: dict[str, type[H264 | Mpeg2 | AV1]] = {"h264": H264, "mpeg2video": Mpeg2, "av1": AV1}
_UNSPECIFIED = 2  # ITU-T H.273, for primaries, transfer and matrix
_LIMITED, _FULL = 1, 2  # FFmpeg's ranges; 0 is unspecified


def header_reader(file: InputFile, context: av.VideoCodecContext) -> H264 | Mpeg2 | AV1 | None:
    """A reader for the headers of a stream whose color tags all come from the bitstream; None for other streams."""
    kind = _READERS.get(context.codec.canonical_name) if file.container.format.name in _PLAIN else None
    if kind is None:
        return None
    reader = kind()
    reader.read(bytes(context.extradata or b""))
    return reader


class SilentColors:
    """Records the tags that the headers in a stream's packets contain, and clears all other tags of its frames.

    If the frames begin in mid-film, and their first header leaves the tags to those before it, as in MPEG-2, these are
    read, too; only of a file whose packets are kept, as for an encode, because this reads all of the file up to there.

    Args:
        file: The file that the packets come from.
        context: Its decoder, before it is opened; color tags that were found when the file was opened are cleared.
    """

    def __init__(self, file: InputFile, context: av.VideoCodecContext) -> None:
        self._file = file
        self._context = context
        self._begun = self._assumed = False
        self._reader = header_reader(file, context)
        if self._reader is not None:
            context.flags |= Flags.copy_opaque
        if file.container.format.name in _PLAIN:
            context.color_primaries = context.color_trc = context.colorspace = _UNSPECIFIED
            context.color_range = 0

    def feed(self, packet: Packet[av.VideoStream]) -> None:
        """Record a packet that is sent to the decoder."""
        if self._reader is None or not packet.size:
            return
        said = self._reader.read(bytes(packet))
        if isinstance(self._reader, Mpeg2) and self._reader.inherits is not None:
            if self._reader.inherits and not self._begun and self._file.timeline.start is not None:
                said = self._read_before(packet, self._reader) or said
            if self._reader.inherits and said.description and not self._assumed:
                self._assumed = True
                log.info("%s: headers do not state the colors again: read as before", self._file.name)
            self._begun = True
        if said != ALL:
            packet.opaque = said

    def _read_before(self, packet: Packet[av.VideoStream], reader: Mpeg2) -> Said | None:
        """Read the headers from the beginning of the file up to a packet that depends on them."""
        file, said = self._file, None
        if file.queue is not None and file.reader.seekable:
            self._reader = reader = Mpeg2()
            with open_input(*file.reader.opening) as container, suppress(FFmpegError):
                for other in container.demux(container.streams[file.stream_index]):
                    if file.reader.cancelled() or (other.pos or 0) > (packet.pos or 0):
                        break
                    if other.size:
                        said = reader.read(bytes(other))
        if reader.stated:
            self._context.decode(av.Packet(reader.stated))
        return said

    def clear(self, frame: av.VideoFrame) -> None:
        """Clear the tags of a decoded frame that its own headers do not contain."""
        said = frame.opaque
        if not isinstance(said, Said):
            return
        if not said.range and frame.color_range == _FULL:
            frame.color_range = _LIMITED  # the inferred value (E.2.1), though the pixel format may say full range
        if not said.description:
            frame.color_primaries = frame.color_trc = frame.colorspace = _UNSPECIFIED

    @staticmethod
    def is_mistaken(frame: av.VideoFrame) -> bool:
        """Whether a frame is YUV, and the decoder takes it for RGB because an earlier header said so."""
        said = frame.opaque
        return isinstance(said, Said) and not said.description and frame.format.name.startswith("gbr")
