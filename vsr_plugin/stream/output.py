"""Output files: checked before any work, written in a hidden folder next to their place, moved there when complete.

The hidden folder is called ``.vsr-MACHINE-XXXXXXXX.part`` and contains a lock that its process holds. Folders of killed
processes are removed by the next process that writes next to them, but only on the same machine: on a shared drive, the
lock of another machine may be invisible.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import platform
import secrets
import shutil
import stat
import warnings
from contextlib import suppress
from itertools import count, takewhile
from os.path import exists, lexists, realpath
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ..errors import OutputError, UsageError
from .encoder import STILL_IMAGES
from .sequence import ImageSequence, is_pattern, split_pattern

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    import filelock

    from ..sizes import Size

log = logging.getLogger(__name__)

# Suffixes that an output takes from its input, as these files can store the result; all others become Matroska.
_KEPT_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", *STILL_IMAGES}
_LONGEST = 255  # bytes of a name, on all common file systems
_LOCK = "lock"
_own: set[Path] = set()  # folders of this process


def default_output(
    source: str | Path, model: str, scale: int | Size, folder: str | Path | None = None, *, marks: Sequence[str] = ()
) -> Path:
    """Return the default output of ``source``: ``in_espcn_x3.mp4`` next to it, or in ``folder``.

    With a size instead of a scale, it is ``in_espcn_1080p.mp4``. ``marks`` are added to distinguish results:
    ``in_espcn_x3_video.mp4``.

    MP4, MOV, Matroska, WebM and still images keep their format; everything else becomes Matroska.

    Raises:
        UsageError: the source is standard input, which has no name.
    """
    if str(source) == "-":
        raise UsageError("Expected an output name with standard input: give one, or - for y4m on standard output")
    path = Path(source)
    suffix = path.suffix if path.suffix.lower() in _KEPT_SUFFIXES else ".mkv"
    place = path.parent if folder is None else Path(folder)
    if is_pattern(path) and not exists(path):  # noqa: PTH110 - a name may be too long
        before, after = split_pattern(path.with_suffix(suffix))
        return place / f"{before}{tag(model, scale, marks)}_{after}"
    return place / fitting(path.stem, f"_{tag(model, scale, marks)}{suffix}")


def tag(model: str, scale: int | Size, marks: Sequence[str] = ()) -> str:
    """Return what an output's name states: model, size, the size's unusual options, and ``marks``."""
    parts = [model, f"x{scale}" if isinstance(scale, int) else str(scale)]
    if not isinstance(scale, int):
        parts += [f"x{scale.scale}"] * (scale.scale is not None) + [scale.fit] * (scale.fit != "inside")
        parts += ["square"] * scale.square_pixels
    return "_".join((*parts, *marks))


def is_sequence(target: Path, source: str) -> bool:
    """Whether ``target`` is a pattern of images, one for each frame.

    If the source is a file whose name looks like a pattern (``50%d off.png``), the output is a file, too.
    """
    if target.suffix.lower() not in STILL_IMAGES or not is_pattern(target):
        return False
    return not (is_pattern(source) and exists(source))  # noqa: PTH110 - a name may be too long


def identities(names: Iterable[str | Path]) -> set[tuple[int, int]]:
    """Identify files regardless of their names: (device, inode) of each file, and of all files of a sequence."""
    found = set()
    for name in names:
        for file in _files(Path(name)):
            with suppress(OSError, ValueError):
                status = file.stat()
                found.add((status.st_dev, status.st_ino))
    return found


def check_output(
    target: Path, source: str | Path, *, overwrite: bool, taken: Container[tuple[int, int]] = frozenset()
) -> None:
    """Check before any work that an output can be written.

    Args:
        target: A file, or a pattern of images.
        source: The input.
        overwrite: Whether existing files may be replaced.
        taken: `identities` of other files that must not be replaced.

    Raises:
        UsageError: the target is the source, or one of ``taken``.
        OutputError: the target exists, is not a regular file, or its folder does not exist.
    """
    try:
        _check(target, str(source), overwrite=overwrite, taken=taken)
    except (OutputError, UsageError):
        raise
    except (OSError, ValueError) as error:
        raise OutputError(f"Cannot write {target}: {_reason(error)}") from error


def _check(target: Path, source: str, *, overwrite: bool, taken: Container[tuple[int, int]]) -> None:
    if target.is_dir():
        raise OutputError(f"Expected a file to write to, got the folder {target}")
    if not target.parent.is_dir():
        raise OutputError(f"No such folder: {target.parent}")
    existing = _files(target) if is_sequence(target, source) else [target] if lexists(target) else []
    own = identities([source])
    for file in existing:
        if not file.exists():
            raise OutputError(f"{file} is a link to a file that does not exist")
        status = file.stat()
        if (status.st_dev, status.st_ino) in own:
            raise UsageError(f"{file} is the input itself: name another output")
        if (status.st_dev, status.st_ino) in taken:
            raise UsageError(f"{file} is another input or output of the same call: name another output")
        if not stat.S_ISREG(status.st_mode):
            raise OutputError(f"Expected a file to write to, but {file} is a device or a pipe")
    if existing and not overwrite:
        raise OutputError(f"{existing[0]} exists", overwrite=True)


class Part:
    """The hidden folder in which an output is written; on exit, it is removed with everything that was not placed.

    Args:
        target: A target that `check_output` has accepted.
        sequence: Whether it is a pattern of images.
        overwrite: Whether existing files may be replaced.

    Attributes:
        file: Where to write: a file, or a pattern of images numbered from 1.

    Raises:
        OutputError: the folder cannot be made or written to.
    """

    def __init__(self, target: Path, *, sequence: bool, overwrite: bool) -> None:
        self._target = Path(realpath(target)) if target.is_symlink() else target
        self._sequence = sequence
        self._overwrite = overwrite
        try:
            remove_stale(self._target.parent)
            self._folder, self._lock = _make_folder(self._target.parent)
            self._parent = os.open(self._target.parent, os.O_RDONLY) if os.open in os.supports_dir_fd else None
        except (OSError, ValueError) as error:
            # /proc exists, but new files in it are "not found".
            missing = isinstance(error, FileNotFoundError) and self._target.parent.is_dir()
            reason = "it takes no new files" if missing else _reason(error)
            raise OutputError(f"Cannot write to {target.parent}: {reason}") from error
        self.file = self._folder / (("%d" if sequence else "output") + target.suffix)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        if self._parent is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        else:  # also finds it if the parent was moved
            shutil.rmtree(self._folder.name, ignore_errors=True, dir_fd=self._parent)
            os.close(self._parent)
        _own.discard(self._folder)

    def check(self) -> None:
        """Raise OutputError if the folder was moved or deleted since it was made."""
        if not (self._folder / _LOCK).exists():
            raise OutputError(f"{self._target.parent} was moved or deleted while {self._target.name} was written to it")

    def place(self) -> Path:
        """Move the complete output to its place, or to a free name next to it if that exists and must not be replaced.

        Raises:
            OutputError: the output cannot be moved there.
        """
        self.check()
        try:
            if self._sequence:
                place = self._place_frames()
            else:
                sync(self.file)
                place = self._place_file()
                sync(place.parent)
        except OSError as error:
            raise OutputError(f"Cannot write {self._target}: {_reason(error)}") from error
        if place != self._target:
            log.warning("%s has come to exist meanwhile: writing %s", self._target.name, place.name)
        return place

    def _place_file(self) -> Path:
        if self._overwrite:
            self.file.replace(self._target)
            return self._target
        for place in _names(self._target):
            try:
                os.link(self.file, place)  # fails if a file with that name exists by now
            except FileExistsError:
                continue
            except OSError:  # a file system without hard links
                if lexists(place):
                    continue
                self.file.replace(place)
            return place
        raise AssertionError

    def _place_frames(self) -> Path:
        place = next(place for place in _names(self._target) if self._overwrite or ImageSequence.find(place) is None)
        frames = sum(file.stem.isdigit() for file in self._folder.iterdir())
        sequence = ImageSequence(place, tuple(range(1, frames + 1)))
        for number in sequence.numbers:
            (self._folder / f"{number}{place.suffix}").replace(place.with_name(sequence.name(number)))
        _remove_following(sequence)
        return place


def sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk, so that they survive a loss of power."""
    with suppress(OSError):  # not every system supports it
        opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def _remove_following(sequence: ImageSequence) -> None:
    """Remove older frames numbered without a gap after the new ones: a reader would take them for part of the film.

    Files after a gap, or before the new frames, stay.
    """
    there = ImageSequence.find(sequence.pattern)
    numbers = set(there.numbers if there else ())
    after = list(takewhile(numbers.__contains__, count(sequence.numbers[-1] + 1)))
    for number in reversed(after):  # from the end, so that a killed process leaves no gap
        sequence.pattern.with_name(sequence.name(number)).unlink(missing_ok=True)
    if after:
        first, last = sequence.name(after[0]), sequence.name(after[-1])
        log.warning("Removed %d older frames that would follow the new ones: %s to %s", len(after), first, last)


