"""The one source of pictures: it decodes, leaves out what there is no time for, enlarges, and shows when it is due."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..engine import torch_threads
from ..errors import UsageError, VsrError
from ..frames import Matrix
from . import Shown, Status
from .clock import Clock
from .pixels import bicubic, pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..engine import Upscaler
    from ..frames import Frame
    from . import Choice, Clip

_READ_AHEAD = 2  # decoded frames
_MADE_AHEAD = 2  # pictures that wait until they are due
_GRAPH = 10.0  # seconds of `Player.times`
_FPS = 2.0  # seconds that shown_fps looks back
_INSIDE = 1e-4  # seconds added to the position of a frame that is looked for, so that rounding does not miss it
_SILENT = 1.0  # seconds to wait for a source to close
_USUAL = 1 / 25  # seconds of a frame, where the clip does not say


@dataclass(slots=True)
class _Made:
    """A picture that waits to be shown.

    Attributes:
        picture: What is shown.
        frame: What it was made of.
        due: When, in seconds of the clock; they go on where a loop begins again.
        at_once: Whether it is shown as soon as it is there: after a jump.
        follows: Whether no frame was left out before it.
        decode_ms: What it took.
        network_ms: ″
        display_ms: ″
    """

    picture: Shown
    frame: Frame
    due: float
    at_once: bool
    follows: bool
    decode_ms: float
    network_ms: float
    display_ms: float


class Player:
    """Plays a clip for any number of viewers; a context manager. All methods are for any thread.

    Args:
        clip: What is played.
        choice: The networks.
        model: The first one.
        scale: Its enlargement.
        position: Where to begin, in seconds.
        paused: Whether to wait there.
        loop: Whether to begin again at the end.

    Raises:
        VsrError: the first network cannot be opened.
    """

    def __init__(
        self,
        clip: Clip,
        choice: Choice,
        model: str,
        scale: int,
        *,
        position: float = 0.0,
        paused: bool = False,
        loop: bool = False,
    ) -> None:
        self._times: deque[tuple[float, float]] = deque()
        self._clip = clip
        self._choice = choice
        self._reader: _Reader | None = None
        self._upscaler = choice.open(model, scale)
        self._wanted = (model, scale)
        self._notice = ""
        self._clock = Clock()
        self._changed = threading.Condition()
        self._ready: deque[_Made] = deque()
        self._shown: _Made | None = None
        self._shown_at: deque[tuple[float, int]] = deque()  # with the number of the picture
        self._jump: _Jump | None = _Jump(position)
        self._aim: float | None = position  # of the last jump, until its picture is shown
        self._gap = False  # whether frames were left out since the last picture made
        self._steps = 0  # pictures that are wanted although time stands still
        self._paused, self._loop = paused, loop
        self._ended = self._closing = False
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"vsr preview {name}", daemon=True)
            for name, work in (("maker", self._make), ("presenter", self._present))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, close the clip and free the network; harmless when called again."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._upscaler.close()

    @property
    def times(self) -> list[tuple[float, float]]:
        """(when, milliseconds) of every picture made in the last ten seconds."""
        with self._changed:
            _forget(self._times, time.monotonic() - _GRAPH)
            return list(self._times)

    def wait(self, number: int = 0, timeout: float | None = None) -> Shown | None:
        """Wait for a picture later than ``number``, and give the latest; None if there is none in time.

        Raises:
            VsrError: the clip cannot be played any further.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._error or self._closing or (self._shown and self._shown.picture.number > number), timeout
            )
            if self._error is not None:
                raise self._error
            latest = self._shown
        return latest.picture if latest is not None and latest.picture.number > number else None

    def status(self) -> Status:
        """What is playing, and how well, now."""
        with self._changed:
            now = time.monotonic()
            shown, upscaler = self._shown, self._upscaler
            _forget(self._shown_at, now - _FPS)
            model, scale = upscaler.spec.name, upscaler.scale
            return Status(
                name=self._clip.name,
                model=model,
                models=self._choice.models(scale),
                scale=scale,
                scales=self._choice.scales(model),
                width=self._clip.width,
                height=self._clip.height,
                pixel_aspect=self._clip.pixel_aspect,
                runs_on=f"{upscaler.backend} on {upscaler.device}, {upscaler.precision}",
                source_fps=self._clip.frame_rate,
                shown_fps=len(self._shown_at) / _FPS,
                dropped=self._clock.dropped,
                decode_ms=shown.decode_ms if shown else 0.0,
                network_ms=shown.network_ms if shown else 0.0,
                display_ms=shown.display_ms if shown else 0.0,
                position=shown.picture.position if shown else 0.0,
                duration=self._clip.duration,
                paused=self._paused or self._over(),
                notice=self._notice,
            )

    def pause(self, paused: bool | None = None) -> None:
        """Stop time, or let it go on; by default the other of the two. At the end, play from the beginning."""
        with self._changed:
            if self._over() and not paused:
                self._go_to(0.0)
                paused = False
            self._paused = not self._paused if paused is None else paused
            self._steps = 0
            self._clock.stop()
            if self._clip.live and self._reader is not None:  # what comes while time stands still is not missed
                self._ready.clear()
                self._reader.missed = 0
            self._changed.notify_all()

    def seek(self, position: float) -> None:
        """Jump to what is seen at ``position`` seconds, as far as the clip goes."""
        with self._changed:
            if self._clip.duration:
                self._go_to(min(max(0.0, position), self._clip.duration))

    def skip(self, seconds: float) -> None:
        """Jump by so many seconds from what is shown, or about to be."""
        with self._changed:
            self.seek(self._position() + seconds)

    def step(self, frames: int) -> None:
        """Pause, and show the next frame (1) or the one before (−1)."""
        with self._changed:
            self._paused = True
            if self._shown is None:
                return
            if frames > 0:
                self._step_on()
            elif self._steps:
                self._steps -= 1
            elif self._clip.duration:
                back = _INSIDE if self._aim is None else self._frame_seconds(self._shown.frame)
                self._go_to(max(0.0, self._position() - back))
            self._changed.notify_all()

    def _step_on(self) -> None:
        """What comes next may have been left out for lack of time; then it is fetched."""
        assert self._shown is not None
        coming = self._steps + sum(made.at_once for made in self._ready)  # pictures that will be shown already
        follows = self._ready[coming].follows if coming < len(self._ready) else not self._gap
        if self._jump is None and not follows and self._clip.duration:
            last = self._ready[coming - 1] if coming else self._shown
            self._go_to(last.picture.position + _INSIDE, after=True)
            self._steps = 1
        elif not self._ended or coming < len(self._ready):
            self._steps += 1

    def choose(self, model: str | None = None, scale: int | None = None) -> None:
        """Take another network for what is shown and what follows; what cannot be opened becomes a notice."""
        with self._changed:
            old_model, old_scale = self._wanted
            model, scale = model or old_model, scale or old_scale
            if scale not in self._choice.scales(model):
                self._notice = f"{model} has no weights for ×{scale}"
                return
            self._wanted = (model, scale)
            self._notice = ""
            self._changed.notify_all()

    def _over(self) -> bool:
        """Whether the last picture of the clip is shown."""
        return self._ended and not self._ready

    def _position(self) -> float:
        """Of what is shown, or about to be."""
        if self._aim is not None:
            return self._aim
        return self._shown.picture.position if self._shown else 0.0

    def _frame_seconds(self, frame: Frame) -> float:
        stated = float(frame.duration * frame.time_base)
        return stated or (1 / self._clip.frame_rate if self._clip.frame_rate else _USUAL)

    def _go_to(self, position: float, *, after: bool = False) -> None:
        self._jump, self._aim = _Jump(position, after), position
        self._ended = False
        self._steps = 0
        self._ready.clear()
        self._clock.stop()
        self._changed.notify_all()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to those who wait
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _busy(self) -> bool:
        """Whether there is anything to make."""
        if self._closing or self._jump is not None or self._other():
            return True
        if self._ended or len(self._ready) >= _MADE_AHEAD:
            return False
        return self._steps > len(self._ready) or not self._paused

    def _other(self) -> bool:
        return self._wanted != (self._upscaler.spec.name, self._upscaler.scale)

    def _make(self) -> None:
        number = 0
        end = begun = 0.0  # of the frame before; on the clock, where the clip began: later with every loop
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(self._busy)
                    if self._closing:
                        return
                    jump, self._jump = self._jump, None
                    if jump is not None:
                        self._gap = False
                    wanted = self._wanted if self._other() else None
                if wanted is not None and self._open(*wanted) and jump is None and (jump := self._again()) is None:
                    made = self._shown
                    assert made is not None
                    number = self._enlarge(made.frame, made.picture.position, made.due, 0.0, number, at_once=True)
                if wanted is not None and jump is None:
                    continue
                if jump is not None:
                    self._read(jump.position)
                    begun = 0.0
                if not self._await(jump):
                    continue
                found = self._take()
                if found is not None and jump is not None and jump.after:
                    if not self._await(jump):
                        continue
                    found = self._take()
                if found is None:
                    if self._loop and self._clip.duration and end:
                        self._read(0.0)
                        begun, end = begun + end, 0.0
                    else:
                        self._end()
                    continue
                frame, position, seconds = found
                end = position + self._frame_seconds(frame)
                at_once = jump is not None and not jump.after
                if at_once or self._wants(begun + position, end - position):
                    number = self._enlarge(frame, position, begun + position, seconds, number, at_once=at_once)
        finally:
            if self._reader is not None:
                self._reader.close()

    def _read(self, position: float) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = _Reader(self._clip.frames(position), self._changed, live=self._clip.live)

    def _await(self, jump: _Jump | None) -> bool:
        """Wait for a frame, or the end; False if something else is wanted first, and the jump to be made after that."""
        reader = self._reader
        assert reader is not None
        with self._changed:
            self._changed.wait_for(lambda: reader.ready or self._closing or self._jump is not None or self._other())
            self._clock.dropped += reader.missed
            reader.missed = 0
            if not (self._closing or self._jump is not None or self._other()):
                return True
            self._jump = self._jump or jump
            return False

    def _take(self) -> tuple[Frame, float, float] | None:
        assert self._reader is not None
        return self._reader.take()

    def _end(self) -> None:
        with self._changed:
            if self._jump is None:
                self._ended = True
                self._aim = None
                self._steps = 0

    def _wants(self, due: float, duration: float) -> bool:
        """Whether a frame is made into a picture, or left out."""
        with self._changed:
            if self._clip.live or self._steps > len(self._ready) or self._clock.has_time_for(due, duration):
                return True
            self._gap = self._jump is None
            return False

    def _again(self) -> _Jump | None:
        """Where to go for the picture that is shown, or about to be, to be made anew; None where there is no going."""
        with self._changed:
            if self._aim is not None:
                return _Jump(self._aim)
            return _Jump(self._position() + _INSIDE) if self._clip.duration else None

    def _open(self, model: str, scale: int) -> bool:
        """Take another network, once it has made a picture; on failure keep the one that is there."""
        upscaler: Upscaler | None = None
        try:
            upscaler = self._choice.open(model, scale)
            if self._shown is not None:
                upscaler.upscale([self._shown.frame])  # compiles
        except VsrError as error:
            if upscaler is not None:
                upscaler.close()
            with self._changed:
                if self._wanted == (model, scale):
                    self._notice = str(error)
                    self._wanted = (self._upscaler.spec.name, self._upscaler.scale)
            return False
        with self._changed:
            old, self._upscaler = self._upscaler, upscaler
            self._ready.clear()
            self._gap = False
            self._clock.stop()
        old.close()
        return True

    def _enlarge(self, frame: Frame, position: float, due: float, decoded: float, number: int, *, at_once: bool) -> int:
        """Make both versions of a frame, and hand them on; the number of the picture."""
        upscaler = self._upscaler
        began = time.perf_counter()
        try:
            (large,) = upscaler.upscale([frame])
        except UsageError as error:
            if not self._notice:
                with self._changed:
                    self._notice = str(error)
            large = bicubic(frame, upscaler.scale)
        enlarged = time.perf_counter()
        with torch_threads(1):
            plain = bicubic(frame, upscaler.scale, large if upscaler.spec.channels == 1 and _is_yuv(frame) else None)
            before, after = (np.ascontiguousarray(np.rot90(p, self._clip.turns)) for p in pictures(plain, large))
        done = time.perf_counter()
        with self._changed:
            if self._jump is not None:
                return number
            self._clock.spent(done - began)
            picture = Shown(number + 1, position, upscaler.spec.name, before, after)
            stages = (1e3 * decoded, 1e3 * (enlarged - began), 1e3 * (done - enlarged))
            self._ready.append(_Made(picture, frame, due, at_once, not self._gap, *stages))
            self._gap = False
            now = time.monotonic()
            self._times.append((now, 1e3 * (done - began)))
            _forget(self._times, now - _GRAPH)
            self._changed.notify_all()
        return number + 1

    def _present(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._presentable)
                if self._closing:
                    return
                made = self._ready[0]
                if made.at_once or self._steps or self._clip.live:
                    self._clock.stop()
                    self._clock.due(made.due)
                    self._steps -= self._steps > 0 and not made.at_once
                else:
                    left = self._clock.due(made.due) - time.monotonic()
                    if left > 0:
                        self._changed.wait(left)
                        continue  # whatever was asked for meanwhile comes first
                self._ready.popleft()
                self._shown, self._aim = made, None
                now = time.monotonic()
                self._shown_at.append((now, made.picture.number))
                _forget(self._shown_at, now - _FPS)
                self._changed.notify_all()

    def _presentable(self) -> bool:
        return self._closing or (bool(self._ready) and (not self._paused or self._steps > 0 or self._ready[0].at_once))


