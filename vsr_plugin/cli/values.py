"""Parse the values of options: times, rates, sizes, sides of tiles."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Annotated, Literal, cast

import typer

from ..errors import UsageError
from ..sizes import Fit, Size

SCALE = typer.Option("--scale", "-x", help="Scale; `vsr models` lists those of each network. [default: 2]")
WIDTH = typer.Option("--width", min=1, help="Width of the output, instead of -x; the height keeps the shape.")
HEIGHT = typer.Option("--height", min=1, help="Height of the output, instead of -x, such as 1080.")
SIZE = typer.Option(
    "--size", metavar="WxH", help="Size that the frame is fitted into, instead of -x, such as 1920x1080."
)
FIT = typer.Option(
    "--fit",
    metavar="inside|cover|stretch",
    help="With --size: inside keeps the shape (one side may be smaller), cover fills the size and crops the rest, "
    "stretch changes the shape. [default: inside]",
)
SQUARE_PIXELS = typer.Option("--square-pixels", help="With a size: make the pixels of anamorphic video square.")

TunedFor = Annotated[
    str,
    typer.Option(
        metavar="clean|video",
        help="Weights for clean input, or for video that has been compressed; `vsr models` lists them.",
    ),
]


def print_version() -> None:
    """Print the version."""
    from .. import __version__

    typer.echo(f"vsr_plugin {__version__}")


def _stop_after_version(asked: bool) -> None:
    if asked:
        print_version()
        raise typer.Exit


VERSION = typer.Option("--version", help="Print the version.", callback=_stop_after_version, is_eager=True)


def complete_model(begun: str) -> list[str]:
    """The models for a shell's completion: those that have weights and begin with what is typed."""
    from ..models.guide import usable

    return [name for name in usable() if name.startswith(begun)]


def split_model(name: str, tuned_for: str) -> tuple[str, str]:
    """Split ``espcn:video`` into a model and what its weights are tuned for, as by ``--tuned-for video``."""
    model, colon, kind = name.partition(":")
    return (model, kind) if colon else (name, tuned_for)


def encoder_options(pairs: list[str]) -> dict[str, str]:
    """Parse the values of ``--encoder-option``."""
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"Expected --encoder-option KEY=VALUE, got {pair!r}")
        options[key] = value
    return options


def parse_time(name: str, text: str | None) -> Fraction | None:
    """Parse seconds, MM:SS or HH:MM:SS, with decimals, exactly."""
    if text is None:
        return None
    try:
        parts = [Fraction(part) for part in text.split(":")]
    except (ValueError, ZeroDivisionError):
        parts = []
    if not 1 <= len(parts) <= 3 or any(part < 0 for part in parts):
        raise UsageError(f"Expected {name} as seconds or HH:MM:SS, got {text!r}")
    total = Fraction(0)
    for part in parts:
        total = total * 60 + part
    return total


def segment_seconds(text: str) -> Fraction:
    """Parse ``--segment``, in seconds."""
    found = parse_time("--segment", text)
    if not found:
        raise UsageError(f"Expected --segment above 0, got {text!r}")
    return found


def frame_rate(text: str | None) -> Fraction | None:
    """Parse ``--frame-rate``."""
    if text is None:
        return None
    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise UsageError(f"Expected --frame-rate as 25 or 30000/1001, got {text!r}")
    return rate


def tile_side(text: str) -> int | Literal["auto", "off"]:
    """Parse ``--tile``."""
    if text == "auto":
        return "auto"
    if text == "off":
        return "off"
    if not text.isdigit():
        raise UsageError(f"Expected --tile auto, off or a number of pixels, got {text!r}")
    return int(text)


def workers(text: str | None) -> int | Literal["gpus"] | None:
    """Parse ``--workers``."""
    if text is None:
        return None
    if text == "gpus":
        return "gpus"
    if not (text.isdecimal() and int(text)):
        raise UsageError(f"Expected --workers as a number of 1 or more, or gpus, got {text!r}")
    return int(text)


def cluster(text: str | None) -> str | None:
    """Check ``--cluster``."""
    if text is None or text == "auto" or re.fullmatch(r"(ray://)?[^/\s]+:\d+", text):
        return text
    raise UsageError(f"Expected --cluster auto, ray://HOST:10001 or HOST:6379, got {text!r}")


def enlargement_flags(times: int | Size) -> dict[str, object]:
    """The options of the command line for a scale or a size."""
    if isinstance(times, int):
        return {"-x": times}
    both = None not in (times.width, times.height)
    return {
        "--size": str(times) if both else None,
        "--width": None if both else times.width,
        "--height": None if both else times.height,
        "--fit": times.fit if times.fit != "inside" else None,
        "--square-pixels": times.square_pixels,
    }


def enlargement(
    scale: int | None, width: int | None, height: int | None, size: str | None, fit: str | None, *, square: bool
) -> int | Size:
    """Scale by ``--scale``, or size by ``--width``, ``--height``, ``--size``, ``--fit`` and ``--square-pixels``."""
    sides = {"--width": width, "--height": height, "--size": size}
    given = [flag for flag, side in sides.items() if side is not None]
    extra = [flag for flag, told in (("--fit", fit is not None), ("--square-pixels", square)) if told]
    if not given:
        if extra:
            raise UsageError(f"Expected {extra[0]} with --height, --width or --size, got none of them")
        return 2 if scale is None else scale
    if scale is not None:
        raise UsageError(f"Expected -x or {given[0]}, got both: the size says how much larger, too")
    if size is not None:
        if len(given) > 1:
            raise UsageError(f"Expected --size or {given[0]}, got both")
        left, times, right = size.lower().replace("×", "x").partition("x")
        if not (times and left.isdecimal() and right.isdecimal()):
            raise UsageError(f"Expected --size as WIDTHxHEIGHT, such as 1920x1080, got {size!r}")
        width, height = int(left), int(right)
    return Size(width=width, height=height, fit=cast("Fit", fit or "inside"), square_pixels=square)


def frame_size(text: str) -> tuple[int, int]:
    """Parse ``--size`` of a benchmark, in pixels."""
    found = re.fullmatch(r"(\d+)[x×](\d+)", text)
    if found is None:
        raise UsageError(f"Expected --size as 480x270, got {text!r}")
    width, height = int(found.group(1)), int(found.group(2))
    if min(width, height) < 16 or width % 2 or height % 2:
        raise UsageError(f"Expected an even --size of 16x16 or more, for 4:2:0 video, got {text!r}")
    return width, height
