"""Which frames are computed together, and when: blocks ahead of a clip that is played, single frames elsewhere.

Nothing here imports VapourSynth, which requests one frame after the other, mostly in order, and hands in the frames
around it. Frames are computed by threads of our own, which never wait for VapourSynth.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import UsageError, VsrError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..frames import Frame

    type Read = Callable[[int], Frame]

# A block is dropped if so many requests in a row were neither for it nor near it: four times the requests of a machine
# with 16 threads, which come in any order, and more than the places at which a clip is played at once.
_MEMORY = 64
_PLACES = 6  # places at which a clip may be played at once, each with all its blocks ahead
_KEPT = 4  # the last frames handed out, for a filter that requests them again


class Computer(Protocol):
    """Enlarges frames, for one thread at a time."""

    def __call__(self, frames: Sequence[Frame]) -> list[Frame]:
        """Enlarge frames; return as many, in the same order."""
        ...

    def close(self) -> None:
        """Free its resources."""
        ...


class _Share(NamedTuple):
    """Where to find a frame: its place in the result of a joint computation."""

    future: Future[list[Frame]]
    place: int
    alone: bool  # nothing else is computed with it


@dataclass(slots=True)
class _Block:
    """The state of the frames of a block.

    Attributes:
        touched: Number of the last request for one of them, or for one of a block shortly before.
        ahead: Frames that are computed, or will be, and were not handed out.
        given: Frames that were handed out.
        begun: Whether the block was computed as a whole; any further frame of it is computed alone.
    """

    touched: int = 0
    ahead: dict[int, _Share] = field(default_factory=dict)
    given: set[int] = field(default_factory=set)
    begun: bool = False


class Blocks:
    """Hands out enlarged frames by their number, each computed once if they are requested roughly in order.

    A frame is part of a playback if its neighbor, or the block before its own, was requested shortly before. Its block
    is then computed as a whole, and the following blocks, as many as there are computers, are begun before they are
    requested. Any other frame is computed alone. Blocks are aligned, and leave out frames computed or handed out
    before. If a block cannot be computed, its frames are computed alone, so that the error is that of its frame.

    If all frames of a block were handed out, none of them is held, except for the last few. Other blocks are held until
    no request came near them for a while, or until there are too many: those of six places at which the clip is played,
    and a few for requests that are late.

    `get` is for one thread at a time.

    Attributes:
        close: Waits for frames being computed, drops the rest, ends the threads and closes the computers. May be called
            from any thread; called automatically when these blocks are garbage-collected.

    Args:
        computers: As many as blocks are to be computed side by side.
        block: Frames in a block.
        length: Frames in the clip.
        ahead: Blocks that are begun before they are requested; by default as many as there are computers.
    """

    def __init__(self, computers: Sequence[Computer], block: int, length: int, ahead: int | None = None) -> None:
        self._ahead = len(computers) if ahead is None else ahead
        self._block = block
        self._length = length
        self._limit = _PLACES * (self._ahead + 1) + -(-_MEMORY // block)
        self._idle: SimpleQueue[Computer] = SimpleQueue()
        for computer in computers:
            self._idle.put(computer)
        self._pool = ThreadPoolExecutor(len(computers), "vsr upscale")
        self.close = weakref.finalize(self, _close, self._pool, computers)
        self._requests = 0
        self._blocks: OrderedDict[int, _Block] = OrderedDict()  # by their first frames, the last touched last
        self._kept: OrderedDict[int, Frame] = OrderedDict()

    @property
    def window(self) -> int:
        """Number of frames that `get` may read, from the first of its block on."""
        return (self._ahead + 1) * self._block

    def get(self, number: int, read: Read) -> Frame:
        """Return a frame, enlarged.

        Args:
            number: Number of the frame.
            read: Returns a frame of the `window` that begins with the block; called only during this call.

        Raises:
            VsrError: this frame cannot be read or computed; another attempt is made when it is requested again.
        """
        self._requests += 1
        first = number - number % self._block
        before = self._blocks.get(first - self._block)
        playing = self._was_given(number - 1) or self._was_given(number + 1) or (before is not None and before.begun)
        if first not in self._blocks:
            for begin in self._held()[: -self._limit]:
                del self._blocks[begin]
        block = self._touch(first)
        if number in self._kept:
            return self._kept[number]
        if number in block.given:  # requested again: so, probably, are the next ones
            self._forget_given(first)
        if number not in block.ahead:
            self._begin(first, block, read, number, together=playing)
        if playing:
            self._look_ahead(first, read)
        result = self._result(number, block, read)
        block.given.add(number)
        self._kept[number] = result
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return result

    def _was_given(self, number: int) -> bool:
        block = self._blocks.get(number - number % self._block)
        return block is not None and number in block.given

    def _touch(self, first: int) -> _Block:
        """The block that begins at ``first``, now the last to be dropped; drops blocks without recent requests."""
        block = self._blocks.setdefault(first, _Block())
        block.touched = self._requests
        self._blocks.move_to_end(first)
        while next(iter(self._blocks.values())).touched < self._requests - _MEMORY:
            self._blocks.popitem(last=False)
        return block

    def _held(self) -> list[int]:
        """The first frames of the blocks that hold frames, in the order in which they are dropped."""
        return [begin for begin, block in self._blocks.items() if block.ahead]

    def _forget_given(self, first: int) -> None:
        for begin in range(first, first + self.window, self._block):
            if begin in self._blocks:
                self._blocks[begin].given.clear()
                self._blocks[begin].begun = False

    def _look_ahead(self, first: int, read: Read) -> None:
        for begin in range(first + self._block, min(first + self.window, self._length), self._block):
            if begin not in self._blocks and len(self._held()) >= self._limit:
                return  # frames awaited at other places are worth more
            self._begin(begin, self._touch(begin), read)

    def _begin(
        self, first: int, block: _Block, read: Read, wanted: int | None = None, *, together: bool = True
    ) -> None:
        """Begin to compute the missing frames of a block, or ``wanted`` alone; only ``wanted`` must be readable."""
        if wanted is not None and (block.begun or not together):
            self._submit(block, {wanted: read(wanted)})
        elif not block.begun:
            frames = {} if wanted is None else {wanted: read(wanted)}
            for number in range(first, min(first + self._block, self._length)):
                if number not in block.ahead and number not in block.given and number != wanted:
                    with suppress(VsrError):  # reported when it is requested
                        frames[number] = read(number)
            self._submit(block, dict(sorted(frames.items())))
            block.begun = True

    def _submit(self, block: _Block, frames: dict[int, Frame]) -> None:
        if not frames:
            return
        try:
            future = self._pool.submit(_compute, self._idle, list(frames.values()))
        except RuntimeError:  # the pool is shut down
            future = Future()
            future.cancel()
        alone = len(frames) == 1
        block.ahead.update((number, _Share(future, place, alone)) for place, number in enumerate(frames))

    def _result(self, number: int, block: _Block, read: Read) -> Frame:
        """Wait for a frame of ``ahead``, and take it out."""
        share = block.ahead.pop(number)
        try:
            return share.future.result()[share.place]
        except CancelledError:
            raise UsageError("Expected a core that is in use, got one that is freed: load the script again") from None
        except BaseException as error:
            block.ahead = {other: its for other, its in block.ahead.items() if its.future is not share.future}
            if share.alone or not isinstance(error, VsrError):
                raise
        self._submit(block, {number: read(number)})  # alone, as later those that were to be computed with it
        return self._result(number, block, read)


def _compute(idle: SimpleQueue[Computer], frames: list[Frame]) -> list[Frame]:
    computer = idle.get()
    try:
        return computer(frames)
    finally:
        idle.put(computer)


def _close(pool: ThreadPoolExecutor, computers: Sequence[Computer]) -> None:
    try:
        pool.shutdown(wait=True, cancel_futures=True)
    except RuntimeError:  # a thread of the pool in which garbage is collected cannot wait for itself
        threading.Thread(target=_close, args=(pool, computers)).start()
        return
    for computer in computers:
        computer.close()
