"""`Walk`: checks the bytes of a container while they are read, and records where they are damaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, BinaryIO

# What a check yields: the number of bytes it needs; if negative, the number to skip; None for any that come next.
Steps = Generator[int | None, Any, None]
Check = Callable[["Walk"], Steps]

FAR = 1 << 62  # bytes: to the end
_CHUNK = 1 << 16


def perhaps(count: int) -> Generator[int | None, Any, bytes]:
    """Read ``count`` bytes, or none if the file ends before them, which is not damage here."""
    try:
        found: bytes = yield count
    except EOFError:
        return b""
    return found


def another(at: int) -> str:
    """The message about a file that was appended to another, in formats whose demuxers stop at the first."""
    return f"another file begins at byte {at}, and is not read (FFmpeg's concat demuxer joins films)"


class BrokenError(Exception):
    """The bytes are damaged from here on."""


class Walk:
    """Runs a check over the bytes of a container, in pieces as they come; each byte is checked once.

    A check yields how many bytes it needs next, and is sent the bytes; those that it skips are not read from a file. It
    ends when there is nothing more to check.

    Args:
        check: Raises `BrokenError` where it cannot continue; at the end of the bytes, EOFError is thrown into it.
        file: Where `until` reads the bytes; it may be shared, and its position is restored. None if the bytes come
            through `feed`.

    Attributes:
        at: Number of bytes checked or skipped.
        file: The argument; a check may read it elsewhere.
        size: Size of the file in bytes; None if they come through `feed`.
        unfinished: Description of what would be cut if the file ended here; None where it may end. Set by the check.
        frames: Positions of the stream's frames that the container states, until `passed`. Filled by the check.
    """

    def __init__(self, check: Check, file: BinaryIO | None = None) -> None:
        self.at = 0
        self.unfinished: str | None = None
        self.frames: deque[int] = deque()
        self._problems: deque[tuple[int, str]] = deque()
        self.file = file
        self.size: int | None = None
        if file is not None:
            here = file.tell()
            self.size = file.seek(0, 2)
            file.seek(here)
        self._held = bytearray()
        self._steps = check(self)
        self._wanted: int | None = 0
        self._done = False
        self._resume(None)

    @property
    def rest(self) -> bytes:
        """The remaining bytes, if a check asked for more than there are."""
        return bytes(self._held)

    def note(self, at: int, what: str) -> None:
        """Record damage at a position in bytes."""
        self._problems.append((at, what))

    def feed(self, data: bytes) -> None:
        """Take the next bytes; none at the end."""
        if not data:
            self._end()
        self._held += data
        while not self._done:
            if self._wanted is None:
                count = len(self._held)
                if not count:
                    break
            elif self._wanted < 0:
                count = min(-self._wanted, len(self._held))
                del self._held[:count]
                self.at += count
                self._wanted += count
                if self._wanted < 0:
                    break
                self._resume(None)
                continue
            else:
                count = self._wanted
                if len(self._held) < count:
                    break
            taken = bytes(self._held[:count])
            del self._held[:count]
            self.at += count
            self._resume(taken)
        if self._done:
            self._held.clear()

    def until(self, position: int | None, begin: int) -> str | None:
        """Check the bytes up to a position, or all that are left.

        Args:
            position: Position in bytes; None for the end.
            begin: Position from which damage counts.

        Returns:
            Description of the next damage, each returned once; None if there is none.
        """
        if self.file is not None:
            self._read(self.file, position)
        while self._problems and (position is None or self._problems[0][0] <= position):
            at, what = self._problems.popleft()
            if at >= begin:
                return what
        return None

    def passed(self, position: int | None, begin: int) -> int:
        """Count the ``frames`` that begin between two positions, and remove them."""
        count = 0
        while self.frames and (position is None or self.frames[0] <= position):
            count += self.frames.popleft() >= begin
        return count

    def _read(self, file: BinaryIO, position: int | None) -> None:
        here = file.tell()
        while not self._done and (position is None or self.at <= position):
            if self._wanted is not None and self._wanted < 0:
                left = (self.size or 0) - self.at
                self.at += min(-self._wanted, left)
                if -self._wanted > left:
                    self._end()
                else:
                    self._resume(None)
                continue
            file.seek(self.at)
            data = file.read(_CHUNK if self._wanted is None else self._wanted)
            if len(data) < (self._wanted or 1) and self._wanted != 0:
                self._held += data
                self._end()
            else:
                self.at += len(data)
                self._resume(data)
        file.seek(here)

    def _resume(self, data: bytes | None) -> None:
        try:
            self._wanted = self._steps.send(data)
        except StopIteration:
            self._done = True
        except BrokenError as broken:
            self._done = True
            self.note(self.at, str(broken))

    def _end(self) -> None:
        if self._done:
            return
        self._done = True
        try:
            self._steps.throw(EOFError())
        except BrokenError as broken:
            self.note(self.at, str(broken))
        except StopIteration:
            return
        except EOFError:
            if self.unfinished is not None:
                self.note(self.at, f"the file is cut off: it ends within {self.unfinished}")
            elif self._held:
                self.note(self.at, f"the file is cut off: it ends within what follows byte {self.at}")
