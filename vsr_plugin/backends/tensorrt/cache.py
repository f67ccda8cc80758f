"""Engine files, and what lies beside them: sealed, so that a file that is not whole, or not ours, is never used.

A file is a line that names the format, a sha256, a line of JSON that has the file's name, too, and the content; the
sha256 is of all that follows it. It is written under another name and renamed. Whoever builds holds the folder's lock:
two processes build once, and one after the other, for builders measure, and would disturb each other.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from . import Recipe, Shape

_log = logging.getLogger(__name__)

_MAGIC = b"vsr_plugin sealed 2\n"
_DIGEST = 64  # letters
_HEADER = len(_MAGIC) + _DIGEST + 1  # where it begins
_LONGEST_HEADER = 1 << 16
_LOCK, _PART = "build.lock", ".part"
_PATIENCE = 1.0  # seconds before it is said that another process is waited for
ENGINE, GRAPH, TIMING, COMPILED = ".engine", ".graph", ".timing", ".compiled"
KINDS = {
    ENGINE: "engine",
    GRAPH: "graph of a network",
    TIMING: "timing cache",
    COMPILED: "compiled at run time",
    ".blob": "OpenVINO network",
    _PART: "unfinished",
}
"""What the files of a cache folder are, by how their names end."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A file, read.

    Attributes:
        name: Its name.
        header: What was written with it.
        content: ″
    """

    name: str
    header: Mapping[str, Any]
    content: bytes


def default_folder() -> Path:
    """Where engine files are kept if nobody says where: in the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("vsr_plugin", appauthor=False) / "engines"


def key(recipe: Recipe) -> str:
    """sha256 of everything an engine depends on."""
    return hashlib.sha256(json.dumps(recipe.as_dict(), sort_keys=True).encode()).hexdigest()


class Cache:
    """A folder of sealed files. What cannot be kept is not: that is said once, and nothing is raised.

    Args:
        folder: Made when something is to be kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._complained = False

    def read(self, name: str) -> Sealed | None:
        """A file, or None if it is not there, or is not what was written: that one is dropped."""
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._complain(error)
            return None
        opened = _open(name, data)
        if opened is None:
            _log.warning("%s is damaged, or no file of this program: making it again", path)
            self.drop(name)
            return None
        return Sealed(name, *opened)

    def find(self, recipe: Recipe, shape: Shape) -> Sealed | None:
        """An engine of this recipe; else the smallest of another profile that takes ``shape``."""
        exact = self.read(f"{key(recipe)}{ENGINE}")
        if exact is not None and exact.header.get("recipe") == recipe.as_dict():
            return exact
        found = []
        for path in self._files(ENGINE):
            header = read_header(path)
            profile = header and _profile_for(header, recipe)
            if profile and profile.covers(shape):
                n, _, height, width = profile.largest
                found.append((height * width, n, path.name))
        for *_, name in sorted(found):
            sealed = self.read(name)
            if sealed is not None:
                return sealed
        return None

    def write(self, name: str, header: Mapping[str, Any], content: bytes) -> bool:
        """Keep a file, whole or not at all; gives whether it is there."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"{secrets.token_hex(8)}{_PART}"
            try:
                with part.open("xb") as file:
                    file.write(_seal(name, header, content))
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self.folder / name)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            self._complain(error)
            return False
        return True

    def drop(self, name: str) -> None:
        """Forget a file."""
        try:
            (self.folder / name).unlink(missing_ok=True)
        except OSError as error:
            self._complain(error)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from building; where the folder takes no lock, nobody is kept from anything."""
        import filelock

        lock = filelock.FileLock(self.folder / _LOCK)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=_PATIENCE)
            except filelock.Timeout:
                _log.warning("another process builds an engine in %s: waiting for it", self.folder)
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            self._complain(error)
        try:
            yield
        finally:
            lock.release()

    def _files(self, ending: str) -> list[Path]:
        try:
            return sorted(self.folder.glob(f"*{ending}"))
        except OSError:
            return []

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            reason = getattr(error, "strerror", None) or str(error)
            _log.warning("engines cannot be kept in %s (%s): they are built anew each time", self.folder, reason)
        self._complained = True


def read_header(path: Path) -> Mapping[str, Any] | None:
    """What was written with a file, its content unread; None if it is no file of ours, or not as long as it was."""
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER + _LONGEST_HEADER)
            length = file.seek(0, os.SEEK_END)
    except OSError:
        return None
    opened = _split(data)
    if opened is None or opened[0].get("size") != length - (len(data) - len(opened[1])):
        return None
    return opened[0]


def _seal(name: str, header: Mapping[str, Any], content: bytes) -> bytes:
    facts = {**header, "name": name, "size": len(content)}
    rest = b"".join([json.dumps(facts, sort_keys=True).encode(), b"\n", content])
    return b"".join([_MAGIC, hashlib.sha256(rest).hexdigest().encode(), b"\n", rest])


def _open(name: str, data: bytes) -> tuple[Mapping[str, Any], bytes] | None:
    """Header and content, of a file that is whole and has the name that it was written under."""
    opened = _split(data)
    if opened is None or opened[0].get("name") != name:
        return None
    digest = data[len(_MAGIC) : len(_MAGIC) + _DIGEST]
    return opened if hashlib.sha256(data[_HEADER:]).hexdigest().encode() == digest else None


def _split(data: bytes) -> tuple[Mapping[str, Any], bytes] | None:
    end = data.find(b"\n", _HEADER)
    if not data.startswith(_MAGIC) or end < 0:
        return None
    try:
        header = json.loads(data[_HEADER:end])
    except (ValueError, RecursionError):
        return None
    return (header, data[end + 1 :]) if isinstance(header, dict) else None


def _profile_for(header: Mapping[str, Any], recipe: Recipe) -> Profile | None:
    """The profile of an engine that differs from a recipe in nothing else."""
    theirs, ours = header.get("recipe"), recipe.as_dict()
    if not isinstance(theirs, dict) or {**theirs, "profile": None} != {**ours, "profile": None}:
        return None
    try:
        shapes = {name: tuple(map(int, theirs["profile"][name])) for name in ("smallest", "usual", "largest")}
    except (KeyError, TypeError, ValueError):
        return None
    return Profile(**shapes) if {len(shape) for shape in shapes.values()} == {4} else None  # type: ignore[arg-type]
