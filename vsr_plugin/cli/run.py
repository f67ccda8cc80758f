"""`Run`: enlarge one file after another, and report on each."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import OutputError, UsageError, VsrError
from .jobs import check_input, check_names, closing_line, find_unsuitable, full_path, if_stopped
from .stop import tell_if_stopped
from .terminal import console, printable, remedy, say_error, say_result

if TYPE_CHECKING:
    from fractions import Fraction

    from ..stream import Encoding, Report, Selection
    from ..stream.segments.cluster import Cluster
    from .networks import Networks


@dataclass(slots=True)
class Run:
    """Encodes the files of one command, all with the same settings.

    Args:
        networks: Opens the network of each file.
        selection: Which frames, and how they are decoded.
        encoding: How to encode.
        overwrite: Replace existing files.
        strict: Refuse damaged input, and refuse to drop any stream.
        resume: Make the files in segments, which are kept until the file is whole.
        fresh: Drop segments that an earlier run has left.
        segment_length: Length of a segment in seconds.
        executor: Makes the segments elsewhere; None for this process.
        quiet: Print only errors.
        as_json: Print a line for programs for each file.
        several: Whether the command names several files, even if only one is left: an error does not end the run.
    """

    networks: Networks
    selection: Selection
    encoding: Encoding
    overwrite: bool
    strict: bool
    resume: bool
    fresh: bool
    segment_length: Fraction
    executor: Cluster | None
    quiet: bool
    as_json: bool
    several: bool
    _unsuitable: dict[str, VsrError] = field(default_factory=dict, init=False)
    _kept: set[tuple[int, int]] = field(default_factory=set, init=False)  # files that no job may replace

    def check(self, jobs: list[tuple[str, str]]) -> None:
        """Check the files before torch is loaded.

        Raises:
            VsrError: no job can be done, or one would replace the input of another.
        """
        from ..stream.output import identities

        self._unsuitable = find_unsuitable(jobs, self.encoding, segments=self.resume)
        self._kept = identities(source for source, _ in jobs if source != "-")
        for source, target in jobs:
            if target != "-" and self._kept & identities([target]):
                raise UsageError(f"{target} is an input, too: name another output for {source}")
        if jobs and not self.several:
            self._check_names(*jobs[0])
            check_input(jobs[0][0], *self.networks.size)

    def encode(self, jobs: list[tuple[str, str]]) -> bool:
        """Encode the files that `check` has checked; False if one of them failed or is damaged.

        Raises:
            VsrError: the only job cannot be done; with several, the error is printed, and the next job begins.
        """
        from ..stream.output import identities

        done = failed = damaged = 0
        for number, (source, target) in enumerate(jobs, start=1):
            try:
                if target in self._unsuitable:
                    raise self._unsuitable[target]  # noqa: TRY301 - handled as any error with this file
                self._check_names(source, target)
                check_input(source)
                older = identities([target])
                changed = " with --skip-existing" * (len(jobs) > 1)
                again = f"the same command{' without --fresh' * self.fresh}{changed}" if self.resume else ""
                tell_if_stopped(partial(if_stopped, target, done, len(jobs), older=older, again=again))
                place = f"{number} of {len(jobs)}: " if len(jobs) > 1 else ""
                report = self._encode(source, target, label=place + _name(source))
            except Exception as error:
                if not self.several:
                    raise
                failed += 1
                say_error(error, of=source)
                if self.as_json:
                    line = error.message_for(remedy) if isinstance(error, VsrError) else str(error)
                    say_result(json.dumps({"source": full_path(source), "error": line}))
                continue
            self._kept |= identities([report.output])
            done += 1
            damaged += report.damaged > 0
            self._say(report, source, target)
        if self.several and jobs and not self.quiet:
            console().print(closing_line(len(jobs), done, failed, damaged), markup=False)
        return not failed and not damaged

    def _check_names(self, source: str, target: str) -> None:
        """As `check_names`; a complete output may exist if an interrupted run has left its segments."""
        finished = False
        if self.resume and not self.fresh:
            from ..stream.segments.manifest import is_finished

            finished = is_finished(Path(target))
        check_names(source, target, self._kept, overwrite=self.overwrite or finished)

    def _encode(self, source: str, target: str, *, label: str) -> Report:
        from .progress import progress

        kept = self.resume and not self.fresh
        upscaler = self.networks.open(source, target, self.selection, self.encoding, kept=kept)
        from ..stream import upscale_file
        from ..stream.segments.manifest import parts_folder, read_manifest

        left = parts_folder(Path(target))
        there = False
        with suppress(OutputError):  # it cannot be read, and is not used
            there = bool(read_manifest(left))
        if there and not self.resume and not self.quiet:
            text = "is left of an interrupted job: --resume goes on with it, `vsr segments INPUT --clear` removes it"
            console().print(f"{printable(str(left))} {text}", markup=False)
        start = f"compiling {upscaler.spec.name} for {upscaler.backend}"
        with progress(label, "starting workers" if self.executor else start, quiet=self.quiet) as show:
            return upscale_file(
                source,
                target,
                upscaler,
                self.selection,
                encoding=self.encoding,
                overwrite=self.overwrite,
                strict=self.strict,
                resume=self.resume,
                fresh=self.fresh,
                segment_length=self.segment_length,
                executor=self.executor,
                on_progress=show,
            )

    def _say(self, report: Report, source: str, target: str) -> None:
        if not self.quiet:
            console().print(_summary(report), markup=False)
        if report.damaged:
            places = f"{report.damaged} place{'s' * (report.damaged != 1)}"
            typer.echo(f"Error: {printable(report.input)} is damaged in {places}; what decodes was encoded", err=True)
        if self.as_json:
            paths = {"source": full_path(source), "target": full_path(target)}
            say_result(json.dumps({**paths, **dataclasses.asdict(report), "fps": round(report.fps, 3)}))


def _name(source: str) -> str:
    """The name of a file beside a progress bar."""
    return "standard input" if source == "-" else Path(source).name


def _summary(report: Report) -> str:
    """A line on what was made of a file, how, and how fast."""
    count = f"{report.frames} frame{'s' * (report.frames != 1)}"
    if report.kept:
        count += f", {report.kept} of them from before"
    times = " ".join(f"×{scale}" for scale in report.scales)
    tile = f"tiles of {report.tile}" if report.tile else "whole frames"
    batch = f", batch {report.batch}, {tile}" if report.batch else ""  # workers choose their own
    reused = f", reused {report.reused:.0%}" if report.reused and report.reused >= 0.005 else ""
    names = printable(f"{report.input} → {report.output if report.output != '-' else 'standard output'}")
    width, height = (report.height, report.width) if report.transposed else (report.width, report.height)
    return (
        f"{names}: {count}, {width}×{height}, "
        f"{report.codec} {report.pixel_format}, in {report.seconds:.1f} s ({report.fps:.1f} fps; {report.model} "
        f"{times}, {report.backend} on {report.device}, {report.precision}{batch}{reused})"
    )
