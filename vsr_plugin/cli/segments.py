"""``vsr segments``: show where a film would be cut, and what interrupted jobs have left."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads the annotations when the command is registered
from typing import Annotated, Any

import typer

from ..errors import InputError, OutputError
from .values import frame_rate as parse_rate
from .values import parse_time, segment_seconds


def segments(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The film, or frame_%04d.png.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Output of the job, or its folder. [default: the folder of the film]"),
    ] = None,
    segment: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Length of a segment, as in `vsr encode`. [default: that of an interrupted job, or 20]"
        ),
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="As in `vsr encode`.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="TIME", help="As in `vsr encode`.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", "-n", min=1, help="As in `vsr encode`.")] = None,
    frame_rate: Annotated[str | None, typer.Option("--frame-rate", "-r", help="As in `vsr encode`.")] = None,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="As in `vsr encode`.")] = False,
    hwaccel: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    codec: Annotated[
        str | None, typer.Option("--codec", "-c", help="As in `vsr encode`: some encoders need the whole film.")
    ] = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove what interrupted jobs of this film have left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to standard output.")] = False,
) -> None:
    """Show where `vsr encode --resume` would cut a film, and what interrupted jobs have left."""
    from ..stream.selection import Selection
    from ..stream.sequence import ImageSequence
    from .jobs import check_input
    from .stop import tell_if_stopped
    from .terminal import speak

    speak(quiet=False, verbose=False, once=True)  # the film is opened twice
    if not file.is_file() and ImageSequence.find(file) is None:
        raise InputError(f"No such file: {file}")
    check_input(str(file))
    selection = Selection(
        start=parse_time("--start", start),
        duration=parse_time("--duration", duration),
        frames=frames,
        frame_rate=parse_rate(frame_rate),
        deinterlace=deinterlace,
        hwaccel=hwaccel,
    )
    asked_length = None if segment is None else segment_seconds(segment)
    from ..stream.segments.manifest import jobs_of, parts_folder, read_manifest

    folder = file.parent if output is None else output if output.is_dir() else output.parent
    jobs = jobs_of(file, folder)
    if output is not None and not output.is_dir():
        jobs = [job for job in jobs if job.path == parts_folder(output)]
    if clear:
        tell_if_stopped(str)
        left: list[str] = []
        for job in jobs:
            why = job.remove()
            if why is None:
                typer.echo(f"Removed {job.path}", err=True)
            else:
                left.append(f"{job.path} ({why})")
        if left:
            raise OutputError(f"Cannot remove {', '.join(left)}")
        if not jobs:
            typer.echo(f"Nothing is left of {file.name} in {folder}", err=True)
        return
    from .progress import load_torch

    load_torch()
    from ..stream.encoder import STILL_IMAGES
    from ..stream.encoding import Encoding
    from ..stream.output import default_output
    from ..stream.segments.encoding import obstacle
    from ..stream.segments.job import selection_of
    from ..stream.segments.plan import make_plan

    asked: dict[str, Any] = read_manifest(jobs[0].path)["settings"] if jobs else {}
    length = asked_length or segment_seconds(str(asked.get("seconds of a segment", 20)))
    if jobs and selection == Selection():
        selection = selection_of(asked)
    plan = make_plan(str(file), selection, length)
    result = default_output(file, "", 1) if output is None or output.is_dir() else output
    suffix = result.suffix.lower()
    why = plan.whole or obstacle(".mkv" if suffix in STILL_IMAGES else suffix, Encoding(codec), plan.opening)
    done = [job.done() for job in jobs]
    there = {one for found, _ in done for one in found}
    rows: list[dict[str, Any]] = [
        {
            "number": one.number,
            "start": float((one.first - plan.shift) * plan.time_base),
            "end": None if one.end is None else float((one.end - plan.shift) * plan.time_base),
            "frames": one.frames,
            "done": one in there,
        }
        for one in plan.segments
    ]
    interrupted: list[dict[str, Any]] = [
        {"folder": str(job.path), "done": len(found), "of": count}
        for job, (found, count) in zip(jobs, done, strict=True)
    ]
    if as_json:
        typer.echo(json.dumps({"segments": rows, "one_because": why, "interrupted": interrupted}, indent=1))
        return
    for row in rows:
        end = "the end" if row["end"] is None else f"{row['end']:.3f} s"
        typer.echo(
            f"{row['number']:5}  {row['start']:12.3f} s to {end:>12}  {row['frames']:6} frames{'  done' * row['done']}"
        )
    if why:
        typer.echo(f"This film is not cut, because {why}: if interrupted, it starts over", err=True)
    for row in interrupted:
        typer.echo(f"{row['folder']}: {row['done']} of {row['of']} segments are done", err=True)
