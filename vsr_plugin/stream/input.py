"""Opens an input, and reads what its container states about its streams before anything is decoded."""

from __future__ import annotations

import os
import select
import stat
import sys
from contextlib import ExitStack, suppress
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import av
from av.container import Flags
from av.error import FFmpegError
from av.stream import Disposition

from ..errors import InputError, UsageError
from .crop import Crop
from .sequence import ImageSequence, is_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from av.container import InputContainer
    from av.video.stream import VideoStream

_HEADERLESS = {".bgr", ".gray", ".nv12", ".nv21", ".p010", ".raw", ".rgb", ".rgba", ".uyvy", ".yuv", ".yuyv"}
_LOOK = 100  # milliseconds after which a reader that waits for a pipe checks whether to stop


class Remote(PathLike[str]):
    """A file on another machine, which a subclass opens.

    Args:
        path: Its path there.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path

    def open(self) -> Any:
        """Return a new object with ``read(size)``, ``seek(offset, whence)``, ``tell()`` and ``name``."""
        raise NotImplementedError


def input_name(path: str | Path) -> str:
    """The name of an input in messages."""
    return "standard input" if str(path) == "-" else Path(path).name


def check_format(form: str) -> None:
    """Raise UsageError for a format that this build of FFmpeg lacks."""
    if form not in av.formats_available:
        raise UsageError(f"Expected a format that FFmpeg has here, got {form!r}")


def open_input(
    path: str | Path | Remote, frame_rate: Fraction | None = None, form: str | None = None
) -> InputContainer:
    """Open a file, an image pattern (``frame_%04d.png``), a `Remote`, or ``-`` for standard input.

    Args:
        path: One of these; with ``form``, any name that the format takes.
        frame_rate: Frame rate of images and streams without timestamps.
        form: FFmpeg's name of the format, if neither name nor content shows it (``lavfi``, ``x11grab``).

    Raises:
        InputError: the input does not exist, or FFmpeg cannot read it.
        UsageError: this build of FFmpeg lacks the format.
    """
    options = {"framerate": str(frame_rate)} if frame_rate else {}
    if (sequence := ImageSequence.find(path)) is not None:
        options["start_number"] = str(sequence.numbers[0])
        path = f"{sequence.pattern.parent}/".replace("%", "%%") + sequence.pattern.name
    elif os.path.isfile(path):  # noqa: PTH113 - a name may be too long
        options["pattern_type"] = "none"
    if form is not None:
        check_format(form)
    name = str(path)
    if name == "-" and sys.stdin is None:
        raise InputError("Standard input is closed: expected a film from it")
    try:
        container = _open(path if isinstance(path, Remote) else name, form, options)
    except FileNotFoundError as error:
        what = "No file fits the pattern" if is_pattern(name) else "No such file:"
        raise InputError(f"{what} {name}") from error
    except IsADirectoryError as error:
        raise InputError(f"Expected a file, got a folder: {name}") from error
    except PermissionError as error:
        raise InputError(f"Not allowed to read {name}") from error
    except (FFmpegError, OSError, ValueError) as error:
        if _is_mov(name):
            what = "an MP4 or MOV file without its index: it was cut off, or is still being written"
            raise InputError(f"{Path(name).name}: {what}") from error
        if os.path.isfile(name) and os.path.getsize(name) == 0:  # noqa: PTH113, PTH202 - ″
            raise InputError(f"{Path(name).name} is empty") from error
        if Path(name).suffix.lower() in _HEADERLESS and os.path.isfile(name):  # noqa: PTH113 - ″
            what = "samples without a header, which have no size: give it as y4m, for example from FFmpeg: ffmpeg -f "
            what += "rawvideo -video_size 1280x720 -pixel_format yuv420p -framerate 25"
            raise InputError(f"{Path(name).name}: {what} -i {Path(name).name} {Path(name).stem}.y4m") from error
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{Path(name).name}: not a video or image that FFmpeg can read ({reason})") from error
    guesses: Any = Flags.gen_pts.value  # its guesses are one frame late for H.264 in AVI
    container.flags &= ~guesses
    return container


def _is_mov(name: str) -> bool:
    """Whether a file begins like MP4 or MOV (ISO/IEC 14496-12, section 4.3)."""
    if not os.path.isfile(name):  # noqa: PTH113 - a name may be too long
        return False
    with suppress(OSError), open(name, "rb") as file:  # noqa: PTH123 - ″
        return file.read(8)[4:] == b"ftyp"
    return False


def _open(name: str | Remote, form: str | None, options: dict[str, str]) -> InputContainer:
    with ExitStack() as failed:
        file: Any = f"file:{name}"
        if isinstance(name, Remote):
            file = name.open()
        elif name == "-":
            file = _Redirected(sys.stdin.buffer) if can_seek(name) else Pipe(sys.stdin.buffer, "standard input")
        elif form or "://" in name:
            file = name
        elif not can_seek(name):
            file = Pipe(failed.enter_context(open(name, "rb", buffering=0)), name)  # noqa: PTH123
        container: InputContainer = av.open(file, "r", format=form, options=options)
        failed.pop_all()
    return container


class _Redirected:
    """Standard input that is a file: a seek to before its beginning, which some demuxers try, raises no exception."""

    name = "standard input"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.read, self.tell = file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Like ``file.seek``, but return −1 for an invalid position."""
        try:
            return self._file.seek(offset, whence)
        except OSError:
            return -1