@dataclass(frozen=True, slots=True)
class _Jump:
    """A place to go to.

    Attributes:
        position: Seconds of the clip.
        after: Whether the frame after the one that is seen there is meant.
    """

    position: float
    after: bool = False


class _Reader:
    """Frames that a thread of its own decodes ahead; of what is live, the newest alone is kept.

    Attributes:
        missed: Frames that a newer one has pushed out.

    Args:
        frames: What is read, and closed.
        changed: Guards everything here, and hears of it.
        live: Whether frames come as time passes.
    """

    def __init__(
        self, frames: Generator[tuple[Frame, float]], changed: threading.Condition, *, live: bool = False
    ) -> None:
        self.missed = 0
        self._frames, self._changed, self._live = frames, changed, live
        self._found: deque[tuple[Frame, float, float]] = deque()
        self._error: BaseException | None = None
        self._done = self._closed = False
        self._thread = threading.Thread(target=self._work, name="vsr preview reader", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether `take` need not wait."""
        return bool(self._found) or self._done

    def take(self) -> tuple[Frame, float, float] | None:
        """The next frame, its position, and the seconds that it took; None at the end."""
        with self._changed:
            if self._found:
                self._changed.notify_all()
                return self._found.popleft()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Close what is read, unless it is silent: its thread ends with its next frame."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(_SILENT)

    def _work(self) -> None:
        try:
            with closing(self._frames):
                began = time.perf_counter()
                for frame, position in self._frames:
                    if not self._keep((frame, position, time.perf_counter() - began)):
                        return
                    began = time.perf_counter()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to who takes
            self._error = error
        finally:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _keep(self, item: tuple[Frame, float, float]) -> bool:
        with self._changed:
            if self._live:
                self.missed += len(self._found)
                self._found.clear()
            self._changed.wait_for(lambda: self._closed or len(self._found) < _READ_AHEAD)
            self._found.append(item)
            self._changed.notify_all()
            return not self._closed


def _forget(times: deque[tuple[float, Any]], before: float) -> None:
    while times and times[0][0] < before:
        times.popleft()


def _is_yuv(frame: Frame) -> bool:
    """Whether a network of luma leaves bicubic chroma of the same planes."""
    return not frame.is_gray and frame.color.matrix is not Matrix.RGB
