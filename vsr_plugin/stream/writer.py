"""`Writer`: writes one output: the encoder's packets and everything else, in order of time."""

from __future__ import annotations

import logging
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import ArgumentError, FFmpegError, InvalidDataError, PatchWelcomeError
from av.error import PermissionError as NotPermittedError

from ..device import torch_threads
from ..errors import UsageError
from .clock import OutputClock
from .containers.matroska_header import state_aspect
from .containers.mov_header import hide_tracks
from .copies import MP4_KINDS, add_copy, all_but_images
from .encoder import (
    STILL_IMAGES,
    add_encoder,
    check_container,
    choose_codec,
    choose_pixel_format,
    encoded_size,
    holds,
    states_aspect,
)
from .ffmpeg_log import Errors
from .layout import layout
from .opening import open_container
from .orientation import Turn, scaled
from .planes import padded, write_planes
from .rate import NO_B_FRAMES
from .remux import Remux, drop, muxing
from .sequence import is_pattern
from .side_data import Losses, SideData, template
from .stills.still import WRITTEN, StillWriter
from .written import Written
from .y4m import AspectWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from ..frames import Frame
    from .encoding import Encoding
    from .input_file import InputFile

log = logging.getLogger(__name__)

_STATING = {".m4v", ".mk3d", ".mkv", ".mov", ".mp4", ".qt", ".webm"}  # their headers state rotation and HDR metadata
# With these, FFmpeg's encoders and muxers refuse what they are given; any other error is the file system's.
_REFUSALS = (ArgumentError, InvalidDataError, PatchWelcomeError, NotPermittedError)
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # H.273, table 3: with any other tag, the frames look wrong


