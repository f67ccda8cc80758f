"""A clip as a network enlarges it, while it plays: in a window on this machine, and on a page for another one.

    decode ─▶ is there time? ─▶ network, bicubic ─▶ when? ─▶ DisplayedFrame ─▶ window, page

`playback` decides what is done next with a frame (`stages`), by `clock` which frames and when; `player` does it, with
frames that `reader` decodes ahead. `pixels` turns frames into images for a screen, `canvas` draws what a `viewer` wants
to see, `window` and `server` show it, `display` knows the screen. Here is what goes between them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy import ndarray

    from ..engine import Upscaler
    from ..frames import Frame
    from ..sizes import Size

    type Image = ndarray[tuple[int, int, int], Any]  # (H, W, 3) uint8, blue green red

__all__ = ["BASELINES", "KEYS", "VIEWS", "Choice", "Clip", "DisplayedFrame", "Status"]

_LONGEST_NAME = 200  # bytes of a clip's name in the names of its images

# What the network is compared with.
BASELINES = ("bicubic", "Lanczos")

# What is seen: a split that moves, the network alone, what it changes times eight, both beside each other.
VIEWS = ("split", "network", "difference", "side by side")

# Key → what it does; the window, the page and --help have them from here.
KEYS = {
    "space": "pause, and play",
    "← →": "five seconds back, and on",
    "↓ ↑": "one frame back, and on; also , and .",
    "1 … 9": "another model",
    "+ -": "a larger scale, a smaller one",
    "v": "another view: split, network, difference × 8, side by side",
    "b": "beside bicubic, or beside Lanczos",
    "z": "100 %: a pixel of the frame is one of the screen; and back",
    "l": "loupe, on and off",
    "[ ]": "loupe, from 2× to 16×; also the mouse wheel",
    "drag": "the split line; at 100 % its handle, or the frame",
    "i": "figures, on and off",
    "s": "save what is seen as PNG",
    "c": "the vsr-encode command for this",
    "f": "full screen; esc leaves it",
    "?": "these keys; esc closes them",
    "q": "quit",
}


@dataclass(frozen=True, slots=True)
class Status:
    """What is playing, and how well.

    Attributes:
        name: Of the clip.
        model: The network that is chosen; while it is opened, another may still be seen.
        models: What else could be chosen at this scale, in the order of their keys.
        scale: The enlargement that is chosen; 0 if it is a size.
        scales: The model's, as far as there are weights; none if a size is chosen.
        baseline: What the network is compared with.
        seen: What is displayed where the network should be: its name, or the baseline's until it is there.
        seen_scale: The enlargement that is displayed; 0 if it is a size.
        seen_width: Of what is displayed, in pixels.
        seen_height: ″
        width: Of the clip, in pixels.
        height: ″
        pixel_aspect: Width of a pixel over its height, as it is shown.
        runs_on: Backend, device and precision, in words.
        source_fps: Frames per second of the clip, 0 if there is no knowing.
        shown_fps: Frames displayed per second, in the last two seconds.
        dropped: Frames so far that there was no time for.
        decode_ms: Milliseconds that a frame takes, by stage; the latest. What a window or a page then does with it
            is theirs to add.
        network_ms: ″
        display_ms: ″
        position: Of what is displayed, in seconds from the beginning.
        target: Of what is displayed or about to be, after a seek.
        duration: ″ of the whole, 0 if there is no knowing.
        paused: Whether time stands still.
        notice: What is waited for, or the last thing that did not work; empty if all is well.
        command: What encodes the clip as it is seen; empty if nothing does.
    """

    name: str
    model: str
    models: tuple[str, ...]
    scale: int
    scales: tuple[int, ...]
    baseline: str
    seen: str
    seen_scale: int
    seen_width: int
    seen_height: int
    width: int
    height: int
    pixel_aspect: float
    runs_on: str
    source_fps: float
    shown_fps: float
    dropped: int
    decode_ms: float
    network_ms: float
    display_ms: float
    position: float
    target: float
    duration: float
    paused: bool
    notice: str
    command: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class DisplayedFrame:
    """One frame of the clip, enlarged twice.

    Attributes:
        number: Counts up with every frame that is displayed.
        position: Seconds from the beginning of the clip.
        baseline: Out of `BASELINES`.
        model: The network's name; empty as long as ``network`` is the baseline, too.
        plain: Enlarged by the baseline.
        network: Enlarged by the network; of the same size.
    """

    number: int
    position: float
    baseline: str
    model: str
    plain: Image
    network: Image

    def files(self, clip: str) -> dict[str, Image]:
        """What is saved as PNG, and under which names: the baseline, and the network as soon as it is there.

        Args:
            clip: Its name.
        """
        name = Path(clip).stem.encode()[:_LONGEST_NAME].decode(errors="ignore")
        stem = f"{name}_{self.position:08.3f}"
        found = {f"{stem}_{self.baseline.lower()}.png": self.plain}
        return found | ({f"{stem}_{self.model}.png": self.network} if self.model else {})


class Clip(Protocol):
    """What is played: a file, a camera, an image.

    Attributes:
        name: What it is called.
        width: Pixels, as it is shown.
        height: ″
        turns: Quarter turns to the left that a frame needs before it is shown.
        pixel_aspect: Width of a pixel over its height, as it is shown.
        frame_rate: Average, in frames per second; 0 if there is no knowing.
        duration: Seconds; 0 if there is no knowing, and no jumping.
        live: Whether frames come as time passes, so that the newest is shown as soon as it is made.
    """

    name: str
    width: int
    height: int
    turns: int
    pixel_aspect: float
    frame_rate: float
    duration: float
    live: bool

    def frames(self, position: float, cancelled: Callable[[], bool] = ...) -> Generator[tuple[Frame, float]]:
        """Frames from the one that is seen at ``position`` on, each with its position in seconds.

        Args:
            position: In seconds.
            cancelled: Asked now and then: once it is true, nobody waits for more.
        """
        ...


class Choice(Protocol):
    """The networks to choose from."""

    def models(self, scale: int | Size) -> tuple[str, ...]:
        """Names of those that can be opened at this scale, in the order of their keys."""
        ...

    def scales(self, model: str) -> tuple[int | Size, ...]:
        """What a model can be opened at."""
        ...

    def open(self, model: str, scale: int | Size) -> Upscaler:
        """Open one.

        Raises:
            VsrError: as `Upscaler` does.
        """
        ...
