"""`encode`: the sink of the pipeline. It leaves a whole valid file, or none.

The file is written in a hidden folder beside its place and renamed when it is whole.
"""

from __future__ import annotations

import glob
import logging
import sys
import tempfile
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

from ..errors import OutputError
from .writer import NUMBER, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..frames import Frame
    from .decode import Source
    from .encoder import Encoding
    from .writer import Written


log = logging.getLogger(__name__)


def check_output(target: Path, *, overwrite: bool) -> None:
    """Raise OutputError, before any work, if ``target`` may not be written: it exists, or its folder does not."""
    if target.is_dir():
        raise OutputError(f"Expected a file to write to, got the folder {target}")
    if not target.parent.is_dir():
        raise OutputError(f"No such folder: {target.parent}")
    pattern = NUMBER.sub("*", glob.escape(target.name))
    existing = sorted(target.parent.glob(pattern))
    if existing and not overwrite:
        raise OutputError(f"{existing[0]} exists: add -y to overwrite it")


def encode(
    frames: Iterator[Frame],
    output: str | Path,
    source: Source,
    encoding: Encoding,
    *,
    overwrite: bool = False,
    strict: bool = False,
    on_frame: Callable[[Written], None] | None = None,
) -> Written:
    """Consume the frames into a file, together with everything else that ``source`` holds.

    Args:
        frames: In presentation order; closed on any exit.
        output: A file, a pattern of images (``frame_%04d.png``), or ``-`` for y4m on standard output.
        source: Where the frames come from: its other streams, chapters and metadata cross over.
        encoding: How to encode.
        overwrite: Replace an existing file.
        strict: Refuse what would drop something instead of saying so.
        on_frame: Called after each frame.

    Raises:
        OutputError: the file exists, cannot be written, or cannot hold what it should.
        UsageError: the encoder is unknown, or does not know an option or a value.
    """
    with ExitStack() as cleanup:
        cleanup.callback(source.release)
        cleanup.callback(getattr(frames, "close", lambda: None))
        if str(output) == "-":
            return _write(frames, sys.stdout.buffer, ".y4m", source, encoding, strict, on_frame)
        target = Path(output)
        check_output(target, overwrite=overwrite)
        try:
            temporary = tempfile.TemporaryDirectory(prefix=".vsr-", suffix=".part", dir=target.parent)
            folder = Path(cleanup.enter_context(temporary))
        except OSError as error:
            raise OutputError(f"Cannot write to {target.parent}: {error.strerror}") from error
        written = _write(frames, folder / target.name, target.suffix.lower(), source, encoding, strict, on_frame)
        files = sorted(folder.iterdir())  # one, or all of an image sequence
        try:
            if len(files) > 1 or NUMBER.search(target.name):
                for file in files:
                    file.replace(target.with_name(file.name))
                written.output = str(target)
            else:
                place = _place(target, overwrite=overwrite)
                files[0].replace(place)
                written.output = str(place)
        except OSError as error:
            raise OutputError(f"Cannot write {target}: {error.strerror}") from error
        return written


def _place(target: Path, *, overwrite: bool) -> Path:
    """The target, or, if somebody else has put a file there in the meantime, a free name beside it."""
    place, number = target, 1
    while place.exists() and not overwrite:
        place = target.with_stem(f"{target.stem}-{number}")
        number += 1
    if place != target:
        log.warning("%s has come to exist meanwhile: writing %s", target.name, place.name)
    return place


def _write(
    frames: Iterator[Frame],
    file: Any,
    suffix: str,
    source: Source,
    encoding: Encoding,
    strict: bool,
    on_frame: Callable[[Written], None] | None,
) -> Written:
    first = next(frames, None)
    if first is None:
        raise OutputError(f"{source.name}: no frame came out, nothing was written")
    writer = Writer(file, suffix, source, encoding, strict=strict)
    with ExitStack() as cleanup:
        cleanup.callback(writer.abandon)
        try:
            writer.open(first)
            for frame in chain((first,), frames):
                writer.write(frame)
                if on_frame is not None:
                    on_frame(writer.written)
            writer.finish()
        except BrokenPipeError as error:
            raise OutputError("Standard output was closed before the last frame") from error
        except FFmpegError as error:
            raise OutputError(f"Cannot write {writer.name}: {error.strerror}") from error
    return writer.written
