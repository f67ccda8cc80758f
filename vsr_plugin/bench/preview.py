"""Whether the preview keeps up on this machine: a clip is played by a network of ours, and by OpenCV's dnn."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ..backends.graph import onnx_graph
from ..errors import BackendError
from ..models import find_model, load_model
from ..preview.canvas import add_labels, compose, strip
from ..preview.clips import FileClip
from ..preview.pixels import interpolate
from ..preview.player import Player
from ..preview.window import Window, check_display
from ..sizes import Size, Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..engine import Upscaler
    from ..frames import Frame
    from ..preview import Choice, DisplayedFrame
    from ..reuse import Reuse

_WARM_UP = 1.0  # seconds that do not count
_SEEKS = 9


@dataclass(frozen=True, slots=True)
class Played:
    """How well a clip was played.

    Attributes:
        name: What played it: backend, device and precision.
        seconds: Seconds that were measured.
        source_fps: Frames per second of the clip.
        shown_fps: Frames per second that were drawn.
        dropped: Frames that were not enlarged, or not drawn, for lack of time.
        frame_ms: Milliseconds of a frame, from decoded to displayed: the median of the last ten seconds.
        seek_ms: Milliseconds from a seek to its frame: the median of several.
        where: A window, or memory where there is no display.
    """

    name: str
    seconds: float
    source_fps: float
    shown_fps: float
    dropped: int
    frame_ms: float
    seek_ms: float
    where: str


def measure(path: Path, choice: Choice, model: str, scale: int, seconds: float) -> Played:
    """Play a clip in a loop for ``seconds``, in a window if there is a display; then seek in it.

    Raises:
        VsrError: as `Player` does.
    """
    try:
        check_display()
    except BackendError:
        where = "memory, without a display"
    else:
        where = "a window"
    with Player(FileClip(str(path)), choice, model, scale, loop=True) as player:
        viewer = Window(player, path.parent) if where == "a window" else _Viewer(player)
        _frame(player)
        viewer.run(_WARM_UP)
        before, drawn, missed = player.status().dropped, viewer.drawn, viewer.missed
        began = time.monotonic()
        viewer.run(seconds)
        taken = time.monotonic() - began
        status, drawn = player.status(), viewer.drawn - drawn
        dropped = status.dropped - before + viewer.missed - missed
        frame_ms = median([taken for _, taken in player.times] or [math.inf])
        player.pause(paused=True)
        seek_ms = 1e3 * median(_seek(player, (index + 0.5) / _SEEKS) for index in range(_SEEKS))
    fps = drawn / taken
    return Played(status.runs_on, taken, status.source_fps, fps, dropped, frame_ms, seek_ms, where)


class _Viewer:
    """Draws all displayed frames in memory, if there is no window."""

    def __init__(self, player: Player) -> None:
        self.drawn = self.missed = self._number = 0
        self._player = player

    def run(self, seconds: float) -> None:
        """Draw for this many seconds."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            shown = self._player.wait(self._number, left)
            if shown is None:
                continue
            image = compose(shown, "split", 0.5)
            add_labels(image, shown, "split", image.shape[1] // 2)
            now = time.monotonic()
            np.concatenate([image, strip(self._player.status(), self._player.times, image.shape[1], now, 1.0)])
            self.drawn += 1
            self.missed += shown.number - self._number - 1
            self._number = shown.number


def _seek(player: Player, part: float) -> float:
    """Seconds that a seek to this part of the clip takes, while it is paused."""
    number = _frame(player).number
    began = time.perf_counter()
    player.seek(part * player.status().duration)
    _frame(player, number)
    return time.perf_counter() - began


def _frame(player: Player, after: int = 0) -> DisplayedFrame:
    """The next frame enlarged by the network."""
    while True:
        found = player.wait(after)
        assert found is not None
        if found.model:
            return found
        after = found.number


class DnnNetworks:
    """Models of luma as OpenCV's dnn module runs them; see `preview.Choice`."""

    def models(self, scale: int | Size) -> tuple[str, ...]:
        """No models to switch to."""
        return ()

    def scales(self, model: str) -> tuple[int, ...]:
        """The scales of the model."""
        return tuple(find_model(model).scales)

    def open(self, model: str, scale: int | Size) -> Upscaler:
        """Export a model, and read it with OpenCV; at a scale."""
        assert isinstance(scale, int)
        network: Any = _DnnUpscaler(model, scale)
        return network  # type: ignore[no-any-return] # it has all that a player uses of an upscaler


class _DnnUpscaler:
    backend, device, precision, size = "OpenCV dnn", "cpu", "float32", None

    def __init__(self, model: str, scale: int) -> None:
        self.spec, self.scale = find_model(model, scale), scale
        graph, _ = onnx_graph(load_model(model, scale), self.spec, "float32")
        self._net = cv2.dnn.readNetFromONNX(np.frombuffer(graph.SerializeToString(), np.uint8))

    def target(self, frame: Frame) -> Target:
        """The output's size for frames of this geometry."""
        return Target(frame.width * self.scale, frame.height * self.scale, (self.scale,))

    def stage(self, frames: Iterator[Frame], _: Reuse | None = None) -> Iterator[Frame]:
        """As `Upscaler.stage`; every frame is enlarged."""
        return map(self._enlarge, frames)

    def _enlarge(self, frame: Frame) -> Frame:
        """Luma by the network, chroma bicubically."""
        x = frame.planes[0][None, None].astype(np.float32) / 255
        self._net.setInput(x)
        luma = (self._net.forward()[0, 0].clip(0, 1) * 255).round().astype(np.uint8)
        large = interpolate(frame, self.target(frame))
        return replace(large, planes=(luma, *large.planes[1:]))

    def close(self) -> None:
        """Do nothing: there is nothing to close."""
