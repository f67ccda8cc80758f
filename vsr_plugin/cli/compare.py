"""``vsr compare``: models beside each other on parts of an image or a video, to choose by eye."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import typer

from ..driver import check_device_here
from ..errors import InputError, UsageError
from ..execution import Execution
from ..models import CLEAN, check_tuning, find_model, shipped_weights
from .jobs import check_input
from .values import parse_time

_SECONDS = Fraction(5)
_PAGES = {".html", ".htm"}


def compare(
    clip: Annotated[str, typer.Argument(metavar="CLIP", help="An image or a video.", show_default=False)],
    models: Annotated[
        str,
        typer.Option(
            "--models",
            "-m",
            metavar="A,B,…",
            help="Networks; `vsr models` lists them. NAME:video takes the weights for compressed video, NAME=FILE "
            "your own weights, NAME+ is with --self-ensemble.",
        ),
    ] = "espcn",
    scale: Annotated[int, typer.Option("--scale", "-x", help="Scale that all of them have.")] = 2,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Moment to show: seconds or HH:MM:SS. [default: four of them, or the middle]"
        ),
    ] = None,
    duration: Annotated[
        str | None, typer.Option(metavar="TIME", help="Length of a video. [default: 5 seconds]")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="WxH+X+Y", help="Part to show, in pixels of CLIP. [default: the one with the most detail]"
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A page, an image or a video. [default: in_compare_x3.html next to in.mp4]"
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Overwrite existing files.")] = False,
    deinterlace: Annotated[bool, typer.Option("--deinterlace", help="As in `vsr encode`.")] = False,
    matrix: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    color_range: Annotated[str | None, typer.Option("--range", help="As in `vsr encode`.")] = None,
    backend: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
    device: Annotated[str | None, typer.Option(help="As in `vsr encode`.")] = None,
) -> None:
    """Write a web page that compares bicubic, Lanczos and several networks on an image or a video, under a slider.

    The page is one file that works offline, and says how long each network would take. With -o in.png, one part is
    written side by side as an image, bicubic first; with -o in.mp4, as a video. The path of the result goes to stdout.
    """
    from ..stream import Encoding, Selection
    from ..stream.encoder import STILL_IMAGES, check_encoding
    from ..stream.output import check_output
    from .progress import load_torch, progress, waiting
    from .stop import tell_if_stopped
    from .terminal import printable, speak

    speak(quiet=False, verbose=False, once=True)
    words = [_candidate(word, scale) for word in models.split(",")]
    box = _crop(crop)
    execution = Execution(backend=backend, device=device)
    check_device_here(device, backend)
    selection = Selection(
        deinterlace=deinterlace,
        matrix=matrix,  # type: ignore[arg-type] # names, which Selection knows
        range=color_range,  # type: ignore[arg-type]
    )
    moment, length = parse_time("--at", at), parse_time("--duration", duration)
    if not Path(clip).exists():
        raise InputError(f"No such file: {clip}")
    check_input(clip)
    path = Path(clip)
    target = output or path.with_name(f"{path.stem}_compare_x{scale}.html")
    check_output(target, clip, overwrite=overwrite)
    suffix = target.suffix.lower()
    still = suffix in _PAGES or suffix in STILL_IMAGES
    if length is not None and still:
        raise UsageError(f"Expected --duration with a video, got {target}")
    if not still:
        check_encoding(suffix, Encoding())

    tell_if_stopped(lambda: f"{printable(str(target))} was not finished, and nothing of it is left")
    load_torch()
    from ..compare import Candidate, Crop, compare_on_a_page
    from ..compare import compare as write

    candidates = [Candidate(*word) for word in words]
    part = None if box is None else Crop(*box)
    if suffix in _PAGES:
        with waiting(f"loading {models}") as wait:
            page = compare_on_a_page(
                clip,
                target,
                candidates,
                scale,
                at=moment,
                crop=part,
                selection=selection,
                execution=execution,
                overwrite=overwrite,
                on_step=wait.say,
            )
        typer.echo(page)
        return
    if length is None and not still:
        length = _SECONDS
    with progress(path.name, f"loading {models}", quiet=False) as show:
        shown = write(
            clip,
            target,
            candidates,
            scale,
            at=moment,
            duration=length,
            crop=part,
            selection=selection,
            execution=execution,
            overwrite=overwrite,
            on_progress=show,
        )
    if part is None:
        typer.echo(f"Cropped to the part with the most detail: --crop {shown}", err=True)
    typer.echo(target)


def _candidate(word: str, scale: int) -> tuple[str, Path | None, bool, str]:
    """The arguments of a `Candidate`, checked before torch is loaded."""
    name, equals, weights = word.strip().partition("=")
    model, _, tuned_for = name.removesuffix("+").partition(":")
    spec = find_model(model, scale)
    if equals and not weights:
        raise UsageError(f"Expected --models NAME=FILE, got {word!r}")
    tuned_for = tuned_for or CLEAN
    check_tuning(tuned_for, weights or None)
    if not weights:
        shipped_weights(spec, scale, tuned_for)
    return model, Path(weights) if weights else None, name.endswith("+"), tuned_for


def _crop(text: str | None) -> tuple[int, int, int, int] | None:
    """The arguments of a `Crop`."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)[x×](\d+)\+(\d+)\+(\d+)", text)
    width, height, x, y = (int(part) for part in found.groups()) if found else (0, 0, 0, 0)
    if min(width, height) < 8:
        raise UsageError(f"Expected --crop as 160x120+40+32, of 8x8 or more, got {text!r}")
    return width, height, x, y