class Writer:
    """Writes one output: the encoder's packets and everything else, in order of time."""

    def __init__(
        self,
        file: Any,
        suffix: str,
        source: InputFile,
        encoding: Encoding,
        *,
        strict: bool,
        name: str = "standard output",
    ) -> None:
        self.name = name
        self._sequence = isinstance(file, Path) and is_pattern(file)
        self.written = Written()
        self._file = file
        self._suffix = suffix
        self._source = source
        self._encoding = encoding
        self._strict = strict
        self._stills: StillWriter | None = None
        self._shown: av.VideoFrame | None = None  # the frame that a constant-rate output repeats
        self._closing = ExitStack()
        self._remux: Remux | None = None
        self._images_only = suffix in STILL_IMAGES or suffix == ".y4m"
        self._ratio: Fraction | None = None
        self._turn: Turn | None = None
        self._latest: int | None = None  # decoding time of the last encoded packet
        self._log: Errors | None = None
        self._at: Fraction | None = None  # time of the frame or packet that is being written
        self._by = ""  # the encoder or the muxer that is at work

    @property
    def header(self) -> bytes:
        """The encoder's extradata; only after `open`."""
        return bytes(self._context.extradata or b"")

    @property
    def ticks(self) -> Fraction:
        """Time base of the packets, in seconds; only after `open`."""
        return self._clock.ticks

    def open(self, frame: Frame) -> None:
        """Choose and open the encoder, and add the streams; the header is written with the first packet."""
        codec = choose_codec(self._suffix, frame.color.depth, self._encoding.codec)
        self._ratio = frame.sample_aspect_ratio
        first, side_data = frame, SideData.collect(self._source.side_data, frame)
        if side_data.display_matrix:
            side_data = self._oriented(side_data, side_data.display_matrix, codec, frame)
        frame = self._turn(frame) if self._turn else frame
        pixel_format = choose_pixel_format(codec, frame, self._encoding.pixel_format)
        width, height = encoded_size(codec, pixel_format, frame.width, frame.height)
        if (width, height) != (frame.width, frame.height):
            asked, made = f"{frame.width}×{frame.height}", f"{width}×{height}"
            log.info("%s takes no %s: the last row or column is repeated, which makes %s", codec, asked, made)
        transposed = side_data.display_matrix is not None and frame.transposed
        self.written = Written(
            codec=codec, pixel_format=pixel_format, width=width, height=height, transposed=transposed
        )
        check_container(self._suffix, codec, pixel_format)
        form = layout(pixel_format)
        keeps_alpha = form is not None and len(form.components) in (2, 4)
        self._loses_alpha = frame.has_alpha and not keeps_alpha
        if form is not None and len(form.components) <= 2 and not frame.is_gray and not self._encoding.pixel_format:
            self._drop("the colors", f"{codec} can be written as {pixel_format} only")
        self._output = self._container()
        self._clock = OutputClock(
            self._source,
            frame,
            codec,
            self._output.format.name,
            self.name,
            stills=self._suffix in STILL_IMAGES,
            strict=self._strict,
        )
        ratio = self._ratio
        if ratio not in (None, 1) and not states_aspect(codec, self._output.format.name):
            why = f"it cannot be stated in {self._output.format.name} with {codec}"
            what = f"the pixel aspect ratio {ratio.numerator}:{ratio.denominator}"
            self._drop(what, why)
        if self._images_only:
            self._tell_all_but_images(frame)
            if self._source.queue is not None:
                self._source.queue.close()
        stated = {"the rotation"}
        if self._images_only:
            self._stream = self._add_stream(self._output, frame, {})
            self._context = self._stream.codec_context
        else:
            if self._carrier(codec) or side_data.encoder_options(codec):
                stated.add("HDR metadata")
            self._stream = self._lay_out(lambda: self._add_stating(side_data, frame))
            if keeps_alpha and codec.startswith("libvpx"):
                self._stream.metadata["alpha_mode"] = "1"  # without it, browsers ignore transparency
            if "stereo_mode" in self._stream.metadata and self._output.format.name in ("matroska", "webm"):
                stated.add("3D")
        repeated = {"the resolution"}
        if self._suffix in STILL_IMAGES:
            repeated = WRITTEN.get(codec, set())
            if repeated:
                self._stills = StillWriter(codec, gray=form is not None and len(form.components) <= 2)
        self._losses = Losses(self._source.side_data, first, stated=stated, repeated=repeated)
        self._tell(first)

    def _drop(self, what: str, why: str) -> None:
        """Warn that something is not copied, or raise if strict."""
        drop(self._source.name, what, why, strict=self._strict)

    def _lay_out(self, add_video: Callable[[], VideoStream]) -> VideoStream:
        """Add all streams to the output; ``add_video`` adds the enlarged one."""
        if self._source.queue is None and self._source.companions:
            raise UsageError(f"Expected a Source with keep_packets to copy {self._source.companions}, got one without")
        self._remux = Remux(self._source, self._output, self._drop)
        return self._remux.lay_out(add_video)

    def _oriented(self, side_data: SideData, matrix: bytes, codec: str, frame: Frame) -> SideData:
        """Adapt the rotation to the output's header; if the header cannot store it, the frames will be turned."""
        if not self._images_only and self._carrier(codec):
            return replace(side_data, display_matrix=scaled(matrix, Fraction(frame.height, self._source.height)))
        self._turn = Turn.parse(matrix)
        if self._turn is None:
            why = f"{self._suffix} with {codec} has no place for it, and it is not by right angles"
            self._drop("the rotation", why)
        elif self._turn:
            log.info("%s: rotating the frames: %s cannot store a rotation", self._source.name, self._suffix)
            if self._turn.transposed and self._ratio:
                self._ratio = 1 / self._ratio
        return replace(side_data, display_matrix=None)

    def _tell_all_but_images(self, frame: Frame) -> None:
        """Warn of all that the source has besides its frames, if only those are written, or raise if strict."""
        for what in all_but_images(self._source):
            self._drop(what, f"{self._suffix} holds images only")
        if self._suffix != ".png" and frame.color.transfer in _HDR_TRANSFERS:
            what = f"the transfer {_HDR_TRANSFERS[frame.color.transfer]}"
            self._drop(what, f"{self._suffix} has no place for it")

    def _tell_transparency(self, frame: Frame) -> None:
        """Warn of lost transparency at the first frame that is not opaque: GIF and some films always have alpha."""
        if self._loses_alpha and bool((frame.planes[-1] != frame.color.peak).any()):
            self._loses_alpha = False
            why = f"{self.written.codec} takes none in {self.written.pixel_format}"
            self._drop("the transparency", why)

    def _tell(self, frame: Frame) -> None:
        """Warn of side data of a frame that is lost, or raise if strict."""
        for name in self._losses.of(frame):
            if name.endswith((" pages", " images")):
                why = "only the first is enlarged"
            elif self._suffix in STILL_IMAGES:
                why = f"no encoder here can write it into {self._suffix}"
            elif self._images_only:
                why = f"{self._suffix} has no place for it"
            elif name.endswith("of later frames"):
                why = "the header says what the first frame says"
            elif name == "HDR metadata":
                why = f"{self._output.format.name} with {self.written.codec} has no place for it"
            else:
                why = "no encoder here can write it"
            self._drop(name, why)

    @torch_threads(1)  # more threads would spin, and take processor time from the network
    def write(self, frame: Frame) -> None:
        """Encode one frame, and write the packets that come out, after those of other streams that come earlier."""
        if self.written.frames and self._suffix in STILL_IMAGES and not self._sequence:
            pattern = f"{Path(self.name).stem}_%04d{self._suffix}"
            raise UsageError(f"Expected one frame for {self.name}, got several", frames=1, output=pattern)
        self._at = frame.pts * frame.time_base
        if self._log is not None:
            self._log.take()  # what was logged before is not about this frame
        self._tell(frame)
        self._tell_transparency(frame)
        if self._turn:
            frame = self._turn(frame)
        video_frame = write_planes(padded(frame, self.written.width, self.written.height), self.written.pixel_format)
        if self._stills is not None:
            for name, why in self._stills.keep(self._clock.count, frame.side_data).items():
                self._drop(name, why)
        repeats = self._clock.repeats(frame)
        for _ in range(repeats):
            self._encode(self._shown or video_frame, frame)
        if repeats >= 0:
            self._encode(video_frame, frame)
        self._shown = video_frame
        self.written.frames += 1
        self.written.position = float(self._at)

    def _encode(self, video_frame: av.VideoFrame, frame: Frame) -> None:
        """Encode one frame with the time of ``frame``, or with the next number."""
        self._clock.stamp(video_frame, frame)
        self._by = self.written.codec
        self._mux(self._context.encode(video_frame))

    def finish(self) -> None:
        """Write the encoder's last packets, the rest of the other streams, and the trailer."""
        self._by = self.written.codec
        packets = self._context.encode(None)
        if self.written.frames <= 2:  # too few to reorder, and x265 then leaves dts uninitialised
            for packet in packets:
                packet.dts = packet.pts
        self._mux(packets)
        self.complete()

    def complete(self) -> None:
        """Write the rest of the other streams, and the trailer."""
        if self._remux is not None:
            self._remux.until(None)
        kind, codec, index = self._output.format.name, self.written.codec, self._stream.index
        track = sum(stream.type != "attachment" for stream in list(self._output.streams)[:index])
        hidden = self._remux.hidden if self._remux is not None and kind in MP4_KINDS else []
        self._output.close()
        self._closing.close()
        if hidden:
            hide_tracks(self._file, hidden)
        if kind in ("matroska", "webm") and self._ratio not in (None, 1):
            stated = state_aspect(self._file, self._ratio, track)
            if not stated and not states_aspect(codec, "another"):
                self._drop("the pixel aspect ratio", f"{kind} left no room for it")
        read_back = isinstance(self._file, Path) and self._suffix not in STILL_IMAGES
        self._clock.finish(self._file if read_back else None, index, self._ratio)

    def explain(self, error: FFmpegError | OSError) -> str:
        """Describe an error of writing; what the encoder or the muxer refuses, with the time, and FFmpeg's reason."""
        if not isinstance(error, _REFUSALS) or self._log is None:
            return f"Cannot write {self.name}: {error.strerror}"
        at = "" if self._at is None else f" at {float(self._at):.3f} s"
        return f"Cannot write {self.name}{at}: {self._by} refuses it ({self._log.take() or error.strerror})"

    def abandon(self) -> None:
        """Close everything, in any state; after `finish`, this does nothing."""
        with suppress(FFmpegError, OSError, ValueError):
            self._closing.close()

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            if self._stills is not None:
                packet = self._stills.write(packet)
            self._clock.restore(packet)
            self.put(packet)

    def put(self, packet: Packet[Any]) -> None:
        """Write earlier packets of other streams, then an encoded one with its times in ticks of the output's clock."""
        time = None if packet.dts is None else packet.dts * self._clock.ticks
        if self._remux is not None and time is not None:
            self._remux.until(time)
        self.written.size += packet.size
        self.written.encoded += 1
        packet.stream = self._stream
        stamp, decoding = packet.pts, packet.dts
        self._at = None if stamp is None else stamp * self._clock.ticks
        self._by = self._output.format.name
        try:
            self._output.mux_one(packet)
        except ArgumentError:
            rises = decoding is not None and self._latest is not None and decoding > self._latest
            if self._remux is None or stamp is None or not rises:
                raise
            # FFmpeg has queued this frame, and failed to write an earlier packet.
            self._source.damage(f"{self._by} does not take a packet before {float(stamp * self._clock.ticks):.3f} s")
        self._latest = decoding if decoding is not None else self._latest
        if self._remux is not None:
            self._remux.begun = True
        self._clock.say_rounding(stamp, self._stream.time_base)

    def _container(self) -> OutputContainer:
        kind, options = muxing(self._suffix, self._source, sequence=self._sequence)
        output = open_container(self._target(), self.name, kind, options)
        self._log = self._closing.enter_context(closing(Errors((self.written.codec, output.format.name))))
        self._closing.callback(output.close)
        return output

    def _target(self) -> Any:
        """Return what PyAV writes to: a name, or an open file."""
        ratio = self._ratio
        if self._suffix == ".y4m" and ratio:
            file = self._closing.enter_context(self._file.open("wb")) if isinstance(self._file, Path) else self._file
            return AspectWriter(file, ratio)
        if self._sequence:  # FFmpeg looks for the number in the whole path
            return f"{self._file.parent}/".replace("%", "%%") + self._file.name
        return str(self._file) if isinstance(self._file, Path) else self._file

    def _add_stream(self, output: OutputContainer, frame: Frame, hdr: Mapping[str, str]) -> VideoStream:
        stream = add_encoder(
            output,
            self.written.codec,
            frame,
            self.written.pixel_format,
            self._encoding,
            time_base=self._clock.time_base,
            frame_rate=self._clock.frame_rate,
            sample_aspect_ratio=self._ratio,
            hdr=hdr,
            b_frames=output.format.name not in NO_B_FRAMES,
        )
        stream.time_base = self._clock.ticks
        return stream

    def _add_stating(self, side_data: SideData, frame: Frame) -> VideoStream:
        """Add a video stream whose header states ``side_data``, by copying one from a header made in memory."""
        hdr = side_data.encoder_options(self.written.codec)
        kind = self._carrier(self.written.codec) if side_data else None
        if kind is None:
            plain = self._add_stream(self._output, frame, hdr)
            self._context = plain.codec_context
            return plain
        header = BytesIO()
        carrier = av.open(header, "w", format=kind, container_options={"movflags": "empty_moov+frag_keyframe"})
        self._closing.callback(carrier.close)
        self._context = self._add_stream(carrier, frame, hdr).codec_context
        carrier.start_encoding()
        stating = template(header.getvalue(), side_data)
        self._closing.callback(stating.close)
        stream = add_copy(self._output, stating.streams.video[0])
        stated, made = stream.codec_context, self._context
        stated.extradata, stated.codec_tag = made.extradata, made.codec_tag
        # Some headers lack these: MPEG-4's the size, VP9's the format, AV1's the rate, which a time code needs.
        stated.width, stated.height, stated.pix_fmt = made.width, made.height, made.pix_fmt
        stated.framerate = made.framerate
        stream.time_base = self._clock.ticks
        return stream  # type: ignore[no-any-return]

    def _carrier(self, codec: str) -> str | None:
        """The kind of MP4 whose header can state this codec's side data for the output; None if there is none."""
        if self._suffix not in _STATING:
            return None
        return next((kind for kind in ("mp4", "mov") if holds(f".{kind}", codec)), None)
