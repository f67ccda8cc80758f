"""A clip of a few frames, and networks that cost nothing, or as much as a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import nn

from tests import PATIENCE
from vsr_plugin.execution import Execution

pytest.importorskip("cv2", reason="no OpenCV")

from tests.stream.conftest import Nearest, media
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError
from vsr_plugin.models import NetworkSpec
from vsr_plugin.preview import DisplayedFrame
from vsr_plugin.preview.clips import open_clip
from vsr_plugin.preview.player import Player

__all__ = ["CLIP", "FakeNetworks", "Gate", "Play", "Time", "media", "network_frame", "play"]

CLIP = Path(__file__).parents[2] / "examples/clip.mp4"

Play = Callable[..., Player]


def network_frame(player: Player, after: int = 0) -> DisplayedFrame:
    """The next frame that is there by the network."""
    while (found := player.wait(after, PATIENCE)) is not None and not found.model:
        after = found.number
    assert found is not None
    return found


class _Single:
    """What is not copied with the network that holds it."""

    def __deepcopy__(self, _: object) -> Self:
        return self


class Time(_Single):
    """Seconds that pass when a test says so, however slow the machine is."""

    def __init__(self) -> None:
        self._now = 100.0

    def __call__(self) -> float:
        return self._now

    def pass_by(self, seconds: float) -> None:
        self._now += seconds


class Gate(_Single):
    """Lets images through one by one, when a test says so."""

    def __init__(self) -> None:
        self._free = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)

    def __call__(self, _: float) -> None:
        """What a network does in place of its work."""
        self._arrived.release()
        self._free.acquire(timeout=PATIENCE)

    def wait(self) -> None:
        """Until the next image is being made."""
        assert self._arrived.acquire(timeout=PATIENCE)

    def open(self, images: int = 1) -> None:
        self._free.release(images)


class _Slow(nn.Module):
    def __init__(self, scale: int, seconds: float, work: Callable[[float], None]) -> None:
        super().__init__()
        self.network, self.seconds, self.work = Nearest(scale), seconds, work

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.seconds:
            self.work(self.seconds)
        large: torch.Tensor = self.network(x)
        return 1.0 - large  # unlike bicubic everywhere


class _Bursting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")


class FakeNetworks:
    """Models: "fast" has ×2 and ×3, "slow" takes its time; "broken" cannot be opened, "bursting" cannot be run.

    Args:
        seconds: That "slow" takes for an image.
        work: What it does for so long.
    """

    def __init__(self, seconds: float = 0.0, work: Callable[[float], None] = time.sleep) -> None:
        self.seconds, self.work = seconds, work
        self.opened: list[tuple[str, int]] = []

    def models(self, scale: Any) -> tuple[str, ...]:
        return tuple(name for name in ("fast", "slow", "broken", "bursting", "buggy") if scale in self.scales(name))

    def scales(self, model: str) -> tuple[int, ...]:
        return (2, 3) if model == "fast" else (2,)

    def open(self, model: str, scale: Any) -> Upscaler:
        if model == "broken":
            self.work(self.seconds)
            raise BackendError("broken: it does not work")
        if model == "buggy":
            raise LookupError("no such thing")
        self.opened.append((model, scale))
        module = (
            _Bursting() if model == "bursting" else _Slow(scale, self.seconds if model == "slow" else 0.0, self.work)
        )
        return Upscaler.from_module(
            module,
            NetworkSpec(name=model, overlap={scale: 0}),
            scale,
            Execution(backend="eager", device="cpu", batch=1),
        )


@pytest.fixture
def play() -> Iterator[Play]:
    """``play(path, **options)``: a player that is closed at the end."""
    players: list[Player] = []
    gates: list[Gate] = []

    def start(
        path: Path | str = CLIP,
        model: str = "fast",
        *,
        seconds: float = 0.0,
        work: Callable[[float], None] = time.sleep,
        **options: object,
    ) -> Player:
        how: dict[str, object] = {"scale": 2, **options}
        networks = FakeNetworks(seconds, work)
        if isinstance(work, Gate):
            gates.append(work)
        players.append(Player(open_clip(str(path)), networks, model, **how))  # type: ignore[arg-type]
        return players[-1]

    yield start
    for gate in gates:
        gate.open(1000)
    for player in players:
        player.close()
