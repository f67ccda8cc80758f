"""Graphs of networks for OpenVINO, kept on disk: reading one needs no torch, and tracing its module does."""

from __future__ import annotations

import logging
import platform
import struct
from functools import cache, cached_property
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError
from .cache import GRAPH, Cache, default_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..samples import SampleFormat

_log = logging.getLogger(__name__)

_PACKAGE = Path(__file__).parent.parent
_ROOMS = ("", "models", "backends", "kernels")  # where the code that makes graphs is, and the package's version
_MEGABYTES = 200  # a graph is as large as its weights, at most 8 MB
_HEAD = struct.Struct("<QQQ")  # bytes of the graph, bytes of its weights, `Trace.enlarge`
_ENLARGE = range(1, 9)


class Kind(NamedTuple):
    """What traces differ in: the parity of rows and columns (0 even, 1 odd), and the samples to output, or None."""

    rows: int
    columns: int
    samples: SampleFormat | None


class Trace(NamedTuple):
    """A traced network.

    Attributes:
        graph: The graph.
        decoder: What must live as long as the graph.
        enlarge: How many times larger the network's input is made first, bicubically; 1 if it is not.
    """

    graph: Any
    decoder: Any
    enlarge: int


class GraphCache:
    """A folder of graphs. If one cannot be written, or there is no folder, nothing is said: it is traced again.

    Args:
        folder: The folder; by default the one of TensorRT's engines, in the user's cache folder.
        version: OpenVINO's.
    """

    def __init__(self, folder: Path | None, version: str) -> None:
        self._folder = folder
        self._version = version

    @cached_property
    def _cache(self) -> Cache | None:
        """None if no folder is known, or if changes of the code could not be told."""
        if _sources() is None:
            return None
        try:
            return Cache(self._folder or default_folder(), _MEGABYTES, warns=False)
        except UsageError:
            return None

    def read(self, key: str, load: Callable[[bytes, bytes], Any]) -> Trace | None:
        """The trace that was written under this key; None if there is none, or none that can be used.

        Args:
            key: ″
            load: `openvino.Core.read_model`.
        """
        if self._cache is None:
            return None
        name = self._name(key)
        file = self._cache.read(name)
        try:
            return None if file is None else _unpacked(file.content, load)
        except Exception as error:  # noqa: BLE001 - whatever it is: the next start must not meet it again
            line = next(iter(str(error).splitlines()), "")
            _log.warning("%s cannot be used (%s): making it again", self._cache.folder / name, line)
            self._cache.drop(name)
            return None

    def write(self, key: str, what: str, save: Callable[..., object], enlarge: int) -> None:
        """Keep a graph.

        Args:
            key: All that it depends on, but for versions.
            what: What it is, in words.
            save: `openvino.save_model` for it.
            enlarge: `Trace.enlarge`.
        """
        if self._cache is None:
            return
        try:
            with TemporaryDirectory() as folder:
                path = Path(folder) / "graph.xml"
                save(str(path), compress_to_fp16=False)
                xml, weights = path.read_bytes(), path.with_suffix(".bin").read_bytes()
        except (OSError, RuntimeError):  # there is no room for it, or no right to write
            return
        head = _HEAD.pack(len(xml), len(weights), enlarge)
        self._cache.write(self._name(key), what, head + xml + weights)

    def _name(self, key: str) -> str:
        what = f"{key}, {_sources()}, openvino {self._version}, {platform.machine()}"
        return sha256(what.encode()).hexdigest() + GRAPH


def _unpacked(content: bytes, load: Callable[[bytes, bytes], Any]) -> Trace:
    length, rest, enlarge = _HEAD.unpack_from(content) if len(content) >= _HEAD.size else (0, 0, 0)
    if len(content) != _HEAD.size + length + rest or enlarge not in _ENLARGE:
        raise ValueError("its lengths are wrong")
    weights = _HEAD.size + length
    return Trace(load(content[_HEAD.size : weights], content[weights:]), None, enlarge)


@cache
def _sources() -> str | None:
    """A sha256 of the code that makes graphs; None where it cannot be read, as in an archive, or if only compiled."""
    found = sha256()
    try:
        for room in _ROOMS:
            folder = _folder(room)
            # Editors keep hidden files beside those that are being changed.
            pattern = "**/*.py" if room else "*.py"
            files = sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))
            if not files:
                return None
            for path in files:
                content = path.read_bytes()
                found.update(f"{room}, {path.relative_to(folder).parts}, {len(content)}\n".encode())
                found.update(content)
    except OSError:
        return None
    return found.hexdigest()


def _folder(room: str) -> Path:
    there = _PACKAGE / room
    return there if there.is_dir() else _PACKAGE.parent / room  # `kernels` of a checkout lies beside the package
