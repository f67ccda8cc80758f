"""The one source of pictures: it decodes, leaves out what there is no time for, enlarges, and shows when it is due."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from . import Shown, Status
from .chosen import Chosen
from .clock import Clock
from .pixels import versions
from .reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..frames import Frame
    from . import Choice, Clip
    from .reader import Found

_MADE_AHEAD = 2  # pictures that wait until they are due
_GRAPH = 10.0  # seconds of `Player.times`
_FPS = 2.0  # seconds that shown_fps looks back
_INSIDE = 1e-4  # seconds added to the position of a frame that is looked for, so that rounding does not miss it
_PATIENCE = 2.0  # seconds to wait for the threads at the end
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
        now: Seconds of a clock that only moves forward.

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
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._times: deque[tuple[float, float]] = deque()
        self._clip = clip
        self._now = now
        self._reader: Reader | None = None
        self._clock = Clock(now)
        self._changed = threading.Condition()
        self._chosen = Chosen(choice, model, scale, self._changed)
        self._ready: deque[_Made] = deque()
        self._shown: _Made | None = None
        self._shown_at: deque[tuple[float, int]] = deque()  # with the number of the picture
        # Of the maker alone: when the clip began on the clock, later with every loop; where the frame before ended; and
        # the frame before, if it was left out.
        self._begun = self._reached = 0.0
        self._left_out: Found | None = None
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
        """End the threads, close the clip and free the network; harmless when called again.

        A network that takes long for what it is at, or is being built, is not waited for: it ends with its thread.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_PATIENCE)

    @property
    def times(self) -> list[tuple[float, float]]:
        """(when, milliseconds) of every picture made in the last ten seconds."""
        with self._changed:
            _forget(self._times, self._now() - _GRAPH)
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
            now = self._now()
            shown, chosen, upscaler = self._shown, self._chosen, self._chosen.upscaler
            _forget(self._shown_at, now - _FPS)
            return Status(
                name=self._clip.name,
                model=upscaler.spec.name,
                models=chosen.models,
                scale=upscaler.scale,
                scales=chosen.scales,
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
                notice=chosen.said,
            )

    def pause(self, paused: bool | None = None) -> None:
        """Stop time, or let it go on; by default the other of the two. At the end, play from the beginning."""
        with self._changed:
            if not paused and self._over():
                self._go_to(0.0)
                paused = False
            self._paused = not self._paused if paused is None else paused
            self._steps = 0
            self._clock.stop()
            if self._clip.live:
                self._ready.clear()
                if self._reader is not None:
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
        if self._clip.live:  # what is now comes next
            self._ready.clear()
            self._steps += 1
            return
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
            self._chosen.want(model, scale)

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

    def _disturbed(self) -> bool:
        """Whether something else is to be done than to go on."""
        return self._closing or self._jump is not None or not self._chosen.settled

    def _busy(self) -> bool:
        """Whether there is anything to make."""
        if self._disturbed():
            return True
        if self._ended or len(self._ready) >= _MADE_AHEAD:
            return False
        at_the_end = self._reader is not None and self._reader.ended  # which is found out also while time stands still
        return self._steps > len(self._ready) or not self._paused or at_the_end

    def _make(self) -> None:
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(self._busy)
                    if self._closing:
                        return
                    jump, self._jump = self._jump, None
                    if jump is not None:
                        self._gap = False
                    settled = self._chosen.settled
                if not settled and (jump := self._change(jump)) is None:
                    continue
                if jump is not None:
                    self._read(jump.position)
                    self._begun = 0.0
                self._advance(jump)
        finally:
            if self._reader is not None:
                self._reader.close()
            self._chosen.close()

    def _change(self, jump: _Jump | None) -> _Jump | None:
        """Take another network, and show what is shown through it; gives where to go for that."""
        made = self._shown
        before = self._chosen.change(made.frame if made is not None else None)
        if before is None:
            return jump
        with self._changed:
            made = self._shown
            waiting = [made] if made is not None else []
            if not self._clip.live:
                waiting += self._ready
            self._ready.clear()
            self._gap = False
            self._clock.stop()
            if jump is None and self._aim is not None:
                jump = _Jump(self._aim)
            elif jump is None and self._clip.duration:
                jump = _Jump(self._position() + _INSIDE)
            if jump is not None:
                self._ended = False
        before.close()
        if jump is None:  # there is no going back: what is shown, and what was to follow, is made anew
            for each in waiting:
                self._enlarge((each.frame, each.picture.position, 0.0), each.due, at_once=each is made)
        return jump

    def _read(self, position: float) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = Reader(self._clip, position, self._changed)
        self._reached, self._left_out = position, None

    def _advance(self, jump: _Jump | None) -> None:
        """Make a picture of the next frame, if there is time for it; at the end begin again, or stop."""
        assert self._reader is not None
        if not self._await(jump):
            return
        found = self._reader.take()
        if found is not None and jump is not None and jump.after:
            if not self._await(jump):
                return
            found = self._reader.take()
        if found is None:
            self._end()
            return
        frame, position, _ = found
        duration, due = self._frame_seconds(frame), self._begun + position
        self._reached = position + duration
        at_once = jump is not None and not jump.after
        if at_once or self._wants(due, duration):
            self._left_out = None
            self._enlarge(found, due, at_once=at_once)
        else:
            self._left_out = found

    def _await(self, jump: _Jump | None) -> bool:
        """Wait for a frame, or the end; False if something else is wanted first, and the jump to be made after that."""
        reader = self._reader
        assert reader is not None
        with self._changed:
            self._changed.wait_for(lambda: reader.ready or self._disturbed())
            if not self._paused:  # what comes while time stands still is not missed
                self._clock.dropped += reader.missed
            reader.missed = 0
            if not self._disturbed():
                return True
            self._jump = self._jump or jump
            return False

    def _end(self) -> None:
        """Begin again, or stop: at the last frame, whether there was time for it or not."""
        last, self._left_out = self._left_out, None
        if self._loop and self._clip.duration and self._reached > 0:
            began = self._begun + self._reached
            self._read(0.0)
            self._begun = began
        elif last is not None:
            if self._enlarge(last, self._begun + last[1], at_once=False):
                self._clock.dropped -= 1
        else:
            with self._changed:
                if self._jump is None:
                    self._ended = True
                    self._aim = None
                    self._steps = min(self._steps, len(self._ready))

    def _wants(self, due: float, duration: float) -> bool:
        """Whether a frame is made into a picture, or left out."""
        with self._changed:
            if self._clip.live or self._steps > len(self._ready) or self._clock.has_time_for(due, duration):
                return True
            self._gap = self._jump is None
            return False

    def _enlarge(self, found: Found, due: float, *, at_once: bool) -> bool:
        """Make both versions of a frame, and hand them on, unless a jump has come meanwhile."""
        frame, position, decoded = found
        upscaler = self._chosen.upscaler
        began = self._now()
        made = versions(frame, upscaler, self._clip.turns)
        with self._changed:
            if self._jump is not None:
                return False
            now = self._now()
            self._clock.spent(now - began)
            self._chosen.notice = self._chosen.notice or made.notice
            picture = Shown(0, position, upscaler.spec.name, made.bicubic, made.network)
            stages = (1e3 * decoded, 1e3 * made.network_seconds, 1e3 * made.display_seconds)
            self._ready.append(_Made(picture, frame, due, at_once, not self._gap, *stages))
            self._gap = False
            self._times.append((now, 1e3 * (now - began)))
            _forget(self._times, now - _GRAPH)
            self._changed.notify_all()
            return True

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
                    left = self._clock.due(made.due) - self._now()
                    if left > 0:
                        self._changed.wait(left)
                        continue  # whatever was asked for meanwhile comes first
                self._ready.popleft()
                number = self._shown.picture.number + 1 if self._shown is not None else 1
                made.picture = replace(made.picture, number=number)
                self._shown, self._aim = made, None
                now = self._now()
                self._shown_at.append((now, number))
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


def _forget(times: deque[tuple[float, Any]], before: float) -> None:
    while times and times[0][0] < before:
        times.popleft()
