"""`encode`: the sink of the pipeline. It leaves a complete, valid file, or none.

The file is written in a hidden folder next to its final place, and moved there when it is complete (output.py).
"""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from av.error import FFmpegError

from ..errors import OutputError, VsrError
from .output import Part, check_output, is_sequence
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..frames import Frame
    from .decode import Source
    from .encoding import Encoding
    from .written import Written


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
    """Write the frames into a file, together with everything else that ``source`` contains.

    Args:
        frames: The frames in presentation order; closed on any exit.
        output: A file, a pattern of images (``frame_%04d.png``), or ``-`` for y4m on standard output.
        source: Where the frames come from: its other streams, chapters and metadata are copied.
        encoding: How to encode.
        overwrite: Replace an existing file.
        strict: Raise, instead of warning, if something would be lost.
        on_frame: Called after each frame.

    Raises:
        OutputError: the file exists, cannot be written, or cannot store what it should.
        UsageError: the encoder is unknown, or does not know an option or a value.
    """
    with ExitStack() as cleanup:
        cleanup.callback(source.release)
        cleanup.callback(getattr(frames, "close", lambda: None))
        cleanup.callback(source.stop)  # otherwise, after an error, `frames` could wait for a pipe that sends nothing
        if str(output) == "-":
            if sys.stdout is None:
                raise OutputError("Standard output is closed: expected somewhere to write y4m to")
            writer = Writer(sys.stdout.buffer, ".y4m", source, encoding, strict=strict)
            return _write(frames, writer, source.name, on_frame)
        target = Path(output)
        check_output(target, source.path, overwrite=overwrite)
        sequence = is_sequence(target, source.path)
        part = cleanup.enter_context(Part(target, sequence=sequence, overwrite=overwrite))
        writer = Writer(part.file, target.suffix.lower(), source, encoding, strict=strict, name=target.name)

        def note(written: Written) -> None:
            part.check()
            if on_frame is not None:
                on_frame(written)

        try:
            written = _write(frames, writer, source.name, note)
        except OutputError:
            part.check()
            raise
        written.output = str(part.place())
        return written


def _write(frames: Iterator[Frame], writer: Writer, source: str, on_frame: Callable[[Written], None] | None) -> Written:
    first = next(frames, None)
    if first is None:
        raise OutputError(f"{source}: no frame came out, nothing was written")
    with ExitStack() as cleanup:
        cleanup.callback(writer.abandon)
        with writing(writer):
            writer.open(first)
        for frame in chain((first,), frames):
            with writing(writer):
                writer.write(frame)
            if on_frame is not None:
                on_frame(writer.written)
        with writing(writer):
            writer.finish()
    return writer.written


@contextmanager
def writing(writer: Writer) -> Iterator[None]:
    """Turn errors of the output into `OutputError`; those of the source and of callbacks are raised elsewhere."""
    try:
        yield
    except VsrError:
        raise
    except BrokenPipeError as error:
        raise OutputError(f"{writer.name.capitalize()} was closed before the last frame") from error
    except (FFmpegError, OSError) as error:
        raise OutputError(writer.explain(error)) from error
