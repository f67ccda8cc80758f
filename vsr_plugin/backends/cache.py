"""Engine files and their companions, and graphs for OpenVINO, in a folder of limited size.

A file is four lines (the format, a sha256 of all that follows, the file's own name, its purpose) and the content. It is
written under another name and renamed, so it is complete or does not exist. The name of a graph is a key, the sha256 of
all that it depends on; the name of an engine is a key and its profile. Builds hold a lock on the folder: two processes
build an engine once, and never at the same time, because builders measure.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, OutputError, UsageError
from .tensorrt import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .tensorrt import Shape

_log = logging.getLogger(__name__)

_FORMAT = b"vsr_plugin cache 3"
_LOCK, _PART = "build.lock", ".part"
_SECONDS_BEFORE_SAYING = 1.0
ENGINE, TIMING, COMPILED, GRAPH = ".engine", ".timing", ".compiled", ".graph"
OF_ENGINES = (ENGINE, TIMING, COMPILED)
_KINDS = {
    ENGINE: "engine",
    TIMING: "timing cache",
    COMPILED: "compiled at run time",
    GRAPH: "graph for OpenVINO",
    ".blob": "OpenVINO network",
    _PART: "unfinished",
}
_NOT_SEALED = re.compile(r"\d+\.blob|[0-9a-f]{16}\.part")
_OURS = re.compile(r"[0-9a-f]{64}(_.*)?")
CACHE_SIZE = 2000
"""The default size limit, in megabytes of engines."""


@dataclass(frozen=True, slots=True)
class CacheFile:
    """A file that has been read: its name, its purpose in words, and its content."""

    name: str
    what: str
    content: bytes


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A file in a listing.

    Attributes:
        path: The file's path.
        kind: Engine, timing cache, …
        what: Its purpose, in words.
        size: Bytes.
        modified: When it was written, or last used.
    """

    path: Path
    kind: str
    what: str
    size: int
    modified: datetime


def default_folder() -> Path:
    """The default folder: `VSR_CACHE_DIR` of the environment, or one in the user's cache folder.

    Raises:
        UsageError: neither is known.
    """
    named = os.environ.get("VSR_CACHE_DIR")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    with suppress(RuntimeError):  # of newer versions; others return a path of "~"
        folder = user_cache_path("vsr_plugin", appauthor=False) / "engines"
        if folder.is_absolute():
            return folder
    raise UsageError(
        "Expected a folder for the cache in VSR_CACHE_DIR, as this user has no home directory", cache_dir="FOLDER"
    )


class Cache:
    """A folder of engines or graphs. If one cannot be written, a warning is logged once, and nothing is raised.

    Args:
        folder: The folder; made when the first file is written.
        megabytes: The size limit; the files not used for longest are removed. Engines and graphs have each their own.
        warns: Whether the warning is logged.
    """

    def __init__(self, folder: Path, megabytes: int = CACHE_SIZE, *, warns: bool = True) -> None:
        self.folder = folder
        self._limit = megabytes * 1_000_000
        self._complained = not warns

    def read(self, name: str) -> CacheFile | None:
        """Read a file; None if it does not exist, or is not as it was written, in which case it is removed."""
        path = self.folder / name
        try:
            file = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
            return None
        if file is None:
            _log.warning("%s is damaged, or not a file of this program: making it again", path)
            self.drop(name)
        with suppress(OSError):
            os.utime(path)  # the files not used for longest are removed first
        return file

    def find(self, key: str, shape: Shape) -> CacheFile | None:
        """The smallest engine of this key that takes ``shape``."""
        found = []
        with suppress(OSError):
            for path in self.folder.glob(f"{key}_*{ENGINE}"):
                profile = Profile.from_name(path.stem.removeprefix(f"{key}_"))
                if profile is not None and profile.covers(shape):
                    n, _, height, width = profile.largest
                    _, _, low, narrow = profile.smallest
                    found.append((height * width, -low * narrow, n, path.name))
        return next(filter(None, (self.read(name) for *_, name in sorted(found))), None)

    def write(self, name: str, what: str, content: bytes) -> bool:
        """Write a file, whole or not at all; returns whether it was written."""
        rest = b"\n".join((name.encode(), what.encode(), content))
        part = self.folder / f"{secrets.token_hex(8)}{_PART}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as file:
                    file.writelines((_FORMAT, b"\n", sha256(rest).hexdigest().encode(), b"\n", rest))
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.folder / name)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._complain(error)
            return False
        with suppress(OSError):  # another process may remove files at the same time
            self._trim(name)
        return True

    def drop(self, name: str) -> None:
        """Remove a file."""
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            self._complain(error)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the folder during a build; if the folder cannot be locked, continue without."""
        import filelock

        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=_SECONDS_BEFORE_SAYING)
            except filelock.Timeout:
                _log.warning("another process builds an engine in %s: waiting for it", self.folder)
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            self._complain(error)
        try:
            yield
        finally:
            lock.release()

    def _trim(self, newest: str) -> None:
        """Remove the oldest files if there are too many; never the one that was just written."""
        kinds = (GRAPH,) if newest.endswith(GRAPH) else OF_ENGINES
        ours = [path for path in self.folder.iterdir() if path.suffix in kinds]
        status = {path: path.stat() for path in ours if path.name != newest and _OURS.fullmatch(path.stem)}
        size = (self.folder / newest).stat().st_size
        for path in sorted(status, key=lambda path: status[path].st_mtime_ns, reverse=True):
            size += status[path].st_size
            if size > self._limit:
                _log.info("removing %s: the cache is full", path)
                self.drop(path.name)

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            reason = getattr(error, "strerror", None) or str(error)
            _log.warning("engines cannot be kept in %s (%s): they are built anew each time", self.folder, reason)
        self._complained = True


def entries(folder: Path) -> list[CacheEntry]:
    """The files of a cache folder, the newest first, without files of other programs.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = [entry for path in folder.iterdir() if (entry := _entry(path))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"Cannot read {folder}: {error.strerror}") from error
    return sorted(found, key=lambda entry: (-entry.modified.timestamp(), entry.path.name))


def clear(folder: Path) -> tuple[int, int]:
    """Remove the files that `entries` lists; returns their number, and their bytes.

    Raises:
        InputError: the folder cannot be read.
        OutputError: a file cannot be removed.
    """
    found = entries(folder)
    for entry in found:
        try:
            entry.path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot remove {entry.path}: {error.strerror}") from error
    return len(found), sum(entry.size for entry in found)


def _entry(path: Path) -> CacheEntry | None:
    """The entry of a file, if it is ours, and still exists."""
    kind, sealed = _KINDS.get(path.suffix), not _NOT_SEALED.fullmatch(path.name)
    if kind is None or not path.is_file() or (sealed and not _OURS.fullmatch(path.stem)):
        return None
    try:
        file = _read(path) if sealed else CacheFile(path.name, "", b"")
        status = path.stat()
    except FileNotFoundError:  # another process has just renamed or removed it
        return None
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    return CacheEntry(path, kind, file.what if file else "damaged", status.st_size, modified)


def _read(path: Path) -> CacheFile | None:
    """Read a file; None if its content is not what was written under this name."""
    form, _, data = path.read_bytes().partition(b"\n")
    digest, _, rest = data.partition(b"\n")
    if form != _FORMAT or sha256(rest).hexdigest().encode() != digest:
        return None
    try:
        name, what, content = rest.split(b"\n", 2)
        return CacheFile(path.name, what.decode(), content) if name.decode() == path.name else None
    except ValueError:  # fewer lines, or no UTF-8
        return None
