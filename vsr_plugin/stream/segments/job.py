"""`upscale_segments`: makes a film in parts, and joins them into a file. Finished parts are kept."""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import OutputError, UsageError
from ..input import can_seek, input_name
from ..output import check_output
from ..selection import Selection
from . import Film
from .encoding import check_cuttable, obstacle
from .executor import Executor, ThisProcess
from .making import Job
from .manifest import PartsFolder, contents, job_of, network, read_manifest, remove_finished, versions
from .original import identity
from .plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ...engine import Upscaler
    from ...sizes import Target
    from ..encoding import Encoding
    from ..written import Written
    from . import Plan
    from .parts import Part

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a film is split into segments, and what processes them.

    Attributes:
        length: Length of a segment in seconds, as near as key frames allow.
        fresh: Start over, and discard the segments of an earlier call.
        executor: What processes the segments; by default this process.
    """

    length: Fraction = Fraction(20)
    fresh: bool = False
    executor: Executor | None = None

    def __post_init__(self) -> None:
        if self.length <= 0:
            raise UsageError(f"Expected a segment length above 0 seconds, got {self.length}")


@dataclass(frozen=True, slots=True)
class Joined:
    """Result of `upscale_segments`.

    Attributes:
        written: What was written.
        damaged: Number of places where the input lacks something or does not decode cleanly.
        plan: Where the film is cut.
        parts: Parts of all segments, in order.
        kept: Numbers of the parts that an earlier call has made.
        target: Size, scales and pixel aspect ratio of the enlarged frames.
    """

    written: Written
    damaged: int
    plan: Plan
    parts: Sequence[Part]
    kept: frozenset[int]
    target: Target


def upscale_segments(
    path: str,
    output: Path,
    upscaler: Upscaler,
    selection: Selection,
    encoding: Encoding,
    cutting: Cutting,
    *,
    overwrite: bool,
    strict: bool,
    on_written: Callable[[Written, int, int, int], None],
) -> Joined | None:
    """Enlarge a film in segments, continuing where an earlier call ended.

    Args:
        path: Path of the input.
        output: The file to write.
        upscaler: The network.
        selection: Which frames to take.
        encoding: How to encode.
        cutting: How the film is cut.
        overwrite: Replace an existing file.
        strict: Refuse damaged input, and outputs that would lose something.
        on_written: Called with what has been encoded, and the numbers of all frames, of workers, and of frames that an
            earlier call has encoded.

    Returns:
        The result; None if the film cannot be cut, which is logged.

    Raises:
        UsageError: the output is not a video file, or its encoder needs the film as a whole.
        InputError: the input cannot be read, or has changed.
        OutputError: there are parts with other settings; something cannot be written.
        BackendError: the network cannot run.
    """
    suffix = output.suffix.lower()
    check_cuttable(suffix, encoding)
    folder = PartsFolder(output)
    finished = None if cutting.fresh else folder.result(output)
    if finished is None:
        remove_finished(output)
    check_output(output, path, overwrite=overwrite or finished is not None)
    whole = _read_once(path)
    if whole is None:
        read = identity(path)
        plan = make_plan(path, selection, cutting.length, strict=strict)
        whole = plan.whole or obstacle(suffix, encoding, plan.opening)
    if whole is not None:
        if finished is not None:  # it was made with other settings
            remove_finished(output)
            check_output(output, path, overwrite=overwrite)
        if cutting.fresh:
            folder.remove()
        elif folder.done()[0]:
            before = read_manifest(folder.path)["settings"].get("seconds of a segment")
            if before != (now := str(cutting.length)):  # what the parts were cut to may be why it was cut
                what = f"seconds of a segment was {before} and is {now} now"
                raise OutputError(f"{folder.path} has parts of another job: {what}", fresh=True)
            raise OutputError(f"{folder.path} has parts of a film, which is not cut now, because {whole}", fresh=True)
        alone = "" if cutting.executor is None else ", and no worker helps"
        log.warning("%s is not cut, because %s: nothing is kept if it is interrupted%s", input_name(path), whole, alone)
        return None
    target = upscaler.target(plan.opening.frame)
    belongs = {
        "input": read,
        "settings": settings(upscaler, target, selection, encoding, cutting.length),
        "versions": versions(upscaler.backend),
    }
    manifest = contents(belongs, plan)
    film = Film(path, suffix, selection, encoding, strict, plan, read, job_of(manifest))
    if finished is not None:
        remove_finished(output)
        if finished.job == film.job and (finished.strict or not strict):
            log.info("%s was whole already when an earlier call was stopped", output.name)
            everything = frozenset(part.number for part in finished.parts)
            return Joined(finished.written, finished.damaged, plan, finished.parts, everything, target)
        check_output(output, path, overwrite=overwrite)
    with closing(folder.open(str(Path(path).absolute()), manifest, fresh=cutting.fresh)):
        job = Job(film, folder, upscaler, cutting.executor or ThisProcess(), on_written)
        with job.leaving(output, fresh=cutting.fresh):
            check_output(output, path, overwrite=overwrite)  # another process may have written it meanwhile
            written, damaged, parts = job.finish(output, target, overwrite=overwrite)
        if job.unread:
            job.keep_read(output)
        elif (why := folder.remove()) is not None:
            log.warning("Cannot remove %s: %s", folder.path, why)
    return Joined(written, damaged, plan, parts, job.kept, target)


def _read_once(path: str) -> str | None:
    """Why an input cannot be planned first and then read; None if it can."""
    if path == "-" or not can_seek(path):
        return "it can be read only once"
    return "nothing tells whether an address has changed" if "://" in path else None


def settings(
    upscaler: Upscaler, target: Target, selection: Selection, encoding: Encoding, length: Fraction
) -> dict[str, Any]:
    """Return all settings on which the parts depend."""
    return {
        **network(upscaler, target),
        **{name.replace("_", " "): _told(value) for name, value in asdict(selection).items()},
        **{name.replace("_", " "): value for name, value in asdict(encoding).items()},
        "seconds of a segment": str(length),
    }


def selection_of(settings: Mapping[str, Any]) -> Selection:
    """Restore a job's selection from its settings in the manifest."""
    names = {field.name: field.name.replace("_", " ") for field in fields(Selection)}
    return Selection(**{name: settings[told] for name, told in names.items() if told in settings})


def _told(value: object) -> object:
    return value.name.lower() if isinstance(value, Enum) else value
