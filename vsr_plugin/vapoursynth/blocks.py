"""Which frames are computed together, and when: blocks ahead of a clip that is played, single frames elsewhere.

Nothing here knows VapourSynth: it asks for one frame after the other, mostly in order, and hands in the frames that lie
around it. Pictures are computed by threads of our own, which never wait for VapourSynth.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict, deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol

from ..errors import UsageError, VsrError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..frames import Frame

    type Read = Callable[[int], Frame]

# How far apart VapourSynth asks for what it needs at the same time: twice the requests of a machine with 16 threads.
_DISORDER = 32
_REMEMBERED = 8 * _DISORDER  # numbers of frames that were handed out, so that no block computes them again
_KEPT = 4  # frames that were handed out, for a filter that asks for them again


class Computer(Protocol):
    """Enlarges frames, for one thread at a time."""

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Enlarge; as many, in the same order."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Blocks:
    """Hands out enlarged frames by their number, each computed once as long as they are asked for in about their order.

    A frame whose neighbor was asked for shortly before is part of a playback: its block is computed as a whole, and
    before anyone waits for it, the following blocks, as many as there are computers, are on their way. Any other frame
    is computed alone. Blocks are aligned, and leave out what was computed or handed out before.

    `get` is for one thread at a time.

    Attributes:
        close: Waits for what is being computed, drops the rest, ends the threads and closes the computers. Called from
            any thread, and by itself when nobody has these blocks any more.

    Args:
        computers: As many blocks are computed side by side.
        block: Frames in a block.
        length: Frames in the clip.
    """

    def __init__(self, computers: Sequence[Computer], block: int, length: int) -> None:
        self._streams = len(computers)
        self._block = block
        self._length = length
        self._idle: SimpleQueue[Computer] = SimpleQueue()
        for computer in computers:
            self._idle.put(computer)
        self._pool = ThreadPoolExecutor(len(computers), "vsr upscale")
        self.close = weakref.finalize(self, _close, self._pool, computers)
        self._asked: deque[int] = deque(maxlen=_DISORDER)
        self._ahead: OrderedDict[int, tuple[Future[list[Frame]], int]] = OrderedDict()
        self._kept: OrderedDict[int, Frame] = OrderedDict()
        self._given: OrderedDict[int, None] = OrderedDict()

    @property
    def window(self) -> int:
        """How many frames, from the first of its block on, `get` may read."""
        return (self._streams + 1) * self._block

    def get(self, number: int, read: Read) -> Frame:
        """Give a frame, enlarged.

        Args:
            number: Of the frame.
            read: Gives a frame of the block and of the `window` that begins with it; called here and now.

        Raises:
            VsrError: this frame cannot be read or computed; another attempt is made when it is asked for again.
        """
        playing = any(abs(number - other) == 1 for other in self._asked)
        self._asked.append(number)
        if number in self._kept:
            return self._kept[number]
        first = number - number % self._block
        if number not in self._ahead:
            if number in self._given:  # asked for again: so is, probably, what comes after it
                self._given.clear()
            self._submit(range(first, first + self._block) if playing else (number,), read, number)
        if playing:
            for begin in range(first + self._block, first + self.window, self._block):
                self._submit(range(begin, begin + self._block), read)
        future, index = self._ahead.pop(number)
        try:
            result = future.result()[index]
        except CancelledError:
            raise UsageError("Expected a core that is in use, got one that is freed: load the script again") from None
        except BaseException:
            self._ahead = OrderedDict(item for item in self._ahead.items() if item[1][0] is not future)
            raise
        self._keep(number, result)
        return result

    def _submit(self, numbers: Iterable[int], read: Read, wanted: int | None = None) -> None:
        """Have frames computed together that are not yet; only ``wanted`` must be readable."""
        frames, fresh = [], []
        for number in numbers:
            if number >= self._length or number in self._ahead or number in self._given:
                continue
            try:
                frames.append(read(number))
            except VsrError:
                if number == wanted:
                    raise
            else:
                fresh.append(number)
        if not frames:
            return
        try:
            future = self._pool.submit(_compute, self._idle, frames)
        except RuntimeError:  # the pool is shut down
            future = Future()
            future.cancel()
        self._ahead.update((number, (future, index)) for index, number in enumerate(fresh))
        while len(self._ahead) > _DISORDER + 2 * self.window:
            self._ahead.popitem(last=False)

    def _keep(self, number: int, result: Frame) -> None:
        self._kept[number] = result
        self._given[number] = None
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        if len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)


def _compute(idle: SimpleQueue[Computer], frames: list[Frame]) -> list[Frame]:
    computer = idle.get()
    try:
        return computer(frames)
    finally:
        idle.put(computer)


def _close(pool: ThreadPoolExecutor, computers: Sequence[Computer]) -> None:
    with suppress(RuntimeError):  # a thread of the pool cannot wait for itself, if that is where garbage is collected
        pool.shutdown(wait=True, cancel_futures=True)
    for computer in computers:
        computer.close()
