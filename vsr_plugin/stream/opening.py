"""Opens containers and encoders with their options, or raises one error that says what they refuse and why."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError

from ..arguments import meant
from ..errors import OutputError, UsageError
from .ffmpeg_log import captured

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from av.container import OutputContainer

# Each encoder takes one of them: most take the first, H.263 the second, DNxHD the third.
_TRIED_SIZES = ((320, 192), (352, 288), (1920, 1080))
_COMPLAINT = re.compile(r"(unknown|invalid|error parsing|bad).*(option|value|param)", re.IGNORECASE)
_UNPARSED = re.compile(
    r"Unable to parse .* option|Error setting option"
)  # FFmpeg's own messages, logged before it opens the encoder
_UNBOUNDED = 2**31 - 1  # the limit of an integer, which is none of the option's own
_THREADS = Path("/proc/self/task")
_OF_SIZE = re.compile(r"width|height|\bsize|dimension|resolution", re.IGNORECASE)


class WrongOptionError(UsageError):
    """A value that an encoder cannot parse."""


def open_container(
    file: Any, name: str, kind: str | None = None, options: dict[str, str] | None = None
) -> OutputContainer:
    """Open an output.

    Args:
        file: A name or a file, as PyAV takes it.
        name: Name of the output, for messages.
        kind: FFmpeg's name of the container. [default: by the file's name]
        options: Options of its muxer.

    Raises:
        OutputError: FFmpeg knows no container of this name.
    """
    try:
        return av.open(file, "w", format=kind, container_options=options or {})
    except (FFmpegError, ValueError) as error:
        raise OutputError(
            f"Cannot write {name}: expected a name that ends in .mp4, .mkv, .mov, .webm, .png, …"
        ) from error


def add_stream(output: OutputContainer, codec: str, rate: Fraction, options: dict[str, str]) -> Any:
    """Add a video stream for an encoder that is not open yet.

    Raises:
        OutputError: the container cannot contain its codec.
    """
    try:
        return output.add_stream(codec, rate=rate, options=options)
    except ValueError as error:
        raise not_listed(codec, output) from error


def not_listed(codec: str, output: OutputContainer) -> OutputError:
    """Return the error for a container that cannot contain an encoder's codec."""
    return OutputError(f"FFmpeg does not list {codec} for {output.format.name} files", output=..., codec=...)


def open_encoder(context: Any, codec: str, options: Mapping[str, str]) -> None:
    """Open an encoder.

    Args:
        context: Its codec context, with size, pixel format and time base.
        codec: Its name.
        options: All options; any that the encoder does not use, or complains about, is an error.

    Raises:
        UsageError: the encoder does not know or take an option or a value.
        OutputError: the encoder takes the options, but not frames of this size.
    """
    said = _open(context, codec, options)
    if said is None:
        return
    elsewhere = refusal(codec, context.pix_fmt, options, context.time_base, context.framerate)
    size = f"{context.width}×{context.height} {context.pix_fmt}"
    if elsewhere is None:
        why = next((f" ({line})" for line in said if _OF_SIZE.search(line)), "")
        raise OutputError(f"Encoder {codec} cannot take {size}{why}", codec=..., scale=...)
    raise UsageError(f"Encoder {codec} refuses {size} with {_words(options, said)}")


def refusal(
    codec: str,
    pixel_format: str,
    options: Mapping[str, str],
    time_base: Fraction = Fraction(1, 25),
    frame_rate: Fraction | None = Fraction(25),
) -> UsageError | None:
    """Why an encoder refuses these options at each of several sizes; None if it takes them at one.

    Args:
        codec: Name of the encoder.
        pixel_format: FFmpeg's name.
        options: All options.
        time_base: Time base of its timestamps.
        frame_rate: Average frame rate.
    """
    refused = None
    for size in _TRIED_SIZES:
        try:
            said = _try(codec, pixel_format, options, size, time_base, frame_rate)
        except UsageError as error:
            return error
        if said is None:
            return None
        refused = refused or UsageError(f"Encoder {codec} refuses {pixel_format} with {_words(options, said)}")
    return refused


