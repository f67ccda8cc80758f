"""The folder ``OUTPUT.parts`` and its manifest, which identifies the job of its parts.

The manifest states the input, the settings that the parts were made with, and the versions of the software. Parts of
another job are never mixed in.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Self

import av
import filelock

from ... import backends
from ...errors import OutputError
from ..output import acquire, put_away, remove_stale, sync
from ..written import Written
from . import Segment
from .original import identity
from .parts import (
    NAME,
    NOT_THERE,
    find_parts,
    is_whole,
    part_of,
    read_part,
    read_text,
    remove_part,
    write_atomically,
    writing_to,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from ...engine import Upscaler
    from ...sizes import Target
    from . import Plan
    from .parts import Part

log = logging.getLogger(__name__)

VERSION = 5
_MANIFEST = "manifest.json"
_RESULT = "result.json"
_LOCK = "lock"
# Fields of `Execution` that may change between two calls without changing the parts.
SAME_RESULT = {"batch", "cache_dir", "reuse", "threads", "tile"}
# All files that are ever written into the folder; no others in it are changed.
_EARLIER = r"\d{5,}\.(json|packets)"  # parts before `VERSION` 4
_OURS = re.compile(rf"lock|(manifest|result)\.json|{NAME.pattern}|{_EARLIER}|\.\S+\.[0-9a-f]{{8}}\.tmp")
_UNFINISHED = re.compile(r"\.\S+\.tmp")  # left by a killed process
_OF_INPUT = {"mtime_ns": "last change", "sha256 of its ends": "checksum"}  # in messages
_LIBRARIES = ("libavcodec", "libavformat", "libavfilter", "libavutil", "libswscale")


def parts_folder(output: Path) -> Path:
    """The folder for the parts of an output."""
    return output.with_name(f"{output.name}.parts")


def versions(backend: str) -> dict[str, str]:
    """Versions of all software that decodes, enlarges and encodes, with a backend of this name."""
    libraries = {name: ".".join(map(str, av.library_versions[name])) for name in _LIBRARIES}
    # PyAV's wheel contains x264, x265 and SVT-AV1.
    return {"vsr_plugin": version("vsr-plugin"), "PyAV": av.__version__, **libraries, **backends.versions(backend)}


def network(upscaler: Upscaler, target: Target) -> dict[str, Any]:
    """Settings that identify the network, the size of its output, and how it is run, where that changes results.

    What others follow from comes first: of settings that differ, the first one is named.
    """
    *_, execution = upscaler.recipe
    asked = {name.replace("_", " "): value for name, value in asdict(execution).items() if name not in SAME_RESULT}
    return {
        "model": upscaler.spec.name,
        "scale": " ".join(map(str, target.scales)),
        **asked,
        "size": f"{target.width}×{target.height}",
        "seen": None if target.window is None else [str(value) for value in astuple(target.window)],
        "pixel aspect ratio": target.ratio,
        "tuned for": upscaler.tuned_for,
        "weights": upscaler.checksum(),
        "backend": upscaler.backend,
        "device": upscaler.device.type,
        "precision": upscaler.precision,
    }


def jobs_of(file: Path, folder: Path) -> list[PartsFolder]:
    """Find what interrupted jobs of a film have left in a folder, even if it had another path or has changed since."""
    film, path = identity(str(file)), str(file.absolute())
    found = {}
    for place in sorted(folder.glob("*.parts")):
        try:
            found[place] = read_manifest(place)
        except OutputError as error:  # it may belong to another film
            log.warning("%s", error)
    ours = [place for place, there in found.items() if there and (there["film"] == path or there["input"] == film)]
    return [PartsFolder(place.with_suffix("")) for place in ours]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder of parts; empty if there is no valid one.

    Raises:
        OutputError: the manifest exists but cannot be read.
    """
    try:
        found = json.loads(read_text(folder / _MANIFEST))
        whole = "film" in found and all(isinstance(found[name], dict) for name in ("input", "settings", "versions"))
    except (*NOT_THERE, ValueError, KeyError, TypeError):
        return {}
    return found if whole else {}


def model_of(output: Path) -> str | None:
    """Name of the model that the parts of an output were made with; None if there are none."""
    found = read_manifest(parts_folder(output)).get("settings", {}).get("model")
    return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Result:
    """The file that the parts of a film were joined into.

    Attributes:
        job: As in `Film`.
        strict: ″
        written: What was written.
        damaged: Number of places where the input lacks something or does not decode cleanly.
        parts: Parts of all segments, in order, without their packets.
    """

    job: str
    strict: bool
    written: Written
    damaged: int
    parts: list[Part]


