"""``vsr preview`` and ``vsr-preview``: play a clip enlarged by a network, next to bicubic."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..driver import check_device_here
from ..errors import BackendError, InputError, UsageError
from ..execution import Execution
from ..installation import install
from ..models import CLEAN, check_tuning, check_weights_file, find_model, shipped_weights
from ..preview import KEYS
from ..preview.stages import Look
from ..sizes import Size
from ..stream.selection import Selection
from . import values
from .jobs import check_input
from .stop import tell_if_stopped
from .values import TunedFor  # noqa: TC001 - typer reads the annotations when the command is registered

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

_AUTO = "auto"
_HOST, _PORT = "127.0.0.1", 8470


def preview(
    clip: Annotated[
        str,
        typer.Argument(metavar="CLIP", help="A video, an image, or a camera such as /dev/video0.", show_default=False),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Network; `vsr models` lists them. auto takes the best one that keeps up on this machine.",
            autocompletion=values.complete_model,
        ),
    ] = "espcn",
    scale: Annotated[int | None, values.SCALE] = None,
    width: Annotated[int | None, values.WIDTH] = None,
    height: Annotated[int | None, values.HEIGHT] = None,
    size: Annotated[str | None, values.SIZE] = None,
    fit: Annotated[str | None, values.FIT] = None,
    square_pixels: Annotated[bool, values.SQUARE_PIXELS] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Serve a web page instead of opening a window.")] = False,
    host: Annotated[
        str,
        typer.Option(help="Address to serve the page on; other than loopback, viewers need the token that is printed."),
    ] = _HOST,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve the page on; 0 for a free one.")] = _PORT,
    start: Annotated[str | None, typer.Option(metavar="TIME", help="Start here: seconds or HH:MM:SS.")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    form: Annotated[
        str | None,
        typer.Option("--format", help="Input format, by FFmpeg's name, if CLIP does not tell: v4l2, x11grab, lavfi."),
    ] = None,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="Make one frame of every two fields.")] = False,
    matrix: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    color_range: Annotated[str | None, typer.Option("--range", help="As in `vsr encode`.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    tuned_for: TunedFor = CLEAN,
    backend: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    device: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    precision: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    cache_dir: Annotated[Path | None, typer.Option(help="As in `vsr encode`.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print a detailed log.")] = False,
    version: Annotated[bool, values.VERSION] = False,
) -> None:
    """Play a clip enlarged by a network, next to bicubic."""
    from .terminal import speak

    speak(quiet=False, verbose=verbose, once=True)
    times = values.enlargement(scale, width, height, size, fit, square=square_pixels)
    model, tuned_for = values.split_model(model, tuned_for)
    if model != _AUTO:
        find_model(model, times if isinstance(times, int) else None)
    elif weights is not None:
        raise UsageError("Expected --weights with the model they are for, got --model auto")
    check_tuning(tuned_for, weights)
    if weights is not None:
        check_weights_file(weights)
    quantized = precision == "int8"
    if ((quantized and weights is None) or tuned_for != CLEAN) and model != _AUTO:
        spec = find_model(model)
        there = [one for one in spec.scales if spec.weights(one, tuned_for, quantized=quantized)] or spec.scales
        shipped_weights(spec, times if isinstance(times, int) else there[0], tuned_for, quantized=quantized)
    execution = Execution(
        backend=backend,
        device=device,
        precision=precision,  # type: ignore[arg-type] # a string that Execution checks
        cache_dir=cache_dir,
    )
    check_device_here(device, backend)
    selection = Selection(
        deinterlace=deinterlace,
        matrix=matrix,  # type: ignore[arg-type] # names, which Selection knows
        range=color_range,  # type: ignore[arg-type]
    )
    if not serve and (host, port) != (_HOST, _PORT):
        raise UsageError("Expected --host and --port with --serve, got no --serve")
    moment = float(values.parse_time("--start", start) or 0)
    if clip == "-":
        raise UsageError("Expected a file or a camera, got standard input: write what comes there to a file first")
    if "://" not in clip and form is None and not Path(clip).exists() and "%" not in clip:
        raise InputError(f"No such file: {clip}")
    try:
        from ..preview.addresses import check_address
        from ..preview.window import check_display, show
        from ..stream.input import check_format

        if serve:
            check_address(host, port)
        else:
            check_display()
        if form is None:
            check_input(clip)
        else:
            check_format(form)
        from .progress import load_torch

        load_torch()
        from ..preview.clips import open_clip
        from ..preview.networks import Networks
        from ..preview.player import Player
    except ImportError as error:
        raise BackendError(f"The preview needs OpenCV 5: {install('preview')}") from error
    if serve:
        from ..preview.server import serve as serve_page
    asked = times if isinstance(times, Size) else None
    networks = Networks(weights=weights, own=model, tuned_for=tuned_for, execution=execution, size=asked)
    source = open_clip(clip, form, selection)
    if asked is not None and asked.squares:
        source.pixel_aspect = 1.0
    if model == _AUTO:
        _log.info("measuring which network keeps up with %s here …", source.name)
        chosen = networks.best(source, times)
        _log.info("%s", chosen.reason(source.frame_rate or 25.0))
        model = chosen.model
    _log.info("opening %s for %s …", Look(model, times), source.name)

    def command(model: str, scale: int | Size) -> str:
        """The command that encodes the clip as shown; empty for live sources and with ``--format``."""
        if source.live or form is not None:
            return ""
        return encode_command(
            clip,
            {
                "-m": model,
                **values.enlargement_flags(scale),
                "--weights": weights if model == networks.own else None,
                "--tuned-for": None if tuned_for == CLEAN else tuned_for,
                "--backend": backend,
                "--device": device,
                "--precision": precision,
                "--cache-dir": cache_dir,
                "--deinterlace": deinterlace,
                "--matrix": matrix,
                "--range": color_range,
            },
        )

    tell_if_stopped(str)
    with Player(source, networks, model, times, position=moment, paused=serve, loop=loop, command=command) as player:
        if serve:
            serve_page(player, host, port, lambda url: print(url, file=sys.stderr))  # noqa: T201 - for a human to open
        else:
            show(player, folder=Path.cwd())


def encode_command(clip: str, options: Mapping[str, object]) -> str:
    """The vsr-encode command with these options; those that are None or False are left out, True is a flag."""
    given = [
        str(word)
        for name, value in options.items()
        if value not in (None, False)
        for word in ([name] if value is True else [name, value])
    ]
    return shlex.join(["vsr-encode", clip, *given])


preview.__doc__ = f"{preview.__doc__}\n\n    \b\n    " + "\n    ".join(f"{key:8}{what}" for key, what in KEYS.items())
