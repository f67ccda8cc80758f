"""Memory that threads share, and who has touched each byte since the last barrier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .errors import ProgramError, RaceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]
    Numbers = NDArray[np.int64]

_GUARD = 256  # bytes between allocations that nothing may touch
_MANY = 255  # in place of a warp: several
_NOBODY = -1


class Memory:
    """Shared memory, or the global memory as one block sees it.

    An access conflicts with another one to the same byte if one of them writes, another warp made it, and no barrier is
    between them; with a copy that is under way; and with a product that may still be reading.

    Attributes:
        data: Every byte; 0xFF, which is NaN, where nothing was stored.
        written: Which ones a program has stored to.
    """

    def __init__(self, size: int = 0) -> None:
        self.data = np.full(size, 0xFF, np.uint8)
        self.written = np.zeros(size, bool)
        self._valid = np.ones(size, bool)
        self._block = 0
        self._epoch = 0
        self._owner = np.full(size, _NOBODY)  # the block that wrote
        self._writer = np.full(size, _NOBODY)  # epoch · 256 + warp
        self._reader = np.full(size, _NOBODY)  # ″
        self._unfenced = np.zeros(size, bool)  # written, and not yet seen by matrix units that read shared memory
        self._copied = np.zeros(size, np.int64)  # the group of copies that writes here, counted from 1
        self._multiplied = np.zeros(size, np.int64)  # the group of products that reads here, ″
        self._copies_done = 0
        self._products_done = 0

    def allocate(self, content: Bytes) -> int:
        """Make room for some bytes, and return their address, a multiple of 256."""
        start = (len(self.data) + 2 * _GUARD - 1) // _GUARD * _GUARD
        end = start + len(content)
        for name, filler in (
            ("data", 0xFF), ("written", False), ("_valid", False), ("_owner", _NOBODY), ("_writer", _NOBODY),
            ("_reader", _NOBODY), ("_unfenced", False), ("_copied", 0), ("_multiplied", 0),
        ):  # fmt: skip
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.full(end + _GUARD - len(old), filler, old.dtype)]))
        self.data[start:end] = content
        self._valid[start:end] = True
        return start

    def enter(self, block: int) -> None:
        """Begin another block."""
        self._block = block
        self.barrier()

    def barrier(self) -> None:
        """Let every thread see what every other one has done."""
        self._epoch += 1

    def fence(self) -> None:
        """Let matrix units see what threads have written."""
        self._unfenced[:] = False

    def load(self, addresses: Numbers, size: int, warps: Numbers) -> Bytes:
        """(n, size) bytes at n addresses, read by n threads of these warps."""
        places = self._places(addresses, size)
        self._check_read(places, np.repeat(warps, size))
        return self.data[places].reshape(len(addresses), size)

    def store(self, addresses: Numbers, content: Bytes, warps: Numbers) -> None:
        """Write (n, size) bytes at n addresses, by n threads of these warps."""
        size = content.shape[1]
        places = self._places(addresses, size)
        self._check_write(places, np.repeat(warps, size))
        self.data[places] = content.ravel()
        if (self.data[places] != content.ravel()).any():
            raise RaceError("two threads write different values to one address")

    def begin_copy(self, addresses: Numbers, size: int, warps: Numbers, group: int) -> None:
        """Say that `end_copies` of a group will write here: until then nobody may touch it."""
        places = self._places(addresses, size)
        self._check_write(places, np.repeat(warps, size))
        self._copied[places] = group

    def end_copies(self, group: int) -> None:
        """Say that copies of all groups up to this one have arrived; `store` then brings what they carry."""
        self._copies_done = max(self._copies_done, group)

    def multiply(self, addresses: Numbers, group: int) -> Bytes:
        """The bytes (…, 2) at addresses, as the matrix unit reads them at any time before the group is done."""
        places = self._places(addresses.ravel(), 2)
        if self._unfenced[places].any():
            raise RaceError("no proxy fence between a store and the matrix unit that reads it")
        self._check_read(places, np.full(len(places), _MANY))
        self._multiplied[places] = group
        return self.data[places].reshape(*addresses.shape, 2)

    def end_products(self, group: int) -> None:
        """Say that products of all groups up to this one are done: since now, for a barrier has yet to come."""
        done = (self._multiplied > self._products_done) & (self._multiplied <= group)
        self._reader[done] = self._epoch << 8 | _MANY
        self._products_done = max(self._products_done, group)

    def _places(self, addresses: Numbers, size: int) -> Numbers:
        if (addresses % size).any():
            raise ProgramError(f"an access of {size} bytes is not aligned: {addresses[addresses % size != 0][0]}")
        outside = (addresses < 0) | (addresses + size > len(self.data))
        if outside.any() or not self._valid[addresses].all() or not self._valid[addresses + size - 1].all():
            raise ProgramError("an access is outside of what was allocated")
        places: Numbers = (addresses[:, None] + np.arange(size)).ravel()
        return places

    def _check_read(self, places: Numbers, warps: Numbers) -> None:
        stamps = self._epoch << 8 | warps
        if (self._copied[places] > self._copies_done).any():
            raise RaceError("a read of what a copy is still writing")
        self._conflict(self._writer[places], stamps, "a read after a write without a barrier")
        if ((self._owner[places] != _NOBODY) & (self._owner[places] != self._block)).any():
            raise RaceError("a read of what another block has written")
        before = self._reader[places]
        several = (before >> 8 == self._epoch) & (before != stamps)
        stamps = np.where(several, self._epoch << 8 | _MANY, stamps)
        self._reader[places] = stamps
        self._reader[places[self._reader[places] != stamps]] = self._epoch << 8 | _MANY

    def _check_write(self, places: Numbers, warps: Numbers) -> None:
        stamps = self._epoch << 8 | warps
        if (self._copied[places] > self._copies_done).any():
            raise RaceError("a write to what a copy is still writing")
        if (self._multiplied[places] > self._products_done).any():
            raise RaceError("a write to what a matrix unit is still reading")
        self._conflict(self._writer[places], stamps, "a write after a write without a barrier")
        self._conflict(self._reader[places], stamps, "a write after a read without a barrier")
        if ((self._owner[places] != _NOBODY) & (self._owner[places] != self._block)).any():
            raise RaceError("a write to what another block has written")
        self._owner[places] = self._block
        self._writer[places] = stamps
        self._writer[places[self._writer[places] != stamps]] = self._epoch << 8 | _MANY
        self._unfenced[places] = True
        self.written[places] = True

    def _conflict(self, before: Numbers, stamps: Numbers, what: str) -> None:
        if ((before >> 8 == self._epoch) & (before != stamps)).any():
            raise RaceError(what)
