"""The folder ``OUTPUT.parts`` and its manifest: what its parts belong to.

The manifest says what the input was, which settings the parts were made with, and by which versions of what. Parts of
anything else are never mixed in.
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

VERSION = 4
_MANIFEST = "manifest.json"
_RESULT = "result.json"
_LOCK = "lock"
# Fields of `Execution` that may change between two calls: the parts stay the same.
SAME_RESULT = {"batch", "cache_dir", "reuse", "threads", "tile"}
# All that is ever written into the folder; nothing else in it is touched.
_EARLIER = r"\d{5,}\.(json|packets)"  # parts as they were before `VERSION` 4
_OURS = re.compile(rf"lock|(manifest|result)\.json|{NAME.pattern}|{_EARLIER}|\.\S+\.[0-9a-f]{{8}}\.tmp")
_UNFINISHED = re.compile(r"\.\S+\.tmp")  # what a process was killed at
_LIBRARIES = ("libavcodec", "libavformat", "libavfilter", "libavutil", "libswscale")


def parts_folder(output: Path) -> Path:
    """Where the parts of an output lie."""
    return output.with_name(f"{output.name}.parts")


def versions(backend: str) -> dict[str, str]:
    """Of what decodes, enlarges and encodes, with a backend of this name."""
    libraries = {name: ".".join(map(str, av.library_versions[name])) for name in _LIBRARIES}
    # PyAV's wheel has x264, x265 and SVT-AV1 in it.
    return {"vsr_plugin": version("vsr-plugin"), "PyAV": av.__version__, **libraries, **backends.versions(backend)}


def network(upscaler: Upscaler, target: Target) -> dict[str, Any]:
    """What tells a network from another, what becomes of frames, and where it runs in other numbers."""
    *_, execution = upscaler.recipe
    asked = {name.replace("_", " "): value for name, value in asdict(execution).items() if name not in SAME_RESULT}
    return {
        **asked,
        "model": upscaler.spec.name,
        "scale": " ".join(map(str, target.scales)),
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
    """What interrupted jobs have left of a film in a folder, whether it had another path or has changed since."""
    film, path = identity(str(file)), str(file.absolute())
    found = {}
    for place in sorted(folder.glob("*.parts")):
        try:
            found[place] = read_manifest(place)
        except OutputError as error:  # it may be of another film
            log.warning("%s", error)
    ours = [place for place, there in found.items() if there and (there["film"] == path or there["input"] == film)]
    return [PartsFolder(place.with_suffix("")) for place in ours]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder of parts; empty if there is none that can be understood.

    Raises:
        OutputError: it cannot be told, for the disk does not answer.
    """
    try:
        found = json.loads(read_text(folder / _MANIFEST))
        whole = "film" in found and all(isinstance(found[name], dict) for name in ("input", "settings", "versions"))
    except (*NOT_THERE, ValueError, KeyError, TypeError):
        return {}
    return found if whole else {}


def model_of(output: Path) -> str | None:
    """The model that the parts of an output were made with; None if there are none."""
    found = read_manifest(parts_folder(output)).get("settings", {}).get("model")
    return found if isinstance(found, str) else None


@dataclass(frozen=True, slots=True)
class Result:
    """What the parts of a film have become.

    Attributes:
        job: As in `Film`.
        strict: ″
        written: The file.
        damaged: Places in which the input lacks something or does not decode cleanly.
        parts: Of all segments, in order, without their packets.
    """

    job: str
    strict: bool
    written: Written
    damaged: int
    parts: list[Part]


def is_finished(output: Path) -> bool:
    """Whether a file is complete, but the process was killed before it could report that and remove the segments."""
    return PartsFolder(output).result(output) is not None


def remove_finished(output: Path) -> None:
    """Remove the segments of a complete file whose process was killed before it could."""
    folder = PartsFolder(output)
    remove_stale(output.parent)  # where it grew before it got its name, and what was put away
    if folder.result(output) is not None or folder.is_empty():
        with suppress(OutputError):  # it is in use: it will be removed
            folder.remove()


def contents(belongs: Mapping[str, Mapping[str, Any]], plan: Plan) -> dict[str, Any]:
    """What a manifest says: ``input``, ``settings`` and ``versions`` that parts belong to, and where a film is cut."""
    rows = [asdict(segment) for segment in plan.segments]
    said = {"version": VERSION, **belongs, "time_base": str(plan.time_base), "segments": rows}
    found: dict[str, Any] = json.loads(json.dumps(said, default=str))
    return found


