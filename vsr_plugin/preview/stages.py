"""A frame on its way through the player: decoded, pending, enlarged; and how it should be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..frames import Frame
    from ..sizes import Size
    from . import DisplayedFrame


@dataclass(frozen=True, slots=True)
class Look:
    """How a clip is enlarged for display.

    Attributes:
        model: The network.
        scale: Its scale, or the size of the output.
        baseline: What it is compared with, one of `BASELINES`.
    """

    model: str
    scale: int | Size
    baseline: str = "bicubic"

    def __str__(self) -> str:
        return f"{self.model} {self.times}"

    @property
    def times(self) -> str:
        """The scale or the size, in words."""
        return f"×{self.scale}" if isinstance(self.scale, int) else f"to {self.scale}"

    @property
    def network(self) -> tuple[str, int | Size]:
        """The network to open."""
        return self.model, self.scale


@dataclass(frozen=True, slots=True)
class Seek:
    """A position to go to.

    Attributes:
        position: Seconds of the clip.
        after: Whether to go to the frame after the one displayed there.
        loop: Whether the clip begins again, while the clock goes on.
    """

    position: float
    after: bool = False
    loop: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """A decoded frame.

    Attributes:
        frame: Its samples.
        position: Seconds from the beginning of the clip.
        seconds: Seconds that decoding took.
    """

    frame: Frame
    position: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PendingFrame:
    """A frame to be enlarged.

    Attributes:
        decoded: The frame.
        due: When to display it, in seconds of the clip, which go on counting when a loop begins again.
        at_once: Whether it is displayed as soon as it is ready: after a seek, and by another network.
        follows: Whether no frame was dropped before it.
        drafted: Whether it was enlarged without the network.
    """

    decoded: DecodedFrame
    due: float
    at_once: bool = False
    follows: bool = True
    drafted: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class EnlargedFrame:
    """A frame that is displayed, or waits to be.

    Attributes:
        pending: The frame.
        shown: The images for the viewers.
        scale: How many times larger it is, or the size that it has.
        is_draft: Whether the network's frame will follow.
        network_ms: Milliseconds that the network took.
        display_ms: Milliseconds that the rest took.
        notice: Why the network's image is missing; empty if it is not.
        not_before: When it may be displayed.
    """

    pending: PendingFrame
    shown: DisplayedFrame
    scale: int | Size
    is_draft: bool = False
    network_ms: float = 0.0
    display_ms: float = 0.0
    notice: str = ""
    not_before: float = 0.0
