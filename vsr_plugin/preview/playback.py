"""The state of playback as a value: every event returns the next one. Nothing here waits or uses threads.

    seek ─▶ READ ─▶ TAKE ─▶ pending ─▶ ENLARGE ─▶ queue ─▶ displayed

If the network is slow, a DRAFT of the pending frame is displayed until the network's frame is ready.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from .clock import Clock
from .stages import DecodedFrame, EnlargedFrame, Look, PendingFrame, Seek

AHEAD = 2  # enlarged frames that wait until they are due
_GRACE = 0.1  # seconds that a draft waits for the network's frame
_INSIDE = 1e-4  # seconds added to the position of a wanted frame, so that rounding does not miss it
_USUAL = 1 / 25  # seconds of a frame, if neither it nor the clip states any


class Task(Enum):
    """What to do next."""

    READ = auto()  # begin to decode at `Playback.seeking`
    TAKE = auto()  # take the next decoded frame
    DRAFT = auto()  # enlarge the first pending frame without the network
    OPEN = auto()  # open the wanted network
    ENLARGE = auto()  # enlarge the first pending frame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Playback:
    """The state of playback; the methods for events return the state after them.

    Attributes:
        wanted: How the clip should be shown.
        opened: The network that is open, and the baseline.
        duration: Seconds of the clip; 0 if unknown, and then there is no seeking.
        live: Whether frames come in real time.
        loop: Whether to begin again at the end.
        frame_rate: Frames per second of the clip; 0 if unknown.
        seeking: Where to read from next.
        target: Position of the last seek, until its frame is displayed.
        session: Counts up with every seek and every choice; frames of an earlier session are not displayed.
        pending: Frames to be enlarged, the next one first.
        draft: The next frame by the baseline alone, until the network's is ready.
        queue: Frames to be displayed, the next one first.
        displayed: The frame on the screen.
        paused: Whether playback is paused.
        steps: Frames to display although it is paused.
        ended: Whether the last frame is decoded.
        dropped: Frames dropped so far for lack of time.
        notice: The last failure; empty if there is none.
        clock: When frames are due.
        first: The seek whose first frame is not decoded yet.
        begun: Seconds on the clock at which the clip began; grows with every loop.
        reached: Position at which the last decoded frame ends.
        left_out: The last decoded frame, if it was dropped.
        gap: Whether frames were dropped since the last one that was kept.
        slow: Whether the network takes longer than the grace; None until that is known.
    """

    wanted: Look
    opened: Look
    duration: float = 0.0
    live: bool = False
    loop: bool = False
    frame_rate: float = 0.0
    seeking: Seek | None = None
    target: float | None = None
    session: int = 0
    pending: tuple[PendingFrame, ...] = ()
    draft: EnlargedFrame | None = None
    queue: tuple[EnlargedFrame, ...] = ()
    displayed: EnlargedFrame | None = None
    paused: bool = False
    steps: int = 0
    ended: bool = False
    dropped: int = 0
    notice: str = ""
    clock: Clock = field(default_factory=Clock)
    first: Seek | None = None
    begun: float = 0.0
    reached: float = 0.0
    left_out: DecodedFrame | None = None
    gap: bool = False
    slow: bool | None = None

    # Queries.

    @property
    def over(self) -> bool:
        """Whether the last frame of the clip is displayed."""
        return self.ended and not self.queue and not self.pending

    @property
    def settled(self) -> bool:
        """Whether the wanted network is open."""
        return self.wanted.network == self.opened.network

    @property
    def position(self) -> float:
        """Position in seconds of what is displayed, or about to be."""
        if self.target is not None:
            return self.target
        return self.displayed.pending.decoded.position if self.displayed else 0.0

    def to_prepare(self, *, at_end: bool = False) -> Task | None:
        """The next task of decoding and drafts.

        Args:
            at_end: Whether there is no further frame; the end is taken even while paused.
        """
        if self.seeking is not None:
            return Task.READ
        if self.pending:
            first = self.pending[0]
            return Task.DRAFT if first.at_once and not first.drafted and self._may_be_slow else None
        if self.ended or len(self.queue) >= AHEAD:
            return None
        return Task.TAKE if self.first is not None or self._goes_on or at_end else None

    def to_enlarge(self) -> Task | None:
        """The next task of the network."""
        if not self.settled:
            return Task.OPEN
        if self.seeking is not None or not self.pending or len(self.queue) >= AHEAD:
            return None
        return Task.ENLARGE if self.pending[0].at_once or self._goes_on else None

    def display_at(self, now: float) -> float | None:
        """When to display the next frame; None if there is none to display."""
        if self.draft is not None:
            return self.draft.not_before
        if not self.queue:
            return None
        first = self.queue[0].pending
        if first.at_once or self.steps or self.live:
            return None if self.paused and not first.at_once and not self.steps else now
        return None if self.paused else self.clock.due(first.due, now)

    @property
    def _goes_on(self) -> bool:
        return not self.paused or self.steps > len(self.queue)

    @property
    def _may_be_slow(self) -> bool:
        return self.slow is not False or not self.settled

    # Events: what the user does.

    def pause(self, paused: bool | None = None) -> Playback:
        """Pause, or go on; toggle by default. At the end, play from the beginning."""
        after = self
        if not paused and self.over:
            after, paused = self._go_to(Seek(0.0)), False
        return replace(
            after,
            paused=not self.paused if paused is None else paused,
            steps=0,
            clock=Clock(),
            queue=() if self.live else after.queue,
        )

    def seek(self, position: float, *, after: bool = False) -> Playback:
        """Go to the frame displayed at ``position`` seconds, limited to the clip, or to the frame after it."""
        if not self.duration:
            return self
        return self._go_to(Seek(min(max(0.0, position), self.duration), after))

    def _go_to(self, seek: Seek) -> Playback:
        return replace(self._reset(), seeking=seek, target=seek.position, ended=False, steps=0, first=None, gap=False)

    def skip(self, seconds: float) -> Playback:
        """Go this many seconds forward from what is displayed, or about to be."""
        return self.seek(self.position + seconds)

    def step(self, frames: int) -> Playback:
        """Pause, and go to the next frame (1) or the one before (−1)."""
        after = replace(self, paused=True)
        if self.displayed is None:
            return after
        if frames > 0:
            return after._step_on()
        if self.steps:
            return replace(after, steps=self.steps - 1)
        back = _INSIDE if self.target is None else self._seconds(self.displayed.pending.decoded)
        return after.seek(self.position - back)

    def _step_on(self) -> Playback:
        """Go to the next frame; if it was dropped for lack of time, it is read again."""
        assert self.displayed is not None
        if self.live:  # the newest frame is the next one
            return replace(self, queue=(), steps=self.steps + 1)
        coming = self.steps + sum(each.pending.at_once for each in self.queue)  # will be displayed anyway
        waiting = [*(each.pending for each in self.queue), *self.pending]
        follows = waiting[coming].follows if coming < len(waiting) else not self.gap
        if self.seeking is None and not follows and self.duration:
            last = waiting[coming - 1] if coming else self.displayed.pending
            return replace(self.seek(last.decoded.position + _INSIDE, after=True), steps=1)
        return replace(self, steps=self.steps + (not self.ended or coming < len(waiting)))

    def choose(self, look: Look) -> Playback:
        """Show the displayed frame and those that follow in another way."""
        again = [each.pending for each in self.queue]
        shown = self.displayed.pending if self.displayed is not None else None
        if shown is not None and self.target is None and all(p.decoded is not shown.decoded for p in self.pending):
            again.insert(0, replace(shown, at_once=True))
        pending = [replace(each, drafted=False) for each in (*again, *self.pending)]
        if self.live:
            del pending[1:]
        return replace(self._reset(), wanted=look, pending=tuple(pending), notice="")

    def _reset(self) -> Playback:
        """Drop all frames in progress."""
        return replace(self, session=self.session + 1, pending=(), draft=None, queue=(), clock=Clock())

    # Events: what has been done.

    def read(self) -> Playback:
        """Reading begins at the wanted position."""
        seek = self.seeking
        assert seek is not None
        if seek.loop:
            return replace(self, seeking=None, begun=self.begun + self.reached, reached=0.0)
        return replace(self, seeking=None, first=seek, begun=0.0, reached=seek.position, left_out=None)

    def take(self, decoded: DecodedFrame, now: float) -> Playback:
        """A frame was decoded: it will be enlarged, if there is time for that."""
        if self.seeking is not None:
            return self
        after = replace(self, first=None, reached=decoded.position + self._seconds(decoded))
        if self.first is not None and self.first.after:
            return after
        due, at_once = self.begun + decoded.position, self.first is not None
        wanted = at_once or self.live or self.steps > len(self.queue)
        if not wanted and not self.clock.has_time_for(due, self._seconds(decoded), now):
            return replace(after, left_out=decoded, gap=True, dropped=self.dropped + 1)
        pending = PendingFrame(decoded, due, at_once, follows=not self.gap)
        return replace(after, pending=(*self.pending, pending), left_out=None, gap=False)

    def end(self) -> Playback:
        """There is no further frame: begin again, or stop at the last one, even if it was dropped."""
        if self.seeking is not None:
            return self
        if self.loop and self.duration and self.reached > 0:
            return replace(self, seeking=Seek(0.0, loop=True), left_out=None)
        if self.left_out is not None:
            last = PendingFrame(self.left_out, self.begun + self.left_out.position, follows=False)
            return replace(self, pending=(*self.pending, last), left_out=None, gap=False, dropped=self.dropped - 1)
        steps = min(self.steps, len(self.queue) + len(self.pending))
        return replace(self, ended=True, first=None, target=None, steps=steps)

    def miss(self, frames: int) -> Playback:
        """Newer frames of a camera have replaced this many; while paused, they do not count as dropped."""
        return self if self.paused else replace(self, dropped=self.dropped + frames)

    def enlarge(self, session: int, enlarged: EnlargedFrame, seconds: float | None, now: float) -> Playback:
        """A frame is ready, by the network or as a draft.

        Args:
            session: The session for which it was made; a frame of an earlier one is not displayed.
            enlarged: The frame.
            seconds: Seconds it took; None for a draft, and for a network's first frame, which may have compiled it.
            now: When it is ready.
        """
        if session != self.session or not self.pending or enlarged.pending.decoded is not self.pending[0].decoded:
            return self
        first, *rest = self.pending
        if enlarged.is_draft:
            draft = replace(enlarged, not_before=now if self.slow and self.settled else now + _GRACE)
            return replace(self, pending=(replace(first, drafted=True), *rest), draft=draft)
        return replace(
            self,
            pending=tuple(rest),
            draft=None,
            queue=(*self.queue, enlarged),
            clock=self.clock if seconds is None else self.clock.spent(seconds),
            slow=self.slow if seconds is None else seconds > _GRACE,
            notice=self.notice or enlarged.notice,
        )

    def open(self, look: Look, failure: str = "") -> Playback:
        """A network was opened and replaces the one before; or it failed, and the one before stays."""
        if not failure:
            return replace(self, opened=look, slow=None)
        if self.wanted.network != look.network:
            return self
        after = replace(self, wanted=replace(self.opened, baseline=self.wanted.baseline), notice=failure)
        shown = self.displayed
        if (
            self.pending
            and shown is not None
            and shown.pending.decoded is self.pending[0].decoded
            and shown.shown.model
        ):
            return replace(after, pending=self.pending[1:], draft=None)  # the frame displayed is the old network's
        return after

    def display(self, now: float) -> Playback:
        """The next frame is displayed."""
        if self.draft is not None:
            return replace(self._displaying(self.draft), draft=None)
        first, *rest = self.queue
        clock, steps = self.clock, self.steps
        if first.pending.at_once or steps or self.live:
            clock = Clock()
            steps -= steps > 0 and not first.pending.at_once
        clock = clock.started(first.pending.due, now)
        return replace(self._displaying(first), queue=tuple(rest), steps=steps, clock=clock)

    def _displaying(self, frame: EnlargedFrame) -> Playback:
        number = self.displayed.shown.number + 1 if self.displayed is not None else 1
        return replace(self, displayed=replace(frame, shown=replace(frame.shown, number=number)), target=None)

    def _seconds(self, decoded: DecodedFrame) -> float:
        stated = float(decoded.frame.duration * decoded.frame.time_base)
        return stated or (1 / self.frame_rate if self.frame_rate else _USUAL)