def job_of(manifest: Mapping[str, Any]) -> str:
    """What parts belong to, as a checksum."""
    return hashlib.sha256(json.dumps(manifest).encode()).hexdigest()[:16]


class PartsFolder:
    """The parts of one output, held by one process at a time.

    Args:
        output: The file that they become.

    Attributes:
        path: The folder.
        job: Of its parts, as in `Film`, once it is open.
    """

    def __init__(self, output: Path) -> None:
        self.job = ""
        self.path = parts_folder(output)
        self._lock = filelock.FileLock(self.path / _LOCK)
        self._manifest = self.path / _MANIFEST

    def open(self, film: str, manifest: Mapping[str, Any], *, fresh: bool) -> Self:
        """Take the folder, which is made if it is not there.

        Args:
            film: Its path; it may be elsewhere later.
            manifest: What its parts have to belong to, as of `contents`.
            fresh: Remove all that is there.

        Raises:
            OutputError: another process has it; it cannot be written; its parts belong to something else, or it is
                somebody else's folder.
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
        """Let go of the folder; harmless when called again."""
        with suppress(OSError):
            self._lock.release()

    def kept(self, segments: Iterable[Segment]) -> dict[int, Part]:
        """The parts of segments that are there, and are what was written; of others, nothing is left.

        Raises:
            OutputError: one cannot be read, which does not mean that it is damaged; or it cannot be removed.
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

        Interrupted, `result` still knows the file, or the folder is gone.

        Returns:
            Why the folder is still there, in words; None if it is gone.

        Raises:
            OutputError: another process has it.
        """
        if self.path.is_symlink():  # none that this program has made
            return os.strerror(errno.ENOTDIR)
        try:
            acquire(self._lock)
        except filelock.Timeout as error:
            raise OutputError(f"{self.path} is in use: another process makes the file") from error
        except OSError as error:  # it cannot be written
            return error.strerror
        try:
            self._empty(but=_RESULT)
            if os.name == "nt":  # where no folder with an open file can be renamed
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
        """Whether the folder is there, and nothing is in it: its removal was interrupted, or it has just been made."""
        try:
            return all(file.name == _LOCK for file in self.path.iterdir())
        except OSError:
            return False

    def done(self) -> tuple[list[Segment], int]:
        """The segments that need not be made again, and how many there will be.

        Raises:
            OutputError: it cannot be told, for the disk does not answer.
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
        """Write down which file the parts have become, before it gets its name.

        Raises:
            OutputError: it cannot be written.
        """
        with writing_to(self.path):
            status = file.stat()
        short = replace(result, parts=[replace(part, packets=[]) for part in result.parts])
        said = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, **asdict(short)}
        write_atomically(self.path / _RESULT, json.dumps(said).encode())

    def result(self, output: Path) -> Result | None:
        """What the parts have become, if that is this very file: a process was killed before it could remove them."""
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
        """Remove all parts, or what has one of these names; not a file that is called ``but``.

        What is said of all parts goes last: where that is interrupted, nothing looks damaged.
        """
        ours = [file for file in self.path.iterdir() if file.name != _LOCK and _OURS.fullmatch(file.name)]
        for file in sorted(ours, key=lambda file: (file.name == _RESULT, file.name == _MANIFEST)):
            if names.fullmatch(file.name) and file.name != but:
                file.unlink(missing_ok=True)  # it may have been finished meanwhile

    def _compare(self, now: Mapping[str, Any]) -> None:
        """Raise OutputError unless the manifest that is there is the one that would be written now."""
        there = read_manifest(self.path)
        if not there and not self._manifest.exists():
            self._empty()
            return
        if there.get("version") != VERSION:
            raise OutputError(f"{self.path} has parts in a form that is not known here", fresh=True)
        for what, wanted in now.items():
            before = there.get(what)
            if wanted == before:
                continue
            if not isinstance(wanted, dict) or not isinstance(before, dict):
                raise OutputError(f"{self.path} has parts of a film that was cut at other places", fresh=True)
            key = next(key for key in [*wanted, *before] if wanted.get(key) != before.get(key))
            was, is_now = (_said(key, values.get(key)) for values in (before, wanted))
            if key == "mtime_ns":
                key = "the time of its last change"
            raise OutputError(
                f"{self.path} has parts of another job: {what}, {key} was {was} and is {is_now} now", fresh=True
            )


def _said(key: str, value: object) -> str:
    """A value of a manifest in words."""
    if key == "mtime_ns" and isinstance(value, int):
        return f"{datetime.fromtimestamp(value // 10**9)}.{value % 10**9 // 10**6:03}"
    return "not set" if value is None else str(value)
