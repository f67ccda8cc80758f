"""The clips that can be played: files with PyAV, cameras with OpenCV."""

from __future__ import annotations

import math
import stat
import struct
import time
from collections import deque
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from ..errors import InputError, UsageError
from ..frames import ColorSpec, Frame, Matrix, Range
from ..stream import Selection, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from . import Clip

_MICROSECONDS = Fraction(1, 1_000_000)
_DEVICES = ("x11grab", "gdigrab", "avfoundation", "dshow", "fbdev", "kmsgrab")  # FFmpeg's, which capture in real time
_BACK = 0.5  # seconds before a position without video, where the last frame is looked for first


def open_clip(path: str, form: str | None = None, selection: Selection | None = None) -> Clip:
    """Open ``path`` as a file or as a camera.

    Args:
        path: A file, a pattern of images, an address, or a camera such as ``/dev/video0``.
        form: FFmpeg's name of the format, where the path does not tell (``lavfi``, ``x11grab``); ``v4l2`` is a camera.
        selection: How a file is decoded; its start is ignored.

    Raises:
        InputError: it cannot be opened.
        UsageError: standard input.
    """
    if path == "-":
        raise UsageError("Expected a file or a camera, got standard input: write what comes there to a file first")
    if form in ("v4l2", "video4linux2") or (form is None and _is_device(Path(path))):
        return CameraClip(path)
    return FileClip(path, form, selection)


class FileClip:
    """Anything FFmpeg opens; see `preview.Clip`."""

    def __init__(self, path: str, form: str | None = None, selection: Selection | None = None) -> None:
        self._path = path
        self._form = form
        self._selection = selection or Selection()
        self.live = form in _DEVICES
        source = Source(path, form=form)
        try:
            self._origin = Fraction(source.container.start_time or 0, 1_000_000)
            self.name = source.name
            self.turns = _quarter_turns(source.side_data.get("display_matrix"))
            sides = (source.width, source.height)
            self.width, self.height = sides[::-1] if self.turns % 2 else sides
            self.pixel_aspect = float(source.sample_aspect_ratio or 1) ** (-1 if self.turns % 2 else 1)
            self.frame_rate = float(source.frame_rate or 0)
            self.duration = (source.container.duration or 0) / 1e6 if source.expected_frames != 1 else 0.0
        finally:
            source.close()

    def frames(self, position: float, cancelled: Callable[[], bool] = lambda: False) -> Generator[tuple[Frame, float]]:
        """Frames from the one displayed at ``position`` on; the last frame if only sound goes on there."""
        found = False
        try:
            for item in self._from(position, cancelled):
                found = True
                yield item
        except InputError:
            if found or position <= 0 or cancelled():
                raise
            yield self._last(position, cancelled)

    def _last(self, position: float, cancelled: Callable[[], bool]) -> tuple[Frame, float]:
        """The last frame before ``position``."""
        back = _BACK
        while True:
            try:
                (last,) = deque(self._from(max(0.0, position - back), cancelled), 1)
            except InputError:
                if back >= position or cancelled():
                    raise
                back *= 4
            else:
                return last

    def _from(self, position: float, cancelled: Callable[[], bool]) -> Generator[tuple[Frame, float]]:
        start = Fraction(position).limit_denominator(1_000_000) if position > 0 else None
        source = Source(self._path, replace(self._selection, start=start), form=self._form, cancelled=cancelled)
        try:
            for frame in source:
                yield frame, float(frame.pts * frame.time_base + source.shift - self._origin)
        finally:
            source.close()


class CameraClip:
    """A capture device, in real time; see `preview.Clip`."""

    duration = 0.0
    turns = 0
    pixel_aspect = 1.0
    live = True

    def __init__(self, path: str) -> None:
        self.name = path
        camera = self._opened()
        self.width = int(camera.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(camera.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.frame_rate = float(camera.get(cv2.CAP_PROP_FPS))
        self._camera: cv2.VideoCapture | None = camera

    def frames(self, position: float, cancelled: Callable[[], bool] = lambda: False) -> Generator[tuple[Frame, float]]:
        """The camera's frames from now on."""
        color = ColorSpec(Matrix.RGB, Range.FULL)
        step = round(1e6 / self.frame_rate) if self.frame_rate > 0 else 0
        camera, self._camera = self._camera or self._opened(), None
        began = time.monotonic()
        seen = False
        try:
            while not cancelled():
                there, image = camera.read()
                if not there and not seen:
                    raise self._silent()
                if not there:
                    return
                seen = True
                planes = tuple(image[..., channel].copy() for channel in (2, 1, 0))
                passed = time.monotonic() - began
                yield Frame(planes, round(1e6 * passed), _MICROSECONDS, step, color), position + passed
        finally:
            camera.release()

    def _opened(self) -> cv2.VideoCapture:
        camera = cv2.VideoCapture(self.name)
        if not camera.isOpened():
            raise self._silent()
        return camera

    def _silent(self) -> InputError:
        return InputError(f"{self.name}: expected a camera that gives frames, got none: is another program using it?")


def _is_device(path: Path) -> bool:
    return path.exists() and stat.S_ISCHR(path.stat().st_mode)


def _quarter_turns(matrix: bytes | None) -> int:
    """Quarter turns to the left before display, from FFmpeg's matrix of nine numbers; mirroring is ignored."""
    if matrix is None:
        return 0
    a, b, *_ = struct.unpack("=9i", matrix)
    return round(math.degrees(math.atan2(-b, a)) / 90) % 4