class Pipe:
    """An input that can be read only once; a watcher may get its bytes as they are read.

    Args:
        file: The file, opened for reading in binary mode.
        name: Name of the input.

    Attributes:
        count: Number of bytes read so far.
        head: Bytes read before `watch` was called; empty afterwards.
    """

    def __init__(self, file: Any, name: str) -> None:
        self.count = 0
        self.head = b""
        self.name = name
        self._file = file
        self._read = getattr(file, "read1", file.read)  # returns available bytes without waiting for all
        self._begun = False
        self._ended = False
        self._stopped = False
        self._watcher: Callable[[bytes], None] | None = None

    def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes; none at the end, and after `stop`."""
        if self._begun:  # before the first read, bytes may be in Python's buffer
            self._wait()
        self._begun = True
        data: bytes = b"" if self._stopped else self._read(size)
        self.count += len(data)
        self._ended = not data
        if self._watcher is None:
            self.head += data
        else:
            self._watcher(data)
        return data

    def watch(self, watcher: Callable[[bytes], None]) -> None:
        """Call ``watcher`` with all bytes, those already read first, and with none at the end."""
        head, self.head = self.head, b""
        if head:
            watcher(head)
        if self._ended:
            watcher(b"")
        self._watcher = watcher

    def stop(self) -> None:
        """End a read that waits; may be called from any thread."""
        self._stopped = True

    def _wait(self) -> None:
        """Wait until there is something to read, or `stop` is called; not on Windows, which can poll only sockets."""
        if os.name == "nt":
            return
        waiting = select.poll()
        waiting.register(self._file)
        while not self._stopped and not waiting.poll(_LOOK):
            pass

    def close(self) -> None:
        """Close a named pipe, so that its writer learns that nobody reads any more; may be called again."""
        if self.name != "standard input":
            self._file.close()


def python_file(container: InputContainer) -> Any:
    """The file that Python reads for the container, such as a `Pipe`; None if FFmpeg reads by itself."""
    return getattr(container.file, "file", None)


def size_of(container: InputContainer) -> int | None:
    """Size in bytes of an input that has been read to its end, if known."""
    file = python_file(container)
    return file.count if isinstance(file, Pipe) else container.size


def can_seek(path: str | Path | Remote) -> bool:
    """Whether the input can be read from any position, and twice; a pipe, a socket or a terminal cannot."""
    if isinstance(path, Remote):
        return True
    if str(path) == "-":
        return sys.stdin is not None and sys.stdin.buffer.seekable()
    try:
        mode = Path(path).stat().st_mode
    except OSError:  # a pattern, or a URL
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode)


def find_video(container: InputContainer, name: str) -> VideoStream:
    """Return the video stream to enlarge: FFmpeg's choice among those that are not covers.

    Raises:
        InputError: there is no such stream, or it cannot be decoded to whole frames.
    """
    stream: Any = container.streams.best("video")
    if stream is not None and is_cover(stream):
        stream = next((other for other in container.streams.video if not is_cover(other)), None)
    if stream is None:
        kinds = " and ".join(sorted({other.type for other in container.streams if not is_cover(other)})) or "no"
        raise InputError(f"{name}: expected a video stream, got {kinds} streams only")
    if stream.codec_context is None:
        raise InputError(f"{name}: no decoder for this video stream in PyAV's FFmpeg")
    if "enc_key_id" in stream.metadata:  # Matroska's ContentEncKeyID
        raise InputError(f"{name} is encrypted: decrypt it first")
    tiles = [other for other in container.streams.video if other.disposition & Disposition.dependent]
    if any(tile.frames == 1 for tile in tiles):
        raise InputError(
            f"{name}: one image in {len(tiles)} tiles, which PyAV does not put together: make a PNG of it first, for "
            f"example with ImageMagick: magick {name} {Path(name).stem}.png"
        )
    found: VideoStream = stream
    return found


def first_shape(container: InputContainer, stream: VideoStream) -> tuple[int, int, bool, Fraction | None] | None:
    """(width, height, whether rows are shown as columns, pixel aspect ratio) of the first frame; None without one."""
    shape = stream.sample_aspect_ratio
    try:
        frame = next(container.decode(stream), None)
    except FFmpegError:
        return None
    if frame is None:
        return None
    ratio = Fraction(shape.numerator, shape.denominator) if shape else None
    width, height = Crop.of(stream).size(frame.width, frame.height)
    return width, height, frame.rotation % 180 != 0, ratio


def seconds(ticks: int, time_base: Any) -> Fraction:
    """Convert ``ticks`` of a time base to exact seconds."""
    return ticks * Fraction(time_base.numerator, time_base.denominator)


def is_cover(stream: Any) -> bool:
    """Whether a video stream is only an image attached to the file."""
    return bool(stream.type == "video" and stream.disposition & Disposition.attached_pic)


def has_no_clock(container: InputContainer) -> bool:
    """Whether the file stores no presentation times, like images and elementary streams."""
    name = container.format.name
    return "image2" in name or name.endswith("_pipe") or name in ("h264", "hevc", "m4v", "mpegvideo", "rawvideo")


def average_rate(stream: VideoStream) -> Fraction | None:
    """The average frame rate; if that is the container's clock (1000 in FLV), the lowest rate for the timestamps."""
    rates = [Fraction(rate.numerator, rate.denominator) for rate in (stream.average_rate, stream.guessed_rate) if rate]
    return next((rate for rate in rates if rate <= 240), rates[0] if rates else None)
