"""`Source`: the source of the pipeline. A file, images or standard input become frames in presentation order."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Self

from ..errors import DamagedInputError, InputError
from ..frames import Frame
from .damage import Damage
from .frame_decoder import FrameDecoder
from .input import input_name
from .input_file import InputFile
from .selection import Selection

if TYPE_CHECKING:
    from pathlib import Path

    import av

    from .damage import Tally

log = logging.getLogger(__name__)


class Source(InputFile, Iterator[Frame]):
    """An iterator of frames that closes its file when closed, and at the end.

    Args:
        path: What `open_input` takes.
        selection: Which frames to take, and how to decode them.
        strict: Raise at the first damaged packet instead of counting it.
        form: FFmpeg's name of the format, if neither name nor content shows it.
        keep_packets: Keep the packets of the other streams for `encode`, which copies them. The file then stays open
            until `release` is called, too.
        cancelled: Called before each packet by the thread that reads; once it returns True, there are no more frames.

    Attributes: those of `InputFile`.

    Raises:
        InputError: there is nothing to decode, or the video is interlaced, or changes its size midway.
        DamagedInputError: with ``strict``, as soon as something does not decode.
    """

    def __init__(
        self,
        path: str | Path,
        selection: Selection | None = None,
        *,
        strict: bool = False,
        form: str | None = None,
        keep_packets: bool = False,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(
            path,
            selection or Selection(),
            Damage(input_name(path), strict=strict),
            form=form,
            keep_packets=keep_packets,
            cancelled=cancelled,
        )
        self._length = float(Fraction(self.container.duration or 0, 1_000_000))
        self._decoder: FrameDecoder | None = None
        self._tally: Tally | None = None
        self._frames = self._read()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Frame:
        return next(self._frames)

    def close(self) -> None:
        """Close the file, unless its packets are still to be copied; may be called again."""
        self._frames.close()
        super().close()

    def _read(self) -> Generator[Frame]:
        timeline = self.timeline
        count = 0
        reached = Fraction(0)
        shift: int | None = None
        end: Fraction | None = None  # set when it is reached
        try:
            for frame in self._from_start():
                time = frame.pts * self.time_base
                if count == self.limit and (timeline.end is None or time < timeline.end):
                    timeline.end = time
                if timeline.end is not None and time >= timeline.end:
                    end = timeline.end
                    self.reader.read_rest(end)
                    if self.frame_rate and time > reached + 1 / self.frame_rate:
                        self.reader.look_behind(time)
                    break
                if shift is None:
                    shift = frame.pts if timeline.start is not None else self._before_zero(frame)
                    self.begin(shift)
                yield replace(frame, pts=frame.pts - shift) if shift else frame
                count += 1
                reached = time + frame.duration * self.time_base
            if self._tally is not None and count and not self.reader.cancelled():
                if end is None and (count == self.limit or (timeline.end is not None and reached >= timeline.end)):
                    end = reached
                self.account(self._tally, reached, end)
        finally:
            timeline.settled = True
            self._stop_decoding()
            self.reader.close()
        if count == 0 and not self.damaged:
            part = "in this file"
            if timeline.start is not None or timeline.end is not None:
                length = 0 if timeline.jumps else self._length
                part = "between the given times" + (
                    f", which count from the start of its {length:.3f} s" if length else ""
                )
            raise InputError(f"{self.name}: there are no frames {part}")
        if count == 0:
            raise DamagedInputError(f"{self.name}: not one frame of the video stream decodes")

    def _before_zero(self, first: Frame) -> int:
        """Start of the file in ticks if it is negative, as after its clock wrapped; otherwise 0.

        Most containers cannot store negative times, and MP4 hides such frames.
        """
        earliest = min(self.begins, first.pts * self.time_base)
        if earliest >= 0:
            return 0
        log.warning("%s: begins at %.3f s: all its times are moved so that it begins at 0", self.name, earliest)
        return math.floor(earliest / self.time_base)

    def _from_start(self) -> Iterator[Frame]:
        """Frames from the start on; the first is the one shown at that time."""
        start = self.timeline.start
        if start is None:
            decoder = self._decode()
            yield from map(decoder.read, decoder.frames())
            return
        if self.reader.seekable:
            self.reader.seek(start)
        found = False
        for frame in self._seen_from(start):
            found = True
            yield frame
        if not found and self.timeline.may_leap and self.reader.seekable and not self.reader.cancelled():
            # Seeking landed after a jump of the clock, from where the start is never reached.
            self._stop_decoding()
            self.reader.read_to(start)
            yield from self._seen_from(start)

    def _seen_from(self, start: Fraction) -> Iterator[Frame]:
        """Frames beginning with the last one that is not after ``start``; durations may be wrong.

        MP4 stores durations in decoding order: with B-frames and a variable rate, a frame gets that of another.
        """
        decoder = self._decode()
        seen: av.VideoFrame | None = None
        begun = False
        for decoded in decoder.frames():
            if not begun:
                if decoded.pts is not None and decoded.pts * self.time_base <= start:
                    seen = decoded
                    continue
                begun = True
                if seen is not None:
                    yield decoder.read(seen)
            yield decoder.read(decoded)
        if not begun and seen is not None:
            last = decoder.read(seen)
            if (last.pts + last.duration) * self.time_base > start:
                yield last

    def _decode(self) -> FrameDecoder:
        self._tally = self.new_tally()
        self._decoder = FrameDecoder(self, self._tally)
        return self._decoder

    def _stop_decoding(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
