"""`Reader`: reads a file once, corrects its packets' times, and keeps packets that are to be copied in a queue."""

from __future__ import annotations

import os
import threading
from collections import deque
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from av.codec.context import Flags as CodecFlags
from av.error import FFmpegError
from av.format import Flags

from ..errors import InputError, OutputError
from .input import Pipe, can_seek, find_video, is_cover, open_input, python_file, seconds
from .packets import PacketQueue
from .sound import SoundTally
from .timeline import Timeline, leaps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from av.packet import Packet

_INTERLEAVED = 10  # seconds by which a file's streams may be apart in it
_CLUSTER = 10  # seconds: longer than the Matroska clusters that FFmpeg and mkvmerge write
_MARKED_BEFORE = 2  # packets, the corrupt one included, that may come before a jump
_SEEK_BACK = (0, 1, 4, 16)  # seconds: without an index in the container, seeking may land anywhere
_REORDERED = 2  # seconds: more than reordering moves a frame
_KEYS_BACK = 2  # key frames: the last may be a recovery point, after which some frames are incomplete
_SAMPLES = 512  # places of a file where its clock is read, to find out whether it jumps between them


class Reader:
    """Reads the packets of an input, in the order of the file.

    Args:
        path: What `open_input` takes.
        name: Name of the input, for messages.
        frame_rate: Frame rate of images and streams without timestamps.
        form: FFmpeg's name of the format, if neither name nor content shows it.
        keep_packets: Keep the packets of the other streams in ``queue``; the file then stays open until `release`, too.
        every_stream: Read the packets of the other streams, too, because they show where the clock jumps; they are
            dropped unless ``keep_packets``.
        damage: Called with a description of each loss; may raise.
        cancelled: Called before each packet; once it returns True, there are no more packets.

    Attributes:
        container: The open file.
        stream: The stream that is decoded.
        timeline: Corrects the times of the packets.
        queue: Packets of the other streams that have been read; None if they are not kept.
        seekable: Whether the file can be read from any position, and twice.
        opening: Arguments of `open_input` that open the file once more.
        failed: Whether an error ended the reading of packets, probably before the end of the file.

    Raises:
        InputError: the file cannot be opened, or has no video stream.
    """

    def __init__(
        self,
        path: str | Path,
        name: str,
        *,
        frame_rate: Fraction | None,
        form: str | None,
        keep_packets: bool,
        every_stream: bool,
        damage: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.seekable = can_seek(path)
        self.queue = PacketQueue() if keep_packets else None
        self._every_stream = every_stream or keep_packets
        self._name = name
        self.opening = (path, frame_rate, form)
        self._damage = damage
        self._asked = cancelled
        self._stopped = False
        self._users = {"reader", "writer"} if keep_packets else {"reader"}
        self._lock = threading.Lock()
        self._entry: int | None = None  # timestamp of the key frame that `packets` must begin with
        self._open()
        flags = Flags(self.container.format.flags)
        self.timeline = Timeline(name, self.stream.index, may_leap=Flags.ts_discont in flags)

    def _open(self) -> None:
        self.failed = False
        self.container = open_input(*self.opening)
        self._sound = SoundTally(self.container, self._damage)
        try:
            self.stream = find_video(self.container, self._name)
            self.stream.thread_type = "AUTO"
            self.stream.codec_context.flags |= (
                CodecFlags.unaligned
            )  # otherwise, FFmpeg crops less on the left than the header states
        except BaseException:
            self._close()
            raise

    @property
    def _sparse(self) -> set[int]:
        """Streams in which a gap is no sign of a jump of the clock."""
        return {stream.index for stream in self.container.streams if stream.type not in ("audio", "video")}

    def header(self) -> BinaryIO:
        """Open the file to read its header, or the bytes of a pipe that have been read so far; empty for others."""
        file = python_file(self.container)
        if isinstance(file, Pipe):
            return BytesIO(file.head)
        if not self.seekable or not Path(self.opening[0]).is_file():
            return BytesIO()
        return Path(self.opening[0]).open("rb")

    def open_again(self) -> None:
        """Read from the beginning; only for seekable files."""
        self.container.close()
        self._open()
        self.timeline.forget()
        if self.queue is not None:
            self.queue.clear()

    def cancelled(self) -> bool:
        """Whether reading was cancelled or stopped."""
        return self._stopped or self._asked()

    def stop(self) -> None:
        """Stop reading packets, even while waiting for a pipe; may be called from any thread."""
        self._stopped = True
        if isinstance(file := python_file(self.container), Pipe):
            file.stop()

    def close(self) -> None:
        """Stop reading, and close the file unless its packets are still to be copied; may be called again."""
        self._let_go("reader")

    def release(self) -> None:
        """Release the kept packets; may be called again."""
        if self.queue is not None:
            self.queue.close()
        self._let_go("writer")

    def _let_go(self, user: str) -> None:
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self._close()

    def _close(self) -> None:
        self.container.close()
        if isinstance(file := python_file(self.container), Pipe):
            file.close()

    def seek(self, start: Fraction) -> None:
        """Seek to where decoding must begin to get the frame shown at ``start``; if that fails, to the beginning.

        If the clock of the file jumps, demuxers cannot seek: the packets before ``start`` are read and dropped. Small
        jumps are found only by reading up to there, which is done with ``keep_packets``.
        """
        thorough = self.timeline.may_leap and (self.queue is not None or self._clock_jumps())
        if thorough and (self.read_to(start, seek=True) or self.cancelled()):
            return
        origin = Fraction(self.container.start_time or 0, 1_000_000)
        tick = seconds(1, self.stream.time_base)
        for back in _SEEK_BACK:
            target = start - back
            if target <= origin:
                break
            try:
                self.container.seek(int(target / tick), stream=self.stream)
            except FFmpegError:  # not every demuxer can seek
                break
            first = self._first_time()
            if self.cancelled():
                return
            self.stream.codec_context.flush_buffers()
            if first is not None and first <= start:
                self.container.seek(int(target / tick), stream=self.stream)
                self._sound.begin_elsewhere()
                return
        self.open_again()

    def _clock_jumps(self) -> bool:
        """Whether the clock goes back, or leaps ahead, between places spread over the file."""
        size = self.container.size or 0
        if size <= 0 or not os.path.isfile(self.opening[0]):  # noqa: PTH113 - this would be slow for a URL
            return False
        times = []
        for place in range(_SAMPLES):
            try:
                self.container.seek(size * place // _SAMPLES, unsupported_byte_offset=True)
                packets = self.container.demux(self.stream)
                found: Any = next((packet for packet in packets if packet.dts is not None or self.cancelled()), None)
            except FFmpegError:
                continue
            if self.cancelled():
                return False
            if found is not None:
                times.append(seconds(found.dts, found.time_base))
        return leaps(times)

    def read_to(self, start: Fraction, *, seek: bool = False) -> bool:
        """Make `packets` begin at a key frame early enough for ``start``; earlier packets are read and dropped.

        Args:
            start: In seconds of the file's clock.
            seek: Only read, and return False, if the clock does not jump before ``start``: it can be sought.
        """
        self.open_again()
        scout = Timeline(self._name, self.stream.index, may_leap=self.timeline.may_leap, quiet=True)
        keys: deque[int] = deque(maxlen=_KEYS_BACK)
        for packet in self._demuxed():
            if not packet.size:
                continue
            scout.place(packet, sparse=packet.stream_index in self._sparse)
            if packet.stream_index != self.stream.index or packet.pts is None:
                continue
            time = seconds(packet.pts, packet.time_base)
            if time > start + _REORDERED:
                break
            if packet.is_keyframe and time <= start:
                keys.append(packet.pts)
        if seek and not scout.jumps:
            return False
        if len(keys) == _KEYS_BACK:
            self.enter(keys[0], seek=False)
        else:
            self.open_again()
        return True

    def _first_time(self) -> Fraction | None:
        """Presentation time of the first frame that decodes from the current position on, in seconds."""
        demuxed: Any = self.container.demux(self.stream)
        while not self.cancelled():
            try:
                packet = next(demuxed)
            except (StopIteration, FFmpegError):
                return None
            try:
                pictures = packet.decode()
            except (EOFError, FFmpegError):
                continue
            for picture in pictures:
                stamp = picture.dts if picture.pts is None else picture.pts
                if stamp is not None:
                    return seconds(stamp, self.stream.time_base)
        return None

    def enter(self, pts: int, *, seek: bool) -> None:
        """Make `packets` begin with a key frame.

        Args:
            pts: Timestamp of the key frame, in ticks of the stream.
            seek: Seek there. Without it, earlier packets are read and dropped, as is needed if the clock jumps.
        """
        for back in _SEEK_BACK if seek else ():
            if self._go(pts, back) and self._leads_to(pts):
                self._go(pts, back)
                break
        else:
            self.open_again()
        self._entry = pts

    def _go(self, pts: int, back: int) -> bool:
        self.failed = False
        self.timeline.forget()
        self._sound.begin_elsewhere()
        try:
            self.container.seek(pts - int(back / seconds(1, self.stream.time_base)), stream=self.stream)
        except FFmpegError:  # not every demuxer can seek
            return False
        return True

    def _leads_to(self, pts: int) -> bool:
        """Whether the key frame with this timestamp comes after the current position."""
        for packet in self._demuxed():
            key = packet.stream_index == self.stream.index and packet.is_keyframe
            if key and packet.pts is not None and packet.pts >= pts:
                return bool(packet.pts == pts)
        return False

    def packets(self) -> Iterator[Any]:
        """Yield the packets of the video stream, and keep those of the others if requested.

        Raises:
            InputError: the key frame that `enter` asked for was not found.
        """
        for packet in self._marked():
            if packet.stream_index != self.stream.index:
                self._keep(packet)
                continue
            if not packet.size and packet.dts is None:
                continue  # PyAV's mark for the end of the file, which may come twice: the sound is checked first
            if self._entry is not None and not (packet.is_keyframe and packet.pts == self._entry):
                continue
            self._entry = None
            yield packet
        if self.queue is not None and not self.cancelled():
            self._sound.end(self.timeline)
        if self._entry is not None and not self.cancelled():
            at = float(seconds(self._entry, self.stream.time_base))
            raise InputError(
                f"{self._name} has no key frame at {at:.3f} s, where it had one: has it changed meanwhile?"
            )

    def read_rest(self, end: Fraction) -> None:
        """Keep the other streams' packets before ``end``; in the file, they may come after the last frame."""
        if self.queue is None:
            return
        behind = {stream.index for stream in self.container.streams if stream.type in ("audio", "video")}
        for packet in self._marked():
            stamp = packet.dts if packet.dts is not None else packet.pts
            past = Fraction(0) if stamp is None else seconds(stamp, packet.time_base) - end
            if past >= 0:
                behind.discard(packet.stream_index)
            if not behind or past > _INTERLEAVED:
                return
            if packet.stream_index != self.stream.index:
                self._keep(packet)

    def look_behind(self, time: Fraction) -> None:
        """Read on after a gap that ended at ``time``, far enough to recognize and report a damaged clock.

        Matroska stores the time once for a group of frames, its cluster.
        """
        jumps = self.timeline.jumps
        for packet in self._marked():
            if self.timeline.may_leap or self.timeline.jumps > jumps or packet.dts is None:
                return
            if seconds(packet.dts, packet.time_base) > time + _CLUSTER:
                return

    def _keep(self, packet: Packet[Any]) -> None:
        if not packet.size or self._is_before_entry(packet):
            return
        if packet.is_corrupt:
            self._damage(f"a packet of {packet.stream.type} stream {packet.stream_index} is damaged")
            return
        if packet.stream.type == "audio":
            self._sound.packet(packet)
        try:
            if self.queue is not None:
                self.queue.put(packet)
        except OSError as error:
            raise OutputError(f"Cannot keep the sound of {self._name} in a temporary file: {error.strerror}") from error

    def _is_before_entry(self, packet: Packet[Any]) -> bool:
        """Whether a packet of sound or video ends before the key frame that `packets` must begin with."""
        if self._entry is None or packet.pts is None or packet.stream_index in self._sparse:
            return False
        end = seconds(packet.pts + (packet.duration or 0), packet.time_base)
        return end < seconds(self._entry, self.stream.time_base) and not is_cover(packet.stream)

    def _marked(self) -> Iterator[Packet[Any]]:
        """Yield all packets with corrected times; those right before a jump of the clock are not marked as corrupt.

        MPEG-TS numbers its packets: where two files were joined, one of the last before the jump seems incomplete.
        """
        waiting: dict[int, list[Packet[Any]]] = {}  # stream → a corrupt packet and what follows
        for packet in self._demuxed():
            index = packet.stream_index
            jumps = self.timeline.jumps
            jumped = bool(packet.size) and self.timeline.place(packet, sparse=index in self._sparse)
            if self.timeline.jumps > jumps and not self.timeline.may_leap:
                self._damage(f"a clock that jumps is damage in {self.container.format.name}")
            if jumped:
                self._sound.jumped(index)
                if index in waiting:
                    waiting[index][0].is_corrupt = False
            if index in waiting and (jumped or len(waiting[index]) == _MARKED_BEFORE or not packet.size):
                yield from waiting.pop(index)
            if index in waiting or (packet.is_corrupt and self.timeline.may_leap):
                waiting.setdefault(index, []).append(packet)
            else:
                yield packet
        for packets in waiting.values():
            yield from packets

    def _demuxed(self) -> Iterator[Packet[Any]]:
        demuxed: Any = self.container.demux() if self._every_stream else self.container.demux(self.stream)
        while not self.cancelled():
            try:
                packet = next(demuxed)
            except StopIteration:
                return
            except FFmpegError as error:
                if not self.seekable and "mov" in self.container.format.name:
                    raise InputError(
                        f"{self._name}: an MP4 or MOV file whose index comes after its frames cannot be read from a "
                        "pipe: write it to a file first"
                    ) from error
                self.failed = True
                self._damage(f"the file cannot be read to its end ({error.strerror})")
                return
            yield packet
