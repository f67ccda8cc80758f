"""`Shipped`: a file on the machine of the job, whose pieces are sent to workers on other machines as they read them.

A demuxer reads the beginning and the index of a file, and then the surroundings of a segment's packets: only these are
sent through Ray's object store, and the decoded frames are exactly the same as on the machine of the job.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from pathlib import Path

from ...errors import InputError
from ..input import Remote

_PIECE = 1 << 18  # bytes; small, because a demuxer jumps when it searches for a time
_AHEAD = 16  # maximum number of pieces that are sent at a time, when it reads on
_HELD = 64  # pieces that a worker keeps


class Shipped(Remote):
    """A file on the machine where the job was started.

    Args:
        path: Its path there.

    Raises:
        InputError: the file cannot be read.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.token = secrets.token_hex(4)
        self.piece = _PIECE
        try:
            self.size = Path(path).stat().st_size
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}") from error

    def open(self) -> ShippedFile:
        """Open the file in the process of a worker."""
        inbox.begin(self)
        return ShippedFile(self)

    def read(self, wanted: range) -> bytes:
        """Read some of its pieces, on the machine of the job.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            with Path(self.path).open("rb") as file:
                file.seek(wanted.start * self.piece)
                return file.read(len(wanted) * self.piece)
        except OSError as error:
            raise InputError(f"Cannot read {self.path}: {error.strerror}") from error


class Inbox:
    """The pieces of one file that a worker has received, and those that it waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._token = ""
        self._pieces: OrderedDict[int, bytes] = OrderedDict()
        self._wanted: range | None = None  # not requested yet
        self._coming = range(0)

    def begin(self, file: Shipped) -> None:
        """Forget the pieces of any other file."""
        with self._changed:
            if file.token != self._token:
                self._token = file.token
                self._pieces.clear()
                self._wanted, self._coming = None, range(0)

    def read(self, number: int) -> bytes:
        """Return a piece; wait until it has come."""
        with self._changed:
            while number not in self._pieces:
                if number not in self._coming:
                    follows = number == self._coming.stop
                    ahead = min(2 * len(self._coming) or 1, _AHEAD) if follows else 1
                    self._wanted = self._coming = range(number, number + ahead)
                    self._changed.notify_all()
                self._changed.wait()
            self._pieces.move_to_end(number)
            return self._pieces[number]

    def wanted(self) -> tuple[str, range]:
        """Return the token of the file and the pieces to send next; wait until there are any."""
        with self._changed:
            while self._wanted is None:
                self._changed.wait()
            wanted, self._wanted = self._wanted, None
            return self._token, wanted

    def give(self, token: str, wanted: range, data: bytes, size: int) -> None:
        """Store some pieces of this size, if they belong to the file that is read now."""
        with self._changed:
            if token != self._token:
                return
            for place, number in enumerate(wanted):
                self._pieces[number] = data[place * size : (place + 1) * size]
                self._pieces.move_to_end(number)  # it may have been the oldest one, and is read next
            while len(self._pieces) > _HELD:
                self._pieces.popitem(last=False)
            self._changed.notify_all()


inbox = Inbox()  # one for the process: a worker reads one file at a time


class ShippedFile:
    """A file open for reading, with the methods that FFmpeg needs."""

    def __init__(self, file: Shipped) -> None:
        self.name = file.path
        self._size = file.size
        self._piece = file.piece
        self._at = 0

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes, from one piece; none at the end."""
        if self._at >= self._size:
            return b""
        number, offset = divmod(self._at, self._piece)
        data = inbox.read(number)[offset : offset + size]
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Seek to a position, and return it; −1 for an invalid position."""
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if at < 0:
            return -1
        self._at = at
        return at

    def tell(self) -> int:
        """Return the current position."""
        return self._at
