"""Checks that an input has not changed since the film was planned, so that no part of another film is kept."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..input import Remote, input_name
from ..sequence import ImageSequence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from . import Film

_EDGE = 1 << 20  # bytes at either end of the input that are checked


def identity(path: str) -> dict[str, Any]:
    """Identify an input: size, time of the last change, checksum of its first and last megabyte.

    Raises:
        InputError: the input cannot be read.
    """
    sequence = ImageSequence.find(path)
    files = [Path(path)] if sequence is None else [Path(path).with_name(sequence.name(n)) for n in sequence.numbers]
    try:
        return _edges(files, contents=sequence is None)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}") from error


def check_unchanged(film: Film, *, every_image: bool = False) -> None:
    """Raise InputError if the input has changed since the film was planned; input that is sent is not checked.

    ``every_image`` also checks all files of an image sequence, which takes too long to do for each segment.
    """
    if isinstance(film.path, Remote) or not (every_image or Path(film.path).is_file()):
        return
    if identity(film.path) != film.identity:
        raise InputError(f"{input_name(film.path)} has changed while it was read", fresh=True)


def _edges(files: Sequence[Path], *, contents: bool) -> dict[str, Any]:
    """Size and time of files, and a checksum: of both ends of their contents, or of each one's name, size and time."""
    checksum = hashlib.sha256()
    size, changed = 0, 0
    for file in files:
        status = file.stat()
        size += status.st_size
        changed = max(changed, status.st_mtime_ns)
        if not contents:
            checksum.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
            continue
        with file.open("rb") as opened:
            checksum.update(opened.read(_EDGE))
            opened.seek(max(status.st_size - _EDGE, 0))
            checksum.update(opened.read(_EDGE))
    return {"size": size, "mtime_ns": changed, "sha256 of its ends": checksum.hexdigest()}
