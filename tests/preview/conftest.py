"""A clip of a few frames, and networks that cost nothing, or as much as a test wants."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("cv2", reason="no OpenCV")

from tests.stream.conftest import Nearest, media
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError
from vsr_plugin.models import ModelSpec
from vsr_plugin.preview.clips import open_clip
from vsr_plugin.preview.player import Player

__all__ = ["CLIP", "FakeNetworks", "Play", "media", "play"]

CLIP = Path(__file__).parents[2] / "examples/clip.mp4"

Play = Callable[..., Player]


class _Slow(nn.Module):
    def __init__(self, scale: int, seconds: float) -> None:
        super().__init__()
        self.network, self.seconds = Nearest(scale), seconds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        large: torch.Tensor = self.network(x)
        return 1.0 - large  # unlike bicubic everywhere


class _Bursting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")


class FakeNetworks:
    """Models: "fast" has ×2 and ×3, "slow" takes its time; "broken" cannot be opened, "bursting" cannot be run."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.opened: list[tuple[str, int]] = []

    def models(self, scale: int) -> tuple[str, ...]:
        return tuple(name for name in ("fast", "slow", "broken", "bursting") if scale in self.scales(name))

    def scales(self, model: str) -> tuple[int, ...]:
        return (2, 3) if model == "fast" else (2,)

    def open(self, model: str, scale: int) -> Upscaler:
        if model == "broken":
            time.sleep(self.seconds)
            raise BackendError("broken: it does not work")
        self.opened.append((model, scale))
        module = _Bursting() if model == "bursting" else _Slow(scale, self.seconds if model == "slow" else 0.0)
        return Upscaler.from_module(
            module, ModelSpec(model, "", "", {scale: 0}), scale, backend="eager", device="cpu", batch=1
        )


@pytest.fixture
def play() -> Iterator[Play]:
    """``play(path, **options)``: a player that is closed at the end."""
    players: list[Player] = []

    def start(path: Path | str = CLIP, model: str = "fast", *, seconds: float = 0.0, **options: object) -> Player:
        how: dict[str, object] = {"scale": 2, **options}
        players.append(Player(open_clip(str(path)), FakeNetworks(seconds), model, **how))  # type: ignore[arg-type]
        return players[-1]

    yield start
    for player in players:
        player.close()
