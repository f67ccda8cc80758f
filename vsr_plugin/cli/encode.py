"""``vsr encode`` and ``vsr-encode``: enlarge video files and leave everything else in them as it is."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError, VsrError
from ..execution import Execution
from ..models import CLEAN
from ..stream.selection import Selection
from . import values
from .jobs import check_input, check_names, closing_line, find_jobs, find_unsuitable, full_path, if_stopped
from .networks import AUTO, Networks, check_model

if TYPE_CHECKING:
    from ..stream import Encoding, Report
    from ..stream.segments.cluster import Cluster

_USAGE = """Usage: vsr-encode INPUT [OUTPUT] [OPTIONS]

  vsr-encode in.mkv                           # twice as large: in_espcn_x2.mkv
  vsr-encode in.mp4 out.mp4 -m fsrcnn -x 4    # another network, four times
  vsr-encode in.mp4 --height 1080             # 1080 pixels high

`vsr-encode --help` lists all options, `vsr models` the networks."""


def encode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT [OUTPUT]",
            help="A video, a picture, frame_%04d.png, or - for standard input; then where it goes. "
            "With -o FOLDER: any number of inputs and folders.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Network; `vsr models` lists them. auto is the best one that makes --fps here."
        ),
    ] = "espcn",
    scale: Annotated[int | None, values.SCALE] = None,
    width: Annotated[int | None, values.WIDTH] = None,
    height: Annotated[int | None, values.HEIGHT] = None,
    size: Annotated[str | None, values.SIZE] = None,
    fit: Annotated[str | None, values.FIT] = None,
    square_pixels: Annotated[bool, values.SQUARE_PIXELS] = False,
    fps: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="With --model auto: frames per second that it must make. [default: 4, two hours of film in 12]",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="File, frame_%04d.png, - for y4m on standard output, or a folder. "
            "[default: in_espcn_x2.mp4 beside in.mp4]",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "-y", "--overwrite", help="Replace existing files, and older frames that would follow a new image sequence."
        ),
    ] = False,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    tuned_for: values.TunedFor = CLEAN,
    backend: Annotated[
        str | None,
        typer.Option(help="eager, openvino, triton or tensorrt. [default: openvino on the CPU, triton on a GPU]"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [default: a GPU where there is one]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16. [default: the fastest that costs under 0.02 dB]")
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Frames at a time. [default: what fits]")] = None,
    tile: Annotated[str, typer.Option(metavar="auto|N|off", help="Side of a tile in input pixels.")] = "auto",
    cache_dir: Annotated[
        Path | None,
        typer.Option(help="Keep here what a backend compiles. [default: tensorrt in the user's cache, others not]"),
    ] = None,
    reuse: Annotated[
        str,
        typer.Option(
            metavar="auto|off",
            help="Do not compute what did not change since the last frame; the output is the same.",
        ),
    ] = "auto",
    self_ensemble: Annotated[
        bool, typer.Option("--self-ensemble", help="Mean over 8 flips and turns: a little better, 8 times the work.")
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            "-c",
            help="Any encoder of PyAV. "
            "[default: libx264; libx265 above 8 bits. WebM: libvpx-vp9; libsvtav1 above 8 bits]",
        ),
    ] = None,
    crf: Annotated[float | None, typer.Option(help="Quality; less is better. [default: visually lossless]")] = None,
    preset: Annotated[str | None, typer.Option(help="Encoder preset, such as medium or slow.")] = None,
    encoder_option: Annotated[
        list[str] | None, typer.Option("--encoder-option", "-e", metavar="KEY=VALUE", help="Any option of the encoder.")
    ] = None,
    pixel_format: Annotated[
        str | None, typer.Option("--pix-fmt", help="FFmpeg's name. [default: the input's own]")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Begin here: seconds or HH:MM:SS.")] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Encode this much; audio is trimmed to match.")
    ] = None,
    frames: Annotated[int | None, typer.Option("--frames", "-n", min=1, help="Take this many frames at most.")] = None,
    frame_rate: Annotated[
        str | None, typer.Option("--frame-rate", "-r", help="Of image sequences: 25, 30000/1001. [default: 25]")
    ] = None,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Make one frame of every two fields.")] = False,
    matrix: Annotated[
        str | None,
        typer.Option(help="Read YUV by this matrix, whatever the file says: bt601, bt709, bt2020. [default: its tags]"),
    ] = None,
    color_range: Annotated[
        str | None,
        typer.Option("--range", help="Read samples in this range: limited or full. [default: the file's tags]"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep what is done in OUTPUT.parts until the file is whole: after a crash, the same command goes on.",
        ),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="As --resume, but begin anew.")] = False,
    segment: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --resume: how much is done at a time. [default: 20]")
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|gpus",
            help="As --resume, in so many processes; gpus: one on each GPU. Needs Ray.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS", help="As --resume, on a Ray cluster: this machine's, or ray://HOST:10001."
        ),
    ] = None,
    ship: Annotated[
        bool,
        typer.Option("--ship", help="Send the files to the workers, where machines share no folder."),
    ] = False,
    hwaccel: Annotated[str | None, typer.Option(help="Decode on this kind of device, such as cuda.")] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose output exists.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse damaged input, and refuse to drop any stream.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Verbose log; errors with traceback.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A summary for programs on standard output: an object for each file.")
    ] = False,
    version: Annotated[bool, values.VERSION] = False,
) -> None:
    """Enlarge video with a neural network; sound, subtitles, chapters, timestamps and colors stay as they are."""
    from .stop import tell_if_stopped
    from .terminal import console, remedy, say_error, say_result, speak

    if not inputs:
        typer.echo(_USAGE, err=True)
        raise typer.Exit(2)
    executor = _executor(workers, cluster, ship=ship)
    resume = resume or fresh or executor is not None
    if segment is not None and not resume:
        raise UsageError("Expected --segment with --resume, --workers or --cluster, got none of them")
    segment_length = values.segment_seconds(segment or "20")
    times = values.enlargement(scale, width, height, size, fit, square=square_pixels)
    model, tuned_for = values.split_model(model, tuned_for)
    speak(quiet=quiet, verbose=verbose, once=resume or model == AUTO)
    check_model(model, times, weights, tuned_for, fps)
    execution = Execution(
        backend=backend,
        device=device,
        precision=precision,  # type: ignore[arg-type] # a string that Execution checks
        batch=batch,
        tile=values.tile_side(tile),
        self_ensemble=self_ensemble,
        cache_dir=cache_dir,
        reuse=reuse,  # type: ignore[arg-type] # a string that Execution checks
    )
    selection = Selection(
        start=values.parse_time("--start", start),
        duration=values.parse_time("--duration", duration),
        frames=frames,
        frame_rate=values.frame_rate(frame_rate),
        deinterlace=deinterlace,
        hwaccel=hwaccel,
        matrix=matrix,  # type: ignore[arg-type] # names, which Selection knows
        range=color_range,  # type: ignore[arg-type]
    )
    encoder_options = values.encoder_options(encoder_option or [])
    marks = [weights.stem] if weights is not None else [tuned_for] * (tuned_for != CLEAN)
    marks += ["ensemble"] * self_ensemble
    from ..stream.encoder import Encoding
    from ..stream.output import identities

    jobs = find_jobs(inputs, output, model, times, marks)
    if any(target == "-" for _, target in jobs) and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("Standard output is a terminal: send the y4m to a pipe or a file, or name an output")
    if resume:
        from ..stream.segments.manifest import remove_finished

        for _, target in jobs:
            remove_finished(Path(target))
    if skip_existing:
        there = {job for job in jobs if job[1] != "-" and os.path.lexists(job[1])}
        if there and not quiet:
            console().print(f"{len(there)} of {len(jobs)} outputs exist and are skipped", markup=False)
        jobs = [job for job in jobs if job not in there]
    if as_json and any(target == "-" for _, target in jobs):
        raise UsageError("Expected --json or y4m on standard output, got both")
    encoding = Encoding(codec, crf, preset, encoder_options, pixel_format)
    unsuitable = find_unsuitable(jobs, encoding, segments=resume)
    kept = identities(source for source, _ in jobs if source != "-")
    for source, target in jobs:
        if target != "-" and kept & identities([target]):
            raise UsageError(f"{target} is an input, too: name another output for {source}")
    if not jobs:
        return
    if len(jobs) == 1:
        check_names(*jobs[0], kept, overwrite=overwrite)
        check_input(jobs[0][0])

    done = failed = damaged = 0
    with ExitStack() as cleanup:
        networks = cleanup.enter_context(
            closing(Networks(model, times, execution, weights, fps, tuned_for=tuned_for, quiet=quiet))
        )
        if executor is not None:
            cleanup.enter_context(executor)
        encode_one = partial(
            _encode_one,
            networks,
            selection,
            encoding,
            quiet=quiet,
            overwrite=overwrite,
            strict=strict,
            resume=resume,
            fresh=fresh,
            segment_length=segment_length,
            executor=executor,
        )
        for number, (source, target) in enumerate(jobs, start=1):
            try:
                if target in unsuitable:
                    raise unsuitable[target]  # noqa: TRY301 - it is the first that can go wrong with this file
                check_names(source, target, kept, overwrite=overwrite)
                check_input(source)
                tell_if_stopped(partial(if_stopped, target, done, len(jobs), older=identities([target]), kept=resume))
                place = f"{number} of {len(jobs)}: " if len(jobs) > 1 else ""
                report = encode_one(source, target, label=place + Path(source).name)
            except Exception as error:
                if len(jobs) == 1:
                    raise
                failed += 1
                say_error(error)
                if as_json:
                    line = error.message_for(remedy) if isinstance(error, VsrError) else str(error)
                    say_result(json.dumps({"source": full_path(source), "error": line}))
                continue
            kept |= identities([report.output])
            done += 1
            damaged += report.damaged > 0
            if as_json:
                paths = {"source": full_path(source), "target": full_path(target)}
                say_result(json.dumps({**paths, **dataclasses.asdict(report), "fps": round(report.fps, 3)}))
    if len(jobs) > 1 and not quiet:
        console().print(closing_line(len(jobs), done, failed, damaged), markup=False)
    if failed or damaged:
        raise typer.Exit(1)


def _executor(workers: str | None, cluster: str | None, *, ship: bool) -> Cluster | None:
    """What ``--workers``, ``--cluster`` and ``--ship`` ask for."""
    if workers is None and cluster is None:
        if ship:
            raise UsageError("Expected --workers or --cluster with --ship, got neither")
        return None
    from ..stream.segments.cluster import Cluster

    return Cluster(values.workers(workers), values.cluster(cluster), ship=ship)


def _encode_one(
    networks: Networks,
    selection: Selection,
    encoding: Encoding,
    source: str,
    target: str,
    *,
    label: str,
    quiet: bool,
    **how: Any,
) -> Report:
    from .progress import progress
    from .terminal import console, printable

    upscaler = networks.open(source, target, selection, encoding, kept=how["resume"] and not how["fresh"])
    from ..stream import upscale_file

    start = f"compiling {upscaler.spec.name} for {upscaler.backend}"
    with progress(label, "starting workers" if how["executor"] else start, quiet=quiet) as show:
        report = upscale_file(
            source,
            target,
            upscaler,
            selection,
            encoding=encoding,
            on_progress=show,
            **how,
        )
    if not quiet:
        count = f"{report.frames} frame{'s' * (report.frames != 1)}"
        if report.kept:
            count += f", {report.kept} of them from before"
        times = " ".join(f"×{scale}" for scale in report.scales)
        tile = f"tiles of {report.tile}" if report.tile else "whole frames"
        batch = f", batch {report.batch}, {tile}" if report.batch else ""  # workers choose their own
        reused = f", reused {report.reused:.0%}" if report.reused and report.reused >= 0.005 else ""
        names = printable(f"{report.input} → {report.output if report.output != '-' else 'standard output'}")
        width, height = (report.height, report.width) if report.transposed else (report.width, report.height)
        console().print(
            f"{names}: {count}, {width}×{height}, "
            f"{report.codec} {report.pixel_format}, in {report.seconds:.1f} s ({report.fps:.1f} fps; {report.model} "
            f"{times}, {report.backend} on {report.device}, {report.precision}{batch}{reused})",
            markup=False,
        )
    if report.damaged:
        name = printable(report.input)
        places = f"{report.damaged} place{'s' * (report.damaged != 1)}"
        typer.echo(f"Error: {name} is damaged in {places}; what decodes was encoded", err=True)
    return report
