"""`PacketQueue`: passes copied packets from the reader to the writer."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from av.packet import Packet

if TYPE_CHECKING:
    from av.packet import PacketSideData

_IN_MEMORY = 32 << 20  # bytes of packets; the rest goes to a temporary file


@dataclass(frozen=True, slots=True)
class _Spilled:
    """A packet whose payload is in the file."""

    offset: int
    size: int
    stream: Any
    stream_index: int
    pts: int | None
    dts: int | None
    duration: int | None
    time_base: Any
    keyframe: bool
    side_data: tuple[PacketSideData, ...]


class PacketQueue:
    """A queue of packets from one thread to another; neither ever waits.

    A film whose sound is far from its frames fills it: above ``in_memory`` bytes, the payloads go to a temporary file,
    which has no name and disappears with the process.

    Args:
        in_memory: Maximum bytes of payload kept in memory.
    """

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._packets: deque[Packet[Any] | _Spilled] = deque()
        self._lock = threading.Lock()
        self._in_memory = self._room = in_memory
        self._file: BinaryIO | None = None
        self._end = 0
        self._spilled = 0
        self._closed = False

    def put(self, packet: Packet[Any]) -> None:
        """Add a packet at the end; if the queue is closed, drop it.

        Raises:
            OSError: the temporary file cannot be written.
        """
        with self._lock:
            if self._closed:
                return
            if packet.size <= self._room:
                self._room -= packet.size
                self._packets.append(packet)
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="vsr-")  # noqa: SIM115 - closed in `close`
            self._file.seek(self._end)
            self._file.write(bytes(packet))
            self._packets.append(
                _Spilled(
                    self._end,
                    packet.size,
                    packet.stream,
                    packet.stream_index,
                    packet.pts,
                    packet.dts,
                    packet.duration,
                    packet.time_base,
                    packet.is_keyframe,
                    tuple(packet.iter_sidedata()),
                )
            )
            self._end += packet.size
            self._spilled += 1

    def get(self) -> Packet[Any] | None:
        """Take the first packet; None if there is none now."""
        with self._lock:
            return self._out(self._packets.popleft()) if self._packets else None

    def take(self, stream: int) -> Packet[Any] | None:
        """Take the first packet of a stream, out of order; None if there is none now."""
        with self._lock:
            found = next((packet for packet in self._packets if packet.stream_index == stream), None)
            if found is None:
                return None
            self._packets.remove(found)
            return self._out(found)

    def clear(self) -> None:
        """Discard all packets."""
        with self._lock:
            self._packets.clear()
            self._room, self._end, self._spilled = self._in_memory, 0, 0

    def close(self) -> None:
        """Discard all packets, including those put later; may be called again."""
        self.clear()
        with self._lock:
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None

    def _out(self, first: Packet[Any] | _Spilled) -> Packet[Any]:
        if isinstance(first, Packet):
            self._room += first.size
            return first
        packet = self._read(first)
        self._spilled -= 1
        if not self._spilled:
            self._end = 0  # reuse the file from its beginning
        return packet

    def _read(self, spilled: _Spilled) -> Packet[Any]:
        assert self._file is not None
        self._file.seek(spilled.offset)
        packet: Packet[Any] = Packet(self._file.read(spilled.size))
        packet.stream = spilled.stream
        packet.time_base = spilled.time_base
        packet.pts, packet.dts, packet.duration = spilled.pts, spilled.dts, spilled.duration
        packet.is_keyframe = spilled.keyframe
        for data in spilled.side_data:
            packet.set_sidedata(data)
        return packet
