"""`ship`: a file into Ray's object store, from where workers on other machines read what they need of it."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..input import Remote

_CHUNK = 4 << 20  # bytes
_HELD = 4  # chunks that a reader holds


class Shipped(Remote):
    """A file in Ray's object store.

    Args:
        path: That it has where the job was started.
        size: Bytes.
        chunks: Where Ray keeps them.
    """

    def __init__(self, path: str, size: int, chunks: list[Any]) -> None:
        super().__init__(path)
        self._size = size
        self._chunks = chunks

    def open(self) -> ShippedFile:
        """Read it from its beginning."""
        return ShippedFile(self.path, self._size, self._chunks)


class ShippedFile:
    """A file open for reading, as FFmpeg needs it."""

    def __init__(self, name: str, size: int, chunks: list[Any]) -> None:
        self.name = name
        self._size = size
        self._at = 0

        @lru_cache(_HELD)
        def chunk(number: int) -> bytes:
            import ray

            found: bytes = ray.get(chunks[number])
            return found

        self._chunk = chunk

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, of one chunk; none at the end."""
        if self._at >= self._size:
            return b""
        number, offset = divmod(self._at, _CHUNK)
        data = self._chunk(number)[offset : offset + size]
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


def ship(path: str) -> Shipped:
    """Put a file into Ray's object store, which moves to the disk what its memory does not hold.

    Raises:
        InputError: it cannot be read.
    """
    import ray

    chunks = []
    size = 0
    try:
        with Path(path).open("rb") as file:
            while data := file.read(_CHUNK):
                size += len(data)
                chunks.append(ray.put(data))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}") from error
    return Shipped(path, size, chunks)
