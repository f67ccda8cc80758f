"""A frame on its way through the player: decoded, pending, enlarged; and how it is to be seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..frames import Frame
    from ..sizes import Size
    from . import DisplayedFrame


@dataclass(frozen=True, slots=True)
class Look:
    """What a clip is seen through.

    Attributes:
        model: The network.
        scale: Its enlargement, or the size that frames get.
        baseline: What it is compared with, out of `BASELINES`.
    """

    model: str
    scale: int | Size
    baseline: str = "bicubic"

    def __str__(self) -> str:
        return f"{self.model} {self.times}"

    @property
    def times(self) -> str:
        """The enlargement or the size, in words."""
        return f"×{self.scale}" if isinstance(self.scale, int) else f"to {self.scale}"

    @property
    def network(self) -> tuple[str, int | Size]:
        """What must be opened for it."""
        return self.model, self.scale


@dataclass(frozen=True, slots=True)
class Seek:
    """A place to go to.

    Attributes:
        position: Seconds of the clip.
        after: Whether the frame after the one that is seen there is meant.
        loop: Whether the clip begins again, while time goes on.
    """

    position: float
    after: bool = False
    loop: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrame:
    """A frame as it is decoded.

    Attributes:
        frame: Its samples.
        position: Seconds from the beginning of the clip.
        seconds: That decoding took.
    """

    frame: Frame
    position: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class PendingFrame:
    """A frame to be enlarged.

    Attributes:
        decoded: The frame.
        due: When, in seconds of the clock; they go on where a loop begins again.
        at_once: Whether it is displayed as soon as it is there: after a seek, and by another network.
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
    """A frame that is displayed, or waits for it.

    Attributes:
        pending: The frame.
        shown: What the viewers get of it.
        scale: How many times larger it is, or the size that it has.
        is_draft: Whether the network's own is to follow.
        network_ms: What the network took.
        display_ms: What all else took.
        notice: Why the network's is missing; empty if it is not.
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
