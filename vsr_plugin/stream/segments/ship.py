"""`Shipped`: a file that stays where it is. Workers on other machines get those pieces of it that they read.

A demuxer reads the beginning and the index of a file, and then what lies around a segment's packets: that, and no more,
goes through Ray's object store, and what is decoded is exactly what would be decoded there.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections import OrderedDict
from pathlib import Path

from ...errors import InputError
from ..input import Remote

_PIECE = 1 << 18  # bytes: where a demuxer looks for a time, it jumps
_AHEAD = 16  # pieces that are sent at a time, at most, where it reads on
_HELD = 64  # pieces that a worker holds


class Shipped(Remote):
    """A file on the machine where the job was started.

    Args:
        path: That it has there.

    Raises:
        InputError: it cannot be read.
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
        """Read it from its beginning, in the process of a worker."""
        inbox.begin(self)
        return ShippedFile(self)

    def read(self, wanted: range) -> bytes:
        """Some of its pieces, where it is.

        Raises:
            InputError: it cannot be read.
        """
        try:
            with Path(self.path).open("rb") as file:
                file.seek(wanted.start * self.piece)
                return file.read(len(wanted) * self.piece)
        except OSError as error:
            raise InputError(f"Cannot read {self.path}: {error.strerror}") from error


class Inbox:
    """The pieces of one file that a worker has got, and those that it waits for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._token = ""
        self._pieces: OrderedDict[int, bytes] = OrderedDict()
        self._wanted: range | None = None  # not asked for yet
        self._coming = range(0)

    def begin(self, file: Shipped) -> None:
        """Forget the pieces of any other file."""
        with self._changed:
            if file.token != self._token:
                self._token = file.token
                self._pieces.clear()
                self._wanted, self._coming = None, range(0)

    def read(self, number: int) -> bytes:
        """A piece, when it is there."""
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
        """The token of the file and the pieces to be sent next, when there are any."""
        with self._changed:
            while self._wanted is None:
                self._changed.wait()
            wanted, self._wanted = self._wanted, None
            return self._token, wanted

    def give(self, token: str, wanted: range, data: bytes, size: int) -> None:
        """Take some pieces of this size, if they are of the file that is read now."""
        with self._changed:
            if token != self._token:
                return
            for place, number in enumerate(wanted):
                self._pieces[number] = data[place * size : (place + 1) * size]
            while len(self._pieces) > _HELD:
                self._pieces.popitem(last=False)
            self._changed.notify_all()


inbox = Inbox()  # of this process: a worker reads one file at a time


class ShippedFile:
    """A file open for reading, as FFmpeg needs it."""

    def __init__(self, file: Shipped) -> None:
        self.name = file.path
        self._size = file.size
        self._piece = file.piece
        self._at = 0

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, of one piece; none at the end."""
        if self._at >= self._size:
            return b""
        number, offset = divmod(self._at, self._piece)
        data = inbox.read(number)[offset : offset + size]
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, and say where that is; −1 where there is no such place."""
        at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if at < 0:
            return -1
        self._at = at
        return at

    def tell(self) -> int:
        """Where it reads."""
        return self._at
