"""`Job`: manages the parts of one film while they are made, and checks that they fit together."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

from ...errors import InputError, OutputError, VsrError
from ..damage import Damage
from ..input import input_name
from ..remux import drop
from ..written import Written
from .executor import Task
from .join import Header, header, join
from .manifest import Result
from .original import check_unchanged
from .parts import place, remove_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ...engine import Upscaler
    from ...sizes import Target
    from . import Film, Segment
    from .executor import Executor
    from .manifest import PartsFolder
    from .parts import Part, Seam
    from .work import Step

log = logging.getLogger(__name__)


def _fit(one: Seam | None, other: Seam | None) -> bool:
    """Whether both sides of a seam decoded the same frames, as far as both have them.

    The frame before the seam shows whether decoding began early enough: the first frame of an open GOP decodes by
    itself, but later ones may need earlier frames.
    """
    return one is None or other is None or all(a == b for a, b in zip(one, other, strict=True) if None not in (a, b))


class Job:
    """Manages the parts of one film while they are made.

    Attributes:
        kept: Numbers of the parts that an earlier call has made.
        unread: Numbers of the parts for which reading the input failed twice.
    """

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
        self._executor = executor
        self._on_written = on_written
        self._segments = film.plan.segments
        self._expected = sum(segment.frames for segment in self._segments)
        self._parts: dict[int, Part] = {}
        self._replaced: dict[int, Part] = {}  # parts that are being made again
        self._again: set[int] = set()  # numbers of parts that were or will be made again because they did not fit
        self._waiting: deque[Segment] = deque()
        self._running: dict[int, Step] = {}
        self._done = Written()  # sum of all parts
        self._kept_frames = 0
        self._reached = 0.0  # seconds of the output
        self._drop = cache(partial(drop, self._name, strict=film.strict))  # reports each loss once
        self._task = Task(film, self._waiting, upscaler, folder.path, self._step)
        self.kept: frozenset[int] = frozenset()
        self.unread: list[int] = []

    def finish(self, output: Path, target: Target, *, overwrite: bool) -> tuple[Written, int, list[Part]]:
        """Make the missing parts, and the file.

        Returns:
            What was written, the number of damaged places of the input, and the parts.

        Raises:
            VsrError: as for `upscale_segments`.
        """

        def before_placed(file: Path, written: Written, damaged: int) -> None:
            check_unchanged(self._film, every_image=True)
            if not self.unread:  # otherwise, the file is not final
                self._folder.note_result(file, Result(self._film.job, self._film.strict, written, damaged, parts))

        with self._telling_of_changes():
            wanted = header(self._film, output, target, self._drop)
            self._find(wanted)
            self._make(wanted)
            parts = [self._parts[segment.number] for segment in self._segments]
            self.unread = [part.number for part in parts if part.unread]
            check_unchanged(self._film, every_image=True)
            log.info("%s: joining %d segments", self._name, len(parts))  # of a long film, this takes minutes
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
        """If reading the input fails because it has changed, raise an error that says so."""
        try:
            yield
        except InputError:
            check_unchanged(self._film, every_image=True)
            raise

    def _find(self, wanted: Header) -> None:
        """Find the existing parts, and the segments that are still to be made.

        Raises:
            OutputError: a part is from another encoder; with ``strict``, a part lacks something.
        """
        damage = Damage(self._name, strict=False)
        for number, part in self._folder.kept(self._segments).items():
            if part.unread or (part.damaged and self._film.strict):
                self._replaced[number] = part
                continue
            wanted.check(part)
            self._keep(part)
            for what in part.told:
                damage.add(what)
            for what, why in part.dropped:
                self._drop(what, why)
        self.kept = frozenset(self._parts)
        self._kept_frames = self._done.frames
        if self._parts:
            log.info("%s: %d of %d segments are there: going on", self._name, len(self._parts), len(self._segments))
        self._waiting.extend(segment for segment in self._segments if segment.number not in self._parts)
        for number in sorted(self._parts):
            self._examine(number)

    def _make(self, wanted: Header) -> None:
        """Make the missing parts, and again those that do not fit.

        Raises:
            InputError: two segments do not fit together, though both were made twice.
            OutputError: a part is from another encoder.
        """
        if not self._waiting:
            return
        again: set[int] = set()
        with closing(self._executor.run(self._task)) as run:
            for part in run:
                try:
                    wanted.check(part)
                except OutputError:
                    remove_part(place(self._folder.path, part))  # otherwise, the next call would find it
                    raise
                for what, why in part.dropped:
                    self._drop(what, why)
                self._keep(part)
                self._tell()
                if part.unread and part.number not in again:
                    log.warning("%s: what could not be read is read again at the end", self._name)
                    again.add(part.number)
                    self._replace(part.number)
                    self._waiting.append(self._segments[part.number])
                else:
                    self._examine(part.number)

    def _keep(self, part: Part) -> None:
        """Count an existing part, and remove the one that it replaces."""
        self._running.pop(part.number, None)
        self._parts[part.number] = part
        self._done.frames += part.frames
        self._done.size += part.size
        if (other := self._replaced.pop(part.number, None)) is not None:
            remove_part(place(self._folder.path, other))

    def _replace(self, number: int) -> None:
        """Stop counting a part that is made again; its file stays until the new one exists."""
        part = self._replaced[number] = self._parts.pop(number)
        self._done.frames -= part.frames
        self._done.size -= part.size
        if number in self.kept:
            self.kept -= {number}
            self._kept_frames -= part.frames

    def _examine(self, number: int) -> None:
        """Have a part made again, decoded from the beginning of the film, if it does not fit its neighbors.

        A part does not fit if it has no frame, or if no frame was read after it though there should be one, unless
        reading failed; nor do two neighbors that decoded different frames at their seam. Each part is made again once.
        In damaged input, parts may still differ then: what a decoder conceals is not the same twice.

        Raises:
            InputError: the parts do not fit, though both were made twice and are not damaged.
        """
        if (part := self._parts.get(number)) is None:  # it is already being made again
            return
        last = number == len(self._segments) - 1
        wrong: set[int] = set()
        if not part.unread and (part.first is None or (part.beyond is None and not last)):
            wrong = {number} - self._again
        for before, after in ((number - 1, number), (number, number + 1)):
            one, other = self._parts.get(before), self._parts.get(after)
            if one is None or other is None or _fit(one.beyond, other.first):
                continue
            both = {before, after}
            if both <= self._again and not (one.damaged or other.damaged):
                for differing in (one, other):
                    remove_part(place(self._folder.path, differing))
                at = float((self._segments[after].first - self._film.plan.shift) * self._film.plan.time_base)
                raise InputError(
                    f"{self._name}: segments {before} and {after} were made twice, and do not begin and end with the "
                    f"same frame at {at:.3f} s",
                    segment_length=...,
                    resume=None,
                )
            wrong |= both - self._again
        if not wrong:
            return
        names = " and ".join(map(str, sorted(wrong)))
        log.warning("%s: segment %s does not fit: decoding again from the beginning", self._name, names)
        self._again |= wrong
        for each in sorted(wrong, reverse=True):
            self._replace(each)
            self._waiting.appendleft(replace(self._segments[each], entry=None))

    @contextmanager
    def leaving(self, output: Path, *, fresh: bool) -> Iterator[None]:
        """If the job fails, log that finished segments are kept, unless it can only start over.

        The parts are removed if there are none that are finished, or if the file is complete.
        """
        try:
            yield
        except BaseException as error:
            with suppress(OutputError):  # a folder that cannot be read now is kept
                done, count = self._folder.done()
                anew = isinstance(error, VsrError) and error.use.get("fresh")
                if not done or self._folder.result(output) is not None:
                    self._folder.remove()
                elif not anew:
                    log.warning(
                        "%s: %d of %d segments are kept in %s: run it again %sto go on",
                        self._name, len(done), count, self._folder.path, "without fresh " if fresh else "",
                    )  # fmt: skip
            raise

    def keep_read(self, output: Path) -> None:
        """Keep the parts whose input could be read, and log that others are missing."""
        for number in self.unread:
            remove_part(place(self._folder.path, self._parts[number]))
        several = "s" * (len(self.unread) > 1)
        log.warning(
            "%s could not be read in segment%s %s, which %s lacks. The other segments are kept in %s: "
            "run it again, overwriting the file, to read the rest",
            self._name, several, ", ".join(map(str, self.unread)), output.name, self._folder.path,
        )  # fmt: skip

    @property
    def _name(self) -> str:
        return input_name(self._film.path)

    def _step(self, step: Step) -> None:
        self._running[step.number] = step
        self._reached = max(self._reached, step.position)
        self._tell()

    def _tell(self) -> None:
        running = self._running.values()
        written = Written(
            frames=self._done.frames + sum(step.frames for step in running),
            size=self._done.size + sum(step.size for step in running),
            encoded=self._done.frames + sum(step.encoded for step in running),
            position=self._reached,
        )
        self._on_written(written, max(self._expected, written.frames), self._executor.workers, self._kept_frames)
