"""Plays a clip: threads that do what `Playback` asks for, each at its own pace."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from ..errors import UsageError, VsrError
from ..reuse import Reuse
from . import BASELINES, DisplayedFrame, Status
from .pixels import draft, enlarge
from .playback import Playback, Task
from .reader import Reader
from .stages import EnlargedFrame, Look, Seek

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine import Upscaler
    from ..sizes import Size
    from . import Choice, Clip

_log = logging.getLogger(__name__)

_GRAPH = 10.0  # seconds of `Player.times`
_FPS = 2.0  # seconds over which shown_fps is measured
_PATIENCE = 2.0  # seconds to wait for the threads at the end


class Player:
    """Plays a clip for any number of viewers; a context manager. All methods may be called from any thread.

    Args:
        clip: What is played.
        choice: The networks.
        model: The first one.
        scale: Its scale, or the size of the output.
        position: Where to begin, in seconds.
        paused: Whether to begin paused.
        loop: Whether to begin again at the end.
        command: Returns the command that encodes the clip by a model at a scale; empty if there is none.
        now: Seconds of a clock that only moves forward.

    Raises:
        VsrError: the first network cannot be opened.
    """

    def __init__(
        self,
        clip: Clip,
        choice: Choice,
        model: str,
        scale: int | Size,
        *,
        position: float = 0.0,
        paused: bool = False,
        loop: bool = False,
        command: Callable[[str, int | Size], str] = lambda model, scale: "",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clip, self._choice, self._command, self._now = clip, choice, command, now
        self._upscaler, self._is_new = choice.open(model, scale), True
        self._reuse = Reuse()
        self._reader: Reader | None = None
        look = Look(model, scale, BASELINES[0])
        self._playback = Playback(
            wanted=look,
            opened=look,
            duration=clip.duration,
            live=clip.live,
            loop=loop,
            frame_rate=clip.frame_rate,
            seeking=Seek(position),
            target=position,
            paused=paused,
        )
        self._times: deque[tuple[float, float]] = deque()
        self._displayed_at: deque[tuple[float, float]] = deque()
        self._error: BaseException | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), name=f"vsr preview {name}", daemon=True)
            for name, work in (("frames", self._prepare), ("network", self._enlarge), ("display", self._display))
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, close the clip and free the network; harmless when called again.

        A network that is busy for long, or being built, is not waited for: its thread frees it when it ends.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(_PATIENCE)

    @property
    def times(self) -> list[tuple[float, float]]:
        """(when, milliseconds) of every frame enlarged in the last ten seconds."""
        with self._changed:
            return _recent(self._times, self._now() - _GRAPH)

    def wait(self, number: int = 0, timeout: float | None = None) -> DisplayedFrame | None:
        """Wait for a frame later than ``number``, and return the latest; None if there is none in time.

        Raises:
            VsrError: the clip cannot be played any further.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or self._closing or self._later_than(number), timeout)
            if self._error is not None:
                raise self._error
            return self._later_than(number)

    def _later_than(self, number: int) -> DisplayedFrame | None:
        latest = self._playback.displayed
        return latest.shown if latest is not None and latest.shown.number > number else None

    def status(self) -> Status:
        """The present state and figures."""
        with self._changed:
            playback, upscaler, clip = self._playback, self._upscaler, self._clip
            shown, wanted = playback.displayed, playback.wanted
            opening = "" if playback.settled else f"opening {wanted} …"
            image = shown.shown.network if shown else None
            return Status(
                name=clip.name,
                model=wanted.model,
                models=self._choice.models(wanted.scale),
                scale=wanted.scale if isinstance(wanted.scale, int) else 0,
                scales=tuple(scale for scale in self._choice.scales(wanted.model) if isinstance(scale, int)),
                baseline=wanted.baseline,
                seen=(shown.shown.model or shown.shown.baseline) if shown else "",
                seen_scale=shown.scale if shown and isinstance(shown.scale, int) else 0,
                seen_width=clip.width if image is None else image.shape[1],
                seen_height=clip.height if image is None else image.shape[0],
                width=clip.width,
                height=clip.height,
                pixel_aspect=clip.pixel_aspect,
                runs_on=f"{upscaler.backend} on {upscaler.device}, {upscaler.precision}",
                source_fps=clip.frame_rate,
                shown_fps=len(_recent(self._displayed_at, self._now() - _FPS)) / _FPS,
                dropped=playback.dropped,
                decode_ms=1e3 * shown.pending.decoded.seconds if shown else 0.0,
                network_ms=shown.network_ms if shown else 0.0,
                display_ms=shown.display_ms if shown else 0.0,
                position=shown.shown.position if shown else 0.0,
                target=playback.position,
                duration=clip.duration,
                paused=playback.paused or playback.over,
                notice=playback.notice or opening,
                command=self._command(wanted.model, wanted.scale),
            )

    def pause(self, paused: bool | None = None) -> None:
        """Pause, or go on; toggle by default. At the end, play from the beginning."""
        with self._changed:
            self._count_missed()
            self._go_on(self._playback.pause(paused))

    def seek(self, position: float) -> None:
        """Go to the frame displayed at ``position`` seconds, limited to the clip."""
        with self._changed:
            self._go_on(self._playback.seek(position))

    def skip(self, seconds: float) -> None:
        """Go this many seconds forward from what is displayed, or about to be."""
        with self._changed:
            self._go_on(self._playback.skip(seconds))

    def step(self, *frames: int) -> None:
        """Pause, and go to the next frame (1) or the one before (−1), or several of these."""
        with self._changed:
            for each in frames:
                self._go_on(self._playback.step(each))

    def choose(self, model: str | None = None, scale: int | None = None, baseline: str | None = None) -> None:
        """Show the displayed frame and those that follow in another way; a network that fails becomes a notice."""
        with self._changed:
            look = self._playback.wanted
            look = Look(model or look.model, scale or look.scale, baseline or look.baseline)
            if look.scale in self._choice.scales(look.model):
                self._go_on(self._playback.choose(look))
            else:
                self._go_on(replace(self._playback, notice=f"{look.model} has no weights for {look.times}"))

    def _go_on(self, playback: Playback) -> None:
        self._playback = playback
        self._changed.notify_all()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - `wait` raises it
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _next(self, ask: Callable[[], Task | None]) -> tuple[Task, Playback] | None:
        """Wait for the next task; None when the player is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or ask())
            task = None if self._closing else ask()
            return None if task is None else (task, self._playback)

    def _prepare(self) -> None:
        try:
            while (found := self._next(self._to_prepare)) is not None:
                task, playback = found
                if task is Task.READ:
                    self._read()
                elif task is Task.TAKE:
                    self._take()
                else:
                    self._draft(playback)
        finally:
            if self._reader is not None:
                self._reader.close()

    def _to_prepare(self) -> Task | None:
        reader = self._reader
        task = self._playback.to_prepare(at_end=reader is not None and reader.ended)
        return None if task is Task.TAKE and not (reader and reader.ready) else task

    def _read(self) -> None:
        with self._changed:
            seek = self._playback.seeking
            assert seek is not None
            self._go_on(self._playback.read())
        if self._reader is not None:
            self._reader.close()
        self._reader = Reader(self._clip, seek.position, self._changed)

    def _take(self) -> None:
        assert self._reader is not None
        with self._changed:
            self._count_missed()
            decoded = self._reader.take()
            playback = self._playback
            self._go_on(playback.end() if decoded is None else playback.take(decoded, self._now()))

    def _count_missed(self) -> None:
        if self._reader is not None:
            self._playback = self._playback.miss(self._reader.missed)
            self._reader.missed = 0

    def _draft(self, playback: Playback) -> None:
        made = self._plain(playback, playback.wanted.scale, is_draft=True)
        with self._changed:
            self._go_on(self._playback.enlarge(playback.session, made, None, self._now()))

    def _enlarge(self) -> None:
        try:
            while (found := self._next(lambda: self._playback.to_enlarge())) is not None:
                task, playback = found
                if task is Task.OPEN:
                    self._open(playback)
                    continue
                began = self._now()
                try:
                    made = self._made(playback, self._upscaler, self._reuse)
                except UsageError as error:  # the network does not fit the frame
                    made = self._plain(playback, playback.opened.scale, notice=str(error))
                self._keep(playback, made, None if self._is_new else self._now() - began, began)
        finally:
            self._upscaler.close()

    def _plain(
        self, playback: Playback, scale: int | Size, *, is_draft: bool = False, notice: str = ""
    ) -> EnlargedFrame:
        """Enlarge the first pending frame by the baseline alone."""
        pending, baseline = playback.pending[0], playback.wanted.baseline
        plain = draft(pending.decoded.frame, scale, self._clip.turns, baseline)
        shown = DisplayedFrame(0, pending.decoded.position, baseline, "", plain, plain)
        return EnlargedFrame(pending, shown, scale, is_draft=is_draft, notice=notice)

    def _made(self, playback: Playback, upscaler: Upscaler, reuse: Reuse) -> EnlargedFrame:
        """Enlarge the first pending frame by a network."""
        pending, baseline = playback.pending[0], playback.wanted.baseline
        made = enlarge(pending.decoded.frame, upscaler, self._clip.turns, baseline, reuse)
        shown = DisplayedFrame(0, pending.decoded.position, baseline, upscaler.spec.name, made.plain, made.network)
        network_ms, display_ms = 1e3 * made.network_seconds, 1e3 * made.display_seconds
        scale = upscaler.size or upscaler.scale
        return EnlargedFrame(pending, shown, scale, network_ms=network_ms, display_ms=display_ms)

    def _keep(self, playback: Playback, made: EnlargedFrame, seconds: float | None, began: float) -> None:
        with self._changed:
            now = self._now()
            self._is_new = False
            self._times.append((now, 1e3 * (now - began)))
            self._go_on(self._playback.enlarge(playback.session, made, seconds, now))

    def _open(self, playback: Playback) -> None:
        """Open the wanted network, and try it on the next frame, which compiles it; on failure keep the old one."""
        look, upscaler, reuse = playback.wanted, None, Reuse()
        began = self._now()
        try:
            upscaler = self._choice.open(look.model, look.scale)
            made = self._made(playback, upscaler, reuse) if playback.pending else None
        except Exception as error:  # noqa: BLE001 - whatever it is, the old one works
            if not isinstance(error, VsrError):
                _log.debug("opening %s", look, exc_info=error)
            if upscaler is not None:
                upscaler.close()
            with self._changed:
                self._go_on(self._playback.open(look, str(error) or type(error).__name__))
            return
        with self._changed:
            before, self._upscaler, self._is_new = self._upscaler, upscaler, made is None
            self._reuse = reuse
            self._go_on(self._playback.open(look))
            if made is not None:
                self._keep(playback, made, None, began)
        before.close()

    def _display(self) -> None:
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._closing or self._playback.display_at(self._now()) is not None)
                now = self._now()
                due = self._playback.display_at(now)
                if self._closing:
                    return
                if due is not None and due > now:
                    self._changed.wait(due - now)  # until then, or until anything changes
                elif due is not None:
                    self._displayed_at.append((now, 0.0))
                    self._go_on(self._playback.display(now))


def _recent(times: deque[tuple[float, float]], since: float) -> list[tuple[float, float]]:
    """The entries since then; earlier ones are removed."""
    while times and times[0][0] < since:
        times.popleft()
    return list(times)