def _make_folder(parent: Path) -> tuple[Path, filelock.BaseFileLock]:
    import filelock  # here, because code that only needs names does without

    while True:
        folder = _hidden(parent)
        _own.add(folder)  # before it exists, because Ctrl-C may come right after
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            _own.discard(folder)
            continue
        lock = filelock.FileLock(folder / _LOCK)
        try:
            acquire(lock)
        except (filelock.Timeout, FileNotFoundError):  # another process removed it as stale
            continue
        except NotImplementedError:  # a file system without locks, where nobody removes stale folders
            return folder, lock
        if (folder / _LOCK).exists():
            return folder, lock
        lock.release()


def _hidden(parent: Path) -> Path:
    """Return a new name for a folder that `remove_stale` removes when its lock is free."""
    return parent / f".vsr-{_machine()}-{secrets.token_hex(4)}.part"


def acquire(lock: filelock.BaseFileLock) -> None:
    """Acquire a lock without waiting.

    On disks without locks, the library uses a file instead and warns; the warning is ignored, as users cannot help it.

    Raises:
        filelock.Timeout: another process holds the lock.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        lock.acquire(blocking=False)


def put_away(folder: Path, lock: filelock.BaseFileLock) -> None:
    """Remove a folder of a few files, including its lock, completely or not at all.

    If the process is killed, `remove_stale` removes the rest.

    Args:
        folder: The folder.
        lock: The held lock, a file ``lock`` in the folder; it is released.

    Raises:
        OSError: the folder cannot be removed; it is unchanged.
    """
    hidden = _hidden(folder.parent)
    folder.rename(hidden)
    try:
        for file in hidden.iterdir():
            file.unlink()
    except OSError:
        hidden.rename(folder)
        raise
    lock.release(force=True)  # NFS keeps a file that is removed while open, and so its folder
    with suppress(OSError):  # another process that cleans up may be faster
        hidden.rmdir()
    sync(folder.parent)


@atexit.register
def remove_own() -> None:
    """Remove the folders of this process that are left because Ctrl-C came before a `Part` took care of them."""
    for folder in _own:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(parent: Path) -> None:
    """Remove the folders left by killed processes of this machine."""
    import filelock

    for folder in parent.glob(f".vsr-{_machine()}-*.part"):
        lock = filelock.FileLock(folder / _LOCK)
        try:
            acquire(lock)
        except (filelock.Timeout, OSError, NotImplementedError):
            continue
        try:
            shutil.rmtree(folder, ignore_errors=True)
            log.info("Removed %s, which a killed process had left", folder)
        except (OSError, ValueError, LookupError) as error:
            log.warning("Cannot put away %s, which a killed process left: %s", folder, _reason(error))
        finally:
            lock.release()


def _machine() -> str:
    """Return eight hexadecimal digits that identify this machine."""
    try:
        identity = Path("/etc/machine-id").read_text()
    except OSError:
        identity = ""
    return hashlib.sha256(f"{platform.node()} {identity}".encode()).hexdigest()[:8]


def _names(target: Path) -> Iterator[Path]:
    """Yield the target, and then numbered names next to it, endlessly."""
    yield target
    number = 0
    while True:
        number += 1
        yield target.with_name(fitting(target.stem, f"-{number}{target.suffix}"))


def fitting(stem: str, ending: str) -> str:
    """Return ``stem + ending``; if that is too long for a file system, ``stem`` is shortened and gets a checksum."""
    room = _LONGEST - len(os.fsencode(ending))
    if len(os.fsencode(stem)) <= room:
        return stem + ending
    checksum = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"
    while len(os.fsencode(stem)) > room - len(checksum):
        stem = stem[:-1]
    return stem + checksum + ending


def _files(name: Path) -> list[Path]:
    """Return the file itself, or all files of a pattern; empty if there is none."""
    if lexists(name):
        return [name]
    sequence = ImageSequence.find(name)
    return [] if sequence is None else [name.with_name(sequence.name(number)) for number in sequence.numbers]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