def is_finished(output: Path) -> bool:
    """Whether a file is complete, but its process was killed before it could report that and remove the segments."""
    return PartsFolder(output).result(output) is not None


def remove_finished(output: Path) -> None:
    """Remove the segments of a complete file whose process was killed before it could."""
    folder = PartsFolder(output)
    remove_stale(output.parent)  # unfinished files and removed parts of killed processes
    if folder.result(output) is not None or folder.is_empty():
        with suppress(OutputError):  # in use: another process will remove it
            folder.remove()


def contents(belongs: Mapping[str, Mapping[str, Any]], plan: Plan) -> dict[str, Any]:
    """Contents of a manifest: ``input``, ``settings`` and ``versions`` of the parts, and where the film is cut."""
    rows = [asdict(segment) for segment in plan.segments]
    said = {"version": VERSION, **belongs, "time_base": str(plan.time_base), "segments": rows}
    found: dict[str, Any] = json.loads(json.dumps(said, default=str))
    return found


def job_of(manifest: Mapping[str, Any]) -> str:
    """Checksum of a manifest, which identifies the job of its parts."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


class PartsFolder:
    """The folder with the parts of one output, locked by one process at a time.

    Args:
        output: The file that they are joined into.

    Attributes:
        path: The folder.
        job: Job of its parts, as in `Film`; empty before `open`.
    """

    def __init__(self, output: Path) -> None:
        self.job = ""
        self.path = parts_folder(output)
        self._lock = filelock.FileLock(self.path / _LOCK)
        self._manifest = self.path / _MANIFEST

    def open(self, film: str, manifest: Mapping[str, Any], *, fresh: bool) -> Self:
        """Lock the folder, and create it if it does not exist.

        Args:
            film: Path of the film, which may change later.
            manifest: Manifest that its parts must match, from `contents`.
            fresh: Remove existing parts.

        Raises:
            OutputError: another process has locked it; it cannot be written; its parts belong to another job; or it is
                not a folder of parts.
        """
        try:
            self._claim()
            acquire(self._lock)
            if fresh:
                self._empty()
            self.job = job_of(manifest)
            self._compare(manifest)
            if not self._manifest.exists():
                write_atomically(self._manifest, json.dumps({"film": film, **manifest}, indent=1).encode())
            self._empty(_UNFINISHED)
        except filelock.Timeout as error:
            raise OutputError(f"{self.path} is in use: another process makes the same file") from error
        except OSError as error:
            self.close()
            if isinstance(error, OutputError):
                raise
            raise OutputError(f"Cannot write to {self.path}: {error.strerror}") from error
        return self

    def close(self) -> None:
        """Unlock the folder; may be called again."""
        with suppress(OSError):
            self._lock.release()

    def kept(self, segments: Iterable[Segment]) -> dict[int, Part]:
        """Return the existing, undamaged parts of segments; other parts are removed.

        Raises:
            OutputError: a part cannot be read, which does not mean that it is damaged; or it cannot be removed.
        """
        there = find_parts(self.path)
        found: dict[int, Part] = {}
        for segment in segments:
            for file in there.get(segment.number, ()):
                part = read_part(file)
                ours = part is None or part.job == self.job
                if part is not None and ours and segment.number not in found and is_whole(self.path, part):
                    found[segment.number] = part
                    continue
                if ours and segment.number not in found:
                    log.warning("%s is damaged: segment %d is made again", file, segment.number)
                remove_part(file)
        return found

    def remove(self) -> str | None:
        """Remove the parts, and the folder if nothing else is in it.

        If this is interrupted, `result` still recognizes the file, or the folder is gone.

        Returns:
            Why the folder still exists; None if it is gone.

        Raises:
            OutputError: another process has locked it.
        """
        if self.path.is_symlink():  # not made by this program
            return os.strerror(errno.ENOTDIR)
        try:
            acquire(self._lock)
        except filelock.Timeout as error:
            raise OutputError(f"{self.path} is in use: another process makes the file") from error
        except OSError as error:  # not writable
            return error.strerror
        try:
            self._empty(but=_RESULT)
            if os.name == "nt":  # a folder with an open file cannot be renamed there
                self._lock.release(force=True)
            if all(_OURS.fullmatch(file.name) for file in self.path.iterdir()):
                put_away(self.path, self._lock)
            else:
                self._empty()
                (self.path / _LOCK).unlink(missing_ok=True)
                return os.strerror(errno.ENOTEMPTY)
        except OSError as error:
            return error.strerror
        finally:
            self.close()
        return None

    def is_empty(self) -> bool:
        """Whether the folder exists and is empty: its removal was interrupted, or it has just been created."""
        try:
            return all(file.name == _LOCK for file in self.path.iterdir())
        except OSError:
            return False

    def done(self) -> tuple[list[Segment], int]:
        """Return the segments that need not be made again, and the total number of segments.

        Raises:
            OutputError: the folder exists but cannot be read.
        """
        manifest = read_manifest(self.path)
        if manifest.get("version") != VERSION:
            return [], len(manifest.get("segments", ()))
        del manifest["film"]
        job, there = job_of(manifest), find_parts(self.path)
        segments = [Segment(**row) for row in manifest["segments"]]

        def is_done(segment: Segment) -> bool:
            parts = map(read_part, there.get(segment.number, ()))
            return any(part is not None and part.job == job and not part.unread for part in parts)

        return list(filter(is_done, segments)), len(segments)

    def note_result(self, file: Path, result: Result) -> None:
        """Store which file the parts were joined into, before it gets its name.

        Raises:
            OutputError: this cannot be written.
        """
        with writing_to(self.path):
            status = file.stat()
        short = replace(result, parts=[replace(part, packets=[]) for part in result.parts])
        said = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, **asdict(short)}
        write_atomically(self.path / _RESULT, json.dumps(said).encode())

    def result(self, output: Path) -> Result | None:
        """Return the stored result if ``output`` is that file: its process was killed before it removed the parts."""
        try:
            said = json.loads((self.path / _RESULT).read_text(encoding="utf-8"))
            status = output.stat()
            if (status.st_size, status.st_mtime_ns) != (said.pop("size"), said.pop("mtime_ns")):
                return None
            written = Written(**{**said.pop("written"), "output": str(output)})
            return Result(written=written, parts=[part_of(one) for one in said.pop("parts")], **said)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _claim(self) -> None:
        """Create the folder, or check that an earlier call created it."""
        if self.path.is_symlink():
            raise OutputError(f"{self.path} is a link: expected a folder of this program's own, or none")
        self.path.mkdir(exist_ok=True)
        sync(self.path.parent)
        if not read_manifest(self.path):
            for file in self.path.iterdir():
                if not _OURS.fullmatch(file.name):
                    raise OutputError(f"{self.path} is in the way: it holds {file.name}, which is none of the parts")

    def _empty(self, names: re.Pattern[str] = _OURS, *, but: str = "") -> None:
        """Remove all our files that match ``names``, except the file ``but``.

        Manifest and result are removed last: if this is interrupted, nothing looks damaged.
        """
        ours = [file for file in self.path.iterdir() if file.name != _LOCK and _OURS.fullmatch(file.name)]
        for file in sorted(ours, key=lambda file: (file.name == _RESULT, file.name == _MANIFEST)):
            if names.fullmatch(file.name) and file.name != but:
                file.unlink(missing_ok=True)  # it may have been renamed meanwhile

    def _compare(self, now: Mapping[str, Any]) -> None:
        """Raise OutputError unless the existing manifest equals the one that would be written now."""
        there = read_manifest(self.path)
        if not there and not self._manifest.exists():
            self._empty()
            return
        if there.get("version") != VERSION:
            raise OutputError(f"{self.path} has parts of another version of vsr_plugin", fresh=True)
        for what, wanted in now.items():
            before = there.get(what)
            if wanted == before:
                continue
            if not isinstance(wanted, dict) or not isinstance(before, dict):
                raise OutputError(f"{self.path} has parts of a film that was cut at other places", fresh=True)
            key = next(key for key in [*wanted, *before] if wanted.get(key) != before.get(key))
            was, is_now = (_said(key, values.get(key)) for values in (before, wanted))
            if what == "input":
                key = f"the input's {_OF_INPUT.get(key, key)}"
            raise OutputError(f"{self.path} has parts of another job: {key} was {was} and is {is_now} now", fresh=True)


def _said(key: str, value: object) -> str:
    """Format a value of a manifest for messages."""
    if key == "mtime_ns" and isinstance(value, int):
        return f"{datetime.fromtimestamp(value // 10**9)}.{value % 10**9 // 10**6:03}"
    return "not set" if value is None else str(value)
