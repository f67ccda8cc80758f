"""`Compression`: encodes and decodes frames in memory, to get them with the losses of compressed video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

type Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

# Encoder → its decoder, and the options for one thread, so that the encoder writes the same bits on every machine.
_CODECS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "libx264": ("h264", {}),
    "libx265": ("hevc", {"x265-params": "pools=none:frame-threads=1:log-level=error"}),
    "libvpx-vp9": ("vp9", {"b": "0", "row-mt": "0"}),
}
ENCODERS = tuple(_CODECS)
# Sides are padded to whole macroblocks: at the edge of incomplete ones, x264's result varies from run to run. If a side
# is smaller than the least, the data that x264's mbtree reads varies, too, and x265 writes past its buffers.
_BLOCK = 16
_LEAST: Mapping[str, int] = {"libx264": 128, "libx265": 128}


class Compression(Iterator[Planes]):
    """An iterator of the decoded frames, in the order of ``frames``.

    Args:
        frames: Y, Cb and Cr of 4:2:0 at 8 bits, (H, W) and twice (H/2, W/2), all of one size.
        encoder: One of `ENCODERS`.
        options: Options of the encoder, such as ``crf`` and ``preset``.
        rate: Frames per second.

    Attributes:
        size: Bytes of the compressed stream, so far.

    Raises:
        UsageError: the encoder is unknown, or this build of FFmpeg lacks it. While iterating: the encoder does not take
            an option, or frames have odd or different sizes.
    """

    def __init__(
        self,
        frames: Iterable[Planes],
        encoder: str,
        options: Mapping[str, str],
        rate: Fraction = Fraction(25),
    ) -> None:
        if encoder not in _CODECS:
            raise UsageError(f"Unknown encoder {encoder!r}. Known encoders: {', '.join(_CODECS)}")
        self.size = 0
        self._shape = (0, 0)
        self._encoder, self._options, self._rate = encoder, dict(options), rate
        decoder, fixed = _CODECS[encoder]
        try:
            self._coder, self._decoder = _open(encoder, "w"), _open(decoder, "r")
        except (FFmpegError, ValueError) as error:
            raise UsageError(f"Expected an FFmpeg that has {encoder}, got one without") from error
        self._coder.options = {**self._options, **fixed}
        self._decoded = self._run(frames)

    def __next__(self) -> Planes:
        try:
            return next(self._decoded)
        except UsageError:
            raise
        except (FFmpegError, ValueError) as error:
            raise UsageError(f"{self._encoder} does not encode with {self._options}: {error}") from error

    def _run(self, frames: Iterable[Planes]) -> Iterator[Planes]:
        for index, planes in enumerate(frames):
            height, width = planes[0].shape
            padded = _pad(planes, _LEAST.get(self._encoder, _BLOCK))
            if index == 0:
                self._shape = height, width
                self._coder.height, self._coder.width = padded[0].shape
                self._coder.pix_fmt = "yuv420p"
                self._coder.time_base, self._coder.framerate = 1 / self._rate, self._rate
            if (height, width) != self._shape or height % 2 or width % 2:
                raise UsageError(f"Expected frames of one size with even sides, got {width}×{height}")
            frame = to_video_frame(padded)
            frame.pts, frame.time_base = index, 1 / self._rate
            yield from self._pass_on(frame)
        yield from self._pass_on(None)

    def _pass_on(self, frame: VideoFrame | None) -> Iterator[Planes]:
        """Encode a frame, or None at the end, and return the frames that are decoded then."""
        decoded: list[VideoFrame] = []
        for packet in self._coder.encode(frame):
            self.size += packet.size
            decoded += self._decoder.decode(packet)
        if frame is None:
            decoded += self._decoder.decode(None)
        for each in decoded:
            height, width = self._shape
            y, cb, cr = to_planes(each)
            half = (slice(height // 2), slice(width // 2))
            yield y[:height, :width], cb[half], cr[half]


def _open(name: str, mode: Any) -> VideoCodecContext:
    context = av.CodecContext.create(name, mode)
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    return context


def _pad(planes: Planes, least: int) -> Planes:
    """Repeat the last row and column of each plane."""
    down, right = (max(least, -(-side // _BLOCK) * _BLOCK) - side for side in planes[0].shape)
    y, cb, cr = (
        np.pad(plane, ((0, down // part), (0, right // part)), "edge")
        for plane, part in zip(planes, (1, 2, 2), strict=True)
    )
    return y, cb, cr


def to_video_frame(planes: Planes) -> VideoFrame:
    """Convert planes to PyAV's frame, whose array has the rows of Y, then those of Cb and of Cr."""
    height, width = planes[0].shape
    stacked = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(height * 3 // 2, width)
    return VideoFrame.from_ndarray(stacked, format="yuv420p")


def to_planes(frame: VideoFrame) -> Planes:
    """Return the planes of PyAV's frame."""
    height, width = frame.height, frame.width
    flat = np.asarray(frame.to_ndarray(format="yuv420p"), np.uint8).reshape(-1)
    luma, chroma = height * width, height * width // 4
    parts = (flat[:luma], flat[luma : luma + chroma], flat[luma + chroma :])
    y, cb, cr = (part.reshape(rows, -1) for part, rows in zip(parts, (height, height // 2, height // 2), strict=True))
    return y, cb, cr
