"""``vsr encode`` and ``vsr-encode``: enlarge video files and leave everything else in them as it is."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..driver import check_device_here, why_no_gpu
from ..errors import UsageError
from ..execution import Execution
from ..models import CLEAN
from ..stream.selection import Selection
from . import values
from .jobs import check_stdout, find_jobs, skip_finished
from .networks import AUTO, Networks, check_model

if TYPE_CHECKING:
    from ..stream.segments.cluster import Cluster

_USAGE = """Usage: vsr-encode INPUT [OUTPUT] [OPTIONS]

  vsr-encode in.mkv                           # twice as large: in_espcn_x2.mkv
  vsr-encode in.mp4 out.mp4 -m fsrcnn -x 4    # another network, four times as large
  vsr-encode in.mp4 --height 1080             # 1080 pixels high

`vsr-encode --help` lists all options, `vsr models` the networks."""


def encode(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT [OUTPUT]",
            help="A video, an image, frame_%04d.png, or - for standard input; then the output. "
            "With -o FOLDER: any number of files and folders.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Network; `vsr models` lists them. auto takes the best one that reaches --fps on this machine.",
            autocompletion=values.complete_model,
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
            help="With --model auto: frames per second to reach. [default: 4: a film of 2 hours takes 12]",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="A file, a folder, frame_%04d.png, or - for y4m on standard output. "
            "[default: in_espcn_x2.mp4 next to in.mp4]",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "-y",
            "--overwrite",
            help="Overwrite existing files, and older frames that would follow a new image sequence.",
        ),
    ] = False,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    tuned_for: values.TunedFor = CLEAN,
    backend: Annotated[
        str | None,
        typer.Option(help="eager, openvino, triton or tensorrt. [default: openvino on the CPU, triton on a GPU]"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [default: a GPU if there is one]")] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16, float16 or int8. [default: the fastest that costs little quality]"),
    ] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Frames at a time. [default: as many as fit]")] = None,
    tile: Annotated[
        str, typer.Option(metavar="auto|N|off", help="Side of the tiles in input pixels; off: whole frames.")
    ] = "auto",
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder to keep compiled networks in. [default: for engines and graphs, that of VSR_CACHE_DIR, or the "
            "user's cache folder]"
        ),
    ] = None,
    reuse: Annotated[
        str,
        typer.Option(
            metavar="auto|off",
            help="Do not compute again what is unchanged since the last frame; the output is the same.",
        ),
    ] = "auto",
    self_ensemble: Annotated[
        bool,
        typer.Option("--self-ensemble", help="Average over 8 flips and rotations: slightly better, 8 times the work."),
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            "-c",
            help="Any FFmpeg encoder. "
            "[default: libx264; libx265 above 8 bits. WebM: libvpx-vp9; libsvtav1 above 8 bits]",
        ),
    ] = None,
    crf: Annotated[float | None, typer.Option(help="Quality; lower is better. [default: visually lossless]")] = None,
    preset: Annotated[str | None, typer.Option(help="Encoder preset, such as medium or slow.")] = None,
    encoder_option: Annotated[
        list[str] | None,
        typer.Option("--encoder-option", "-e", metavar="KEY=VALUE", help="Any option of the encoder; repeatable."),
    ] = None,
    pixel_format: Annotated[
        str | None, typer.Option("--pix-fmt", help="Pixel format, by FFmpeg's name. [default: that of the input]")
    ] = None,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Start here: seconds or HH:MM:SS.")] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Encode only this much; audio is cut to match.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", "-n", min=1, help="Encode at most this many frames.")
    ] = None,
    frame_rate: Annotated[
        str | None, typer.Option("--frame-rate", "-r", help="Of an image sequence, such as 30000/1001. [default: 25]")
    ] = None,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Make one frame of every two fields.")] = False,
    matrix: Annotated[
        str | None,
        typer.Option(
            help="Color matrix of the input, if its tags are wrong or missing: bt601, bt709, … [default: its tags]"
        ),
    ] = None,
    color_range: Annotated[
        str | None,
        typer.Option(
            "--range", help="Range of the input, if its tags are wrong or missing: limited or full. [default: its tags]"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Keep finished segments in OUTPUT.parts: after a crash, the same command continues from there.",
        ),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Like --resume, but start over.")] = False,
    segment: Annotated[
        str | None, typer.Option(metavar="TIME", help="With --resume: length of a segment. [default: 20 seconds]")
    ] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            metavar="N|gpus",
            help="Like --resume, in N processes, or one on each GPU. Needs Ray.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS", help="Like --resume, on a Ray cluster: that of this machine, or ray://HOST:10001."
        ),
    ] = None,
    ship: Annotated[
        bool,
        typer.Option("--ship", help="Send the film to the workers in pieces, if the machines share no folder."),
    ] = False,
    hwaccel: Annotated[str | None, typer.Option(help="Decode on a device of this kind, such as cuda.")] = None,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Skip inputs whose output exists.")] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Fail if the input is damaged, or if the output cannot hold one of its streams."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print a detailed log, and the traceback of an error.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each file to standard output.")
    ] = False,
    version: Annotated[bool, values.VERSION] = False,
) -> None:
    """Enlarge video with a neural network. Audio, subtitles, chapters, timestamps and colors stay as they are."""
    from .run import Run
    from .terminal import speak

    if not inputs:
        typer.echo(_USAGE, err=True)
        raise typer.Exit(2)
    executor = _executor(workers, cluster, device, ship=ship)
    resume = resume or fresh or executor is not None
    if segment is not None and not resume:
        raise UsageError("Expected --segment with --resume, --workers or --cluster, got none of them")
    segment_length = values.segment_seconds(segment or "20")
    times = values.enlargement(scale, width, height, size, fit, square=square_pixels)
    model, tuned_for = values.split_model(model, tuned_for)
    speak(quiet=quiet, verbose=verbose, once=resume or model == AUTO)
    check_model(model, times, weights, tuned_for, fps, quantized=precision == "int8")
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
    check_device_here(device, backend)
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
    from ..stream.encoding import Encoding

    jobs = find_jobs(inputs, output, model, times, marks)
    check_stdout(jobs, as_json=as_json)
    if resume:
        from ..stream.segments.manifest import is_finished, remove_finished

        for target in [Path(target) for _, target in jobs]:
            if skip_existing or fresh or not is_finished(target):  # else reported once the settings are known
                remove_finished(target)
    several = len(jobs) > 1
    if skip_existing:
        jobs = skip_finished(jobs, quiet=quiet)
    with ExitStack() as cleanup:
        networks = Networks(model, times, execution, weights, fps, tuned_for=tuned_for, quiet=quiet)
        cleanup.callback(networks.close)
        run = Run(
            networks,
            selection,
            Encoding(codec, crf, preset, encoder_options, pixel_format),
            overwrite=overwrite,
            strict=strict,
            resume=resume,
            fresh=fresh,
            segment_length=segment_length,
            executor=executor,
            quiet=quiet,
            as_json=as_json,
            several=several,
        )
        run.check(jobs)
        if executor is not None and jobs:
            cleanup.enter_context(executor)
        whole = run.encode(jobs)
    if not whole:
        raise typer.Exit(1)


def _executor(workers: str | None, cluster: str | None, device: str | None, *, ship: bool) -> Cluster | None:
    """The cluster that ``--workers``, ``--cluster`` and ``--ship`` ask for, checked against ``--device``."""
    if workers is None and cluster is None:
        if ship:
            raise UsageError("Expected --workers or --cluster with --ship, got neither")
        return None
    count, address = values.workers(workers), values.cluster(cluster)
    if count == "gpus":
        if device == "cpu":
            raise UsageError("Expected --workers as a number with --device cpu, got gpus")
        if (why := why_no_gpu()) is not None:
            raise UsageError(f"Expected --workers as a number, got gpus, and {why}")
    from ..stream.segments.cluster import Cluster

    return Cluster(count, address, ship=ship)
