"""What is in a cache folder: ours, and what OpenVINO keeps there when it is given the same."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...errors import InputError, OutputError
from .cache import ENGINE, GRAPH, KINDS, TIMING, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_OPENVINO = re.compile(r"\d+\.blob")
_OURS = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"[0-9a-f]{16}\.part")
_SHORT = 12  # letters of a digest that tell it from others


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of a cache folder.

    Attributes:
        path: Where it is.
        kind: Engine, graph, timing cache, …
        what: It is for, in words.
        size: Bytes.
        modified: When it was written.
    """

    path: Path
    kind: str
    what: str
    size: int
    modified: datetime

    @property
    def short(self) -> str:
        """Enough of its name to tell it from others."""
        return self.path.stem[:_SHORT]


def kept(folder: Path) -> list[Kept]:
    """The files of a cache folder, the newest first, without the lock; other people's files are not among them.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        found = [_described(path) for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(f"Cannot read {folder}: {error.strerror}") from error
    ours = [file for file in found if file is not None]
    return sorted(ours, key=lambda file: (-file.modified.timestamp(), file.path.name))


def _described(path: Path) -> Kept | None:
    """What a file is, if it is ours, and still there."""
    kind = KINDS.get(path.suffix)
    if kind is None or not path.is_file():
        return None
    what = ""
    if not _OPENVINO.fullmatch(path.name) and not _UNFINISHED.fullmatch(path.name):
        header = read_header(path)
        if header is None and not _OURS.fullmatch(path.stem):
            return None
        what = "damaged" if header is None else _words(path.suffix, header)
    try:
        status = path.stat()
    except FileNotFoundError:  # another process has just finished, or removed it
        return None
    return Kept(path, kind, what, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def clear(folder: Path) -> tuple[int, int]:
    """Remove what `kept` lists; gives the number of files, and their bytes.

    Raises:
        InputError: the folder cannot be read.
        OutputError: one cannot be removed.
    """
    files = kept(folder)
    for file in files:
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"Cannot remove {file.path}: {error.strerror}") from error
    return len(files), sum(file.size for file in files)


def _words(ending: str, header: Mapping[str, Any]) -> str:
    try:
        if ending == ENGINE:
            recipe, target = header["recipe"], header["recipe"]["target"]
            smallest, largest = recipe["profile"]["smallest"], recipe["profile"]["largest"]
            size = f"{largest[3]}×{largest[2]}"
            if smallest[2:] != largest[2:]:
                size = f"{smallest[3]}×{smallest[2]} to {size}"
            where = f"{target['gpu']}, driver {target['driver']}" if target["gpu"] else target["capability"]
            return (
                f"{header['model']} ×{header['scale']}, {size}, up to {largest[0]} at a time, {recipe['precision']}, "
                f"{target['flavor']} {target['version']}, {where}"
            )
        if ending == GRAPH:
            return f"{header['model']} ×{header['scale']}, {header['precision']}"
        if ending == TIMING:
            return f"{header['target']['flavor']} {header['target']['version']}, {header['target']['gpu']}"
        return f"of engine {header['engine'][:_SHORT]}"
    except (KeyError, TypeError, IndexError):
        return "of another version"
