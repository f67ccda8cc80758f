"""Play a clip through a network: in a window on this machine, or on a web page for another one.

    decode ─▶ is there time? ─▶ network, bicubic ─▶ when? ─▶ DisplayedFrame ─▶ window, page

`playback` decides what to do next with a frame (`stages`), and by `clock` which frames to show and when. `player` does
it, with frames that `reader` decodes ahead. `pixels` makes images for a screen, `canvas` draws what a `viewer` wants to
see, `window` and `server` show it, `display` knows the screen. This module has the types that they share.
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

# Interpolations to compare the network with.
BASELINES = ("bicubic", "Lanczos")

# A movable split, the network alone, its difference from the baseline times eight, both side by side.
VIEWS = ("split", "network", "difference", "side by side")

# Key → what it does; for the window, the page and --help.
KEYS = {
    "space": "pause or play",
    "← →": "five seconds back or forward",
    "↓ ↑": "one frame back or forward; also , and .",
    "1 … 9": "choose a model",
    "+ -": "larger or smaller scale",
    "v": "next view: split, network, difference × 8, side by side",
    "b": "compare with bicubic or Lanczos",
    "z": "100 % or the whole frame",
    "l": "loupe on or off",
    "[ ]": "magnify less or more, 2× to 16×; also the mouse wheel",
    "drag": "move the split line; at 100 %, its handle or the frame",
    "i": "figures on or off",
    "s": "save both images as PNG",
    "c": "the vsr-encode command for this",
    "f": "full screen; esc leaves it",
    "?": "these keys; esc hides them",
    "q": "quit",
}


@dataclass(frozen=True, slots=True)
class Status:
    """The state and the figures of a preview.

    Attributes:
        name: Name of the clip.
        model: The chosen network; while it is opened, another may still be displayed.
        models: The models that can be chosen at this scale, in the order of their keys.
        scale: The chosen scale; 0 if a size is chosen.
        scales: Scales of the model that have weights; empty if a size is chosen.
        baseline: What the network is compared with.
        seen: What is displayed in the network's place: its name, or the baseline's until its frame is ready.
        seen_scale: Scale of what is displayed; 0 for a size.
        seen_width: Width of what is displayed, in pixels.
        seen_height: ″
        width: Width of the clip, in pixels.
        height: ″
        pixel_aspect: Width of a pixel over its height, as it is shown.
        runs_on: Backend, device and precision, in words.
        source_fps: Frames per second of the clip, 0 if unknown.
        shown_fps: Frames displayed per second, in the last two seconds.
        dropped: Frames dropped so far for lack of time.
        decode_ms: Milliseconds that the latest frame took, by stage. A window or a page adds the time that it takes
            itself.
        network_ms: ″
        display_ms: ″
        position: Position of what is displayed, in seconds from the beginning.
        target: ″ of what is displayed or, after a seek, about to be.
        duration: Seconds of the whole clip, 0 if unknown.
        paused: Whether playback is paused or at the end.
        notice: What is being waited for, or the last failure; empty if there is none.
        command: The command that encodes the clip as displayed; empty if there is none.
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
        baseline: One of `BASELINES`.
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
        """The images to save as PNG, by file name: the baseline's, and the network's if there is one.

        Args:
            clip: Name of the clip.
        """
        name = Path(clip).stem.encode()[:_LONGEST_NAME].decode(errors="ignore")
        stem = f"{name}_{self.position:08.3f}"
        found = {f"{stem}_{self.baseline.lower()}.png": self.plain}
        return found | ({f"{stem}_{self.model}.png": self.network} if self.model else {})


class Clip(Protocol):
    """A clip to play: a file, a camera, an image.

    Attributes:
        name: Name to display.
        width: Pixels, as displayed.
        height: ″
        turns: Quarter turns to the left that a frame needs before it is shown.
        pixel_aspect: Width of a pixel over its height, as it is shown.
        frame_rate: Average, in frames per second; 0 if unknown.
        duration: Seconds; 0 if unknown, and then there is no seeking.
        live: Whether frames come in real time, so that the newest is shown as soon as it is ready.
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
        """Frames from the one displayed at ``position`` on, each with its position in seconds.

        Args:
            position: In seconds.
            cancelled: Called now and then; once it returns True, no more frames are wanted.
        """
        ...


class Choice(Protocol):
    """The networks to choose from."""

    def models(self, scale: int | Size) -> tuple[str, ...]:
        """Names of the models that can be opened at this scale, in the order of their keys."""
        ...

    def scales(self, model: str) -> tuple[int | Size, ...]:
        """The scales that a model can be opened at, or the size."""
        ...

    def open(self, model: str, scale: int | Size) -> Upscaler:
        """Open a network.

        Raises:
            VsrError: as `Upscaler` does.
        """
        ...