def taken_size(codec: str, pixel_format: str, options: Mapping[str, str]) -> tuple[int, int] | None:
    """Return the first of several sizes at which an encoder takes these options; None if there is none."""
    with suppress(UsageError):
        return next((size for size in _TRIED_SIZES if _try(codec, pixel_format, options, size) is None), None)
    return None


def _try(
    codec: str,
    pixel_format: str,
    options: Mapping[str, str],
    size: tuple[int, int],
    time_base: Fraction = Fraction(1, 25),
    frame_rate: Fraction | None = Fraction(25),
) -> list[str] | None:
    """Open an encoder for nothing; return as `_open` does."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height = size
    context.pix_fmt, context.time_base, context.framerate = pixel_format, time_base, frame_rate
    context.options = dict(options)
    return _open(context, codec, options)


def _open(context: Any, codec: str, options: Mapping[str, str]) -> list[str] | None:
    """Open the encoder, or return the lines that it logs when it refuses; a wrong option raises UsageError."""
    with captured() as log, _quiet(codec), _usual_priority(codec):
        try:
            context.open()
        except FFmpegError:
            refused = True
        else:
            refused = False
    said = [line.strip() for _, _, line in log]
    if wrong := next(filter((_UNPARSED if refused else _COMPLAINT).search, said), None):
        raise WrongOptionError(_expected(codec, options, wrong))
    if refused:
        return said
    if unknown := sorted(set(options) & set(context.options)):
        known = av.CodecContext.create(codec, "w").supported_options
        close = meant(unknown[0], {option.name for option in (*known.private, *known.generic)})
        hint = f". Did you mean {close!r}?" if close else ""
        raise UsageError(f"Encoder {codec} has no option {unknown[0]!r}{hint}")
    return None


def _expected(codec: str, options: Mapping[str, str], wrong: str) -> str:
    """Describe an option's valid values from FFmpeg's table of options; without an entry there, quote FFmpeg."""
    supported = av.CodecContext.create(codec, "w").supported_options
    named = re.search(r"option (\S+) to value|\"(\S+)\" option", wrong)
    name = next(filter(None, named.groups()), "") if named else ""
    option = next((each for each in (*supported.private, *supported.generic) if each.name == name), None)
    if option is None or name not in options:
        return f"Encoder {codec}: {wrong}"
    least, most = option.min > -_UNBOUNDED, option.max < _UNBOUNDED
    numbers = f" of {option.min:.9g} to {option.max:.9g}" * most or f" of {option.min:.9g} or more" * least
    choices = [choice.name for choice in option.choices]
    expected = ", ".join(choices if len(choices) > 1 else [*choices, f"a number{numbers}"])
    return f"Expected option {name} of encoder {codec} to be {expected}, got {options[name]!r}"


@contextmanager
def _quiet(codec: str) -> Iterator[None]:
    """Make SVT-AV1 write only errors (1) to stderr, through an environment variable that it reads when it is opened."""
    if codec != "libsvtav1" or "SVT_LOG" in os.environ:
        yield
        return
    os.environ["SVT_LOG"] = "1"
    try:
        yield
    finally:
        del os.environ["SVT_LOG"]


@contextmanager
def _usual_priority(codec: str) -> Iterator[None]:
    """Undo the real-time priority that SVT-AV1, as root, gives its threads and the caller's: nothing else would run."""
    if codec != "libsvtav1" or not hasattr(os, "sched_setscheduler") or not _THREADS.is_dir():
        yield
        return
    there = set(os.listdir(_THREADS))  # noqa: PTH208 - only the names are needed
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)
        for thread in set(os.listdir(_THREADS)) - there:  # noqa: PTH208
            with suppress(OSError):  # the thread has ended
                os.sched_setscheduler(int(thread), os.SCHED_OTHER, os.sched_param(0))


def _words(options: Mapping[str, str], said: list[str]) -> str:
    chosen = " ".join(f"{key}={value}" for key, value in options.items()) or "its defaults"
    return chosen + (f" ({said[0]})" if said else "")
