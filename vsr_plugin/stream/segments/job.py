"""`upscale_segments`: a film into parts, and the parts into a file. What is done is kept."""

from __future__ import annotations

import logging
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from enum import Enum
from fractions import Fraction
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import InputError, OutputError, UsageError, VsrError
from ..damage import Damage
from ..input import can_seek
from ..input_file import input_name
from ..output import check_output
from ..remux import drop
from ..selection import Selection
from ..written import Written
from . import Film
from .encoding import check_cuttable, obstacle
from .executor import Executor, ThisProcess
from .join import Header, header, join
from .manifest import PartsFolder, Result, contents, job_of, network, remove_finished, versions
from .original import check_unchanged, identity
from .parts import remove_part
from .plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ...engine import Upscaler
    from ...sizes import Target
    from ..encoding import Encoding
    from . import Plan, Segment
    from .parts import Part, Seam
    from .work import Step

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a film is cut, and who makes the parts.

    Attributes:
        length: Of a segment in seconds, as near as key frames allow.
        fresh: Begin anew, whatever there is of an earlier call.
        executor: Who makes the parts; by default this process.
    """

    length: Fraction = Fraction(20)
    fresh: bool = False
    executor: Executor | None = None

    def __post_init__(self) -> None:
        if self.length <= 0:
            raise UsageError(f"Expected a segment length above 0 seconds, got {self.length}")


@dataclass(frozen=True, slots=True)
class Joined:
    """What came of it.

    Attributes:
        written: The file.
        damaged: Places in which the input lacks something or does not decode cleanly.
        plan: Where the film is cut.
        parts: Of all segments, in order.
        kept: Numbers of those that were there before.
        target: What has become of the film's frames.
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
    """Enlarge a film in segments, going on where an earlier call ended.

    Args:
        path: Of the input.
        output: The file.
        upscaler: The network.
        selection: Which frames.
        encoding: How to encode.
        cutting: How it is cut.
        overwrite: Replace an existing file.
        strict: Refuse damaged input, and what would drop something.
        on_written: Called with what has been encoded, the number of all frames, that of the workers, and that of the
            frames that were there before.

    Returns:
        What was done; None if the film cannot be cut, which is said.

    Raises:
        UsageError: the output is no video file, or its encoder needs the film as a whole.
        InputError: the input cannot be read, or has changed.
        OutputError: parts of other settings are there; something cannot be written.
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
        if finished is not None:  # made in another way
            remove_finished(output)
            check_output(output, path, overwrite=overwrite)
        if cutting.fresh:
            folder.remove()
        elif folder.count()[0]:
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
        job = _Job(film, folder, upscaler, cutting.executor or ThisProcess(), on_written)
        with job.leaving(output, fresh=cutting.fresh):
            check_output(output, path, overwrite=overwrite)  # another process may have made it meanwhile
            written, damaged, parts = job.finish(output, target, overwrite=overwrite)
        if (why := folder.remove()) is not None:
            log.warning("Cannot remove %s: %s", folder.path, why)
    return Joined(written, damaged, plan, parts, job.kept, target)


def _read_once(path: str) -> str | None:
    """Why an input cannot be planned first and then read, in words; None if it can."""
    if path == "-" or not can_seek(path):
        return "it can be read only once"
    return "nothing tells whether an address has changed" if "://" in path else None


def settings(
    upscaler: Upscaler, target: Target, selection: Selection, encoding: Encoding, length: Fraction
) -> dict[str, Any]:
    """All that changes the parts."""
    return {
        **network(upscaler, target),
        **{name.replace("_", " "): _told(value) for name, value in asdict(selection).items()},
        **{name.replace("_", " "): value for name, value in asdict(encoding).items()},
        "seconds of a segment": str(length),
    }


def selection_of(settings: Mapping[str, Any]) -> Selection:
    """Which frames a job takes, from its settings in the manifest."""
    names = {field.name: field.name.replace("_", " ") for field in fields(Selection)}
    return Selection(**{name: settings[told] for name, told in names.items() if told in settings})


def _fit(one: Seam | None, other: Seam | None) -> bool:
    """Whether the same frames were decoded at a seam, as far as both sides have seen them.

    That of the frame before it shows whether decoding began early enough: the first frame of an open GOP is decoded by
    itself, and those behind it may need what is before.
    """
    return one is None or other is None or all(a == b for a, b in zip(one, other, strict=True) if None not in (a, b))


def _told(value: object) -> object:
    return value.name.lower() if isinstance(value, Enum) else value


class _Job:
    """The parts of one film, while they are made."""

    def __init__(
        self,
        film: Film,
        folder: PartsFolder,
        upscaler: Upscaler,
        executor: Executor,
        on_written: Callable[[Written, int, int, int], None],
    ) -> None:
        self._film = film
        self._folder = folder
        self._upscaler = upscaler
        self._executor = executor
        self._on_written = on_written
        self._segments = film.plan.segments
        self._expected = sum(segment.frames for segment in self._segments)
        self._parts: dict[int, Part] = {}
        self._running: dict[int, Step] = {}
        self._reached = 0.0  # seconds of the output
        self._drop = cache(partial(drop, self._name, strict=film.strict))  # says everything once
        self.kept: frozenset[int] = frozenset()

    def finish(self, output: Path, target: Target, *, overwrite: bool) -> tuple[Written, int, list[Part]]:
        """Make the parts that are missing, and the file.

        Returns:
            What was written, in how many places the input is damaged, and the parts.

        Raises:
            VsrError: as of `upscale_segments`.
        """

        def before_placed(file: Path, written: Written, damaged: int) -> None:
            check_unchanged(self._film, every_image=True)
            self._folder.note_result(file, Result(self._film.job, self._film.strict, written, damaged, parts))

        with self._telling_of_changes():
            wanted = header(self._film, output, target, self._drop)
            parts = self._make(wanted)
            check_unchanged(self._film, every_image=True)
            written, damaged = join(
                self._film,
                parts,
                self._folder.path,
                output,
                target,
                overwrite=overwrite,
                drop=self._drop,
                before_placed=before_placed,
            )
        return written, damaged, parts

    @contextmanager
    def _telling_of_changes(self) -> Iterator[None]:
        """Where the input cannot be read as before, say that it has changed, if that is why."""
        try:
            yield
        except InputError:
            check_unchanged(self._film, every_image=True)
            raise

    def _make(self, wanted: Header) -> list[Part]:
        """The parts of all segments, in order; those that are there are not made again.

        Raises:
            InputError: two segments do not fit together.
            OutputError: a part is of another encoder; with ``strict``, one that is there lacks something.
        """
        damage = Damage(self._name, strict=False)
        for segment in self._segments:
            part = self._folder.whole(segment)
            if part is None or (part.damaged and self._film.strict):
                continue
            wanted.check(part)
            self._parts[segment.number] = part
            for place in part.told:
                damage.add(place)
            for what, why in part.dropped:
                self._drop(what, why)
        self.kept = frozenset(self._parts)
        if self._parts:
            log.info("%s: %d of %d segments are there: going on", self._name, len(self._parts), len(self._segments))
        self._run([segment for segment in self._segments if segment.number not in self._parts], wanted)
        unread = [part.number for part in self._parts.values() if part.unread]
        if unread:
            log.warning("%s: what could not be read is read again", self._name)
            self._run([self._segments[number] for number in sorted(unread)], wanted)
        again: set[int] = set()
        while wrong := self._wrong(again):
            log.warning("%s: segments do not fit together: decoding again from the beginning", self._name)
            self._run([replace(self._segments[number], entry=None) for number in wrong], wanted)
            again.update(wrong)  # those beside them may not fit now
        return [self._parts[segment.number] for segment in self._segments]

    @contextmanager
    def leaving(self, output: Path, *, fresh: bool) -> Iterator[None]:
        """Where it fails, say that what is done is kept, unless it can only begin anew.

        Nothing is left where nothing is done, or all of it.
        """
        try:
            yield
        except BaseException as error:
            with suppress(OutputError):  # of a folder that cannot be read now, all is kept
                done, whole = self._folder.count()
                anew = isinstance(error, VsrError) and error.use.get("fresh")
                if not done or self._folder.result(output) is not None:
                    self._folder.remove()
                elif not anew:
                    log.warning(
                        "%s: %d of %d segments are kept in %s: run it again %sto go on",
                        self._name, done, whole, self._folder.path, "without fresh " if fresh else "",
                    )  # fmt: skip
            raise

    @property
    def _name(self) -> str:
        return input_name(self._film.path)

    def _run(self, segments: Sequence[Segment], wanted: Header) -> None:
        if not segments:
            return
        for segment in segments:
            self._parts.pop(segment.number, None)
        self.kept &= self._parts.keys()
        run = self._executor.run(self._film, segments, self._upscaler, self._folder.path, self._step)
        with closing(run):  # type: ignore[type-var]
            for part in run:
                try:
                    wanted.check(part)
                except OutputError:
                    remove_part(self._folder.path, part.number)  # else it would be there the next time
                    raise
                for what, why in part.dropped:
                    self._drop(what, why)
                self._parts[part.number] = part
                self._running.pop(part.number, None)
                self._tell()

    def _wrong(self, again: set[int]) -> list[int]:
        """Segments to make again.

        Those without a frame, or behind which nothing was read though there is more, unless it is known why; both sides
        of a seam where they have not seen the same frames.

        Not those that were made again already, if the input is damaged: what a decoder makes up is not the same twice.

        Raises:
            InputError: it is not damaged, and they do not fit.
        """
        parts = [self._parts[segment.number] for segment in self._segments]
        short = [
            part
            for part in parts
            if not part.unread and (part.first is None or (part.beyond is None and part is not parts[-1]))
        ]
        wrong = {part.number for part in short} - again
        for before, after in pairwise(parts):
            both = {before.number, after.number}
            if _fit(before.beyond, after.first) or (both <= again and (before.damaged or after.damaged)):
                continue
            if both <= again:
                at = float((self._segments[after.number].first - self._film.plan.shift) * self._film.plan.time_base)
                raise InputError(f"{self._name} does not decode to the same frame twice at {at:.3f} s")
            wrong |= both - again
        return sorted(wrong)

    def _step(self, step: Step) -> None:
        self._running[step.number] = step
        self._reached = max(self._reached, step.position)
        self._tell()

    def _tell(self) -> None:
        parts, running = self._parts.values(), self._running.values()
        written = Written(
            frames=sum(part.frames for part in parts) + sum(step.frames for step in running),
            size=sum(part.size for part in parts) + sum(step.size for step in running),
            position=self._reached,
        )
        kept = sum(self._parts[number].frames for number in self.kept)
        self._on_written(written, max(self._expected, written.frames), self._executor.workers, kept)
