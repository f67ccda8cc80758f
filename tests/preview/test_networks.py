from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.stream.conftest import Media
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.frames import Frame
from vsr_plugin.models import MODELS
from vsr_plugin.preview import measure
from vsr_plugin.preview.clips import open_clip
from vsr_plugin.preview.measure import DnnNetworks
from vsr_plugin.preview.networks import Networks

from .conftest import CLIP, FakeNetworks


def test_what_has_weights_can_be_chosen(tmp_path: Path) -> None:
    networks = Networks(backend="eager", device="cpu")
    assert {"espcn", "fsrcnn", "srcnn"} <= set(networks.models(3))
    assert "lapsrn" not in networks.models(3)
    assert networks.scales("lapsrn") == (2, 4, 8)
    assert "srcnn-915" not in networks.models(2)
    own = Networks(weights=tmp_path / "mine.safetensors", own="srcnn-915")
    assert own.scales("srcnn-915") == tuple(MODELS["srcnn-915"].scales)
    with networks.open("espcn", 3) as upscaler:
        assert (upscaler.batch, upscaler.backend) == (1, "eager")


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({"espcn": 0.001, "fsrcnn": 0.002, "srcnn": 0.01}, "fsrcnn"),  # of the highest PSNR, though srcnn costs more
        ({"fsrcnn": 0.05, "espcn": 0.001, "srcnn": 0.5}, "espcn"),
        ({"espcn": 0.5, "fsrcnn": 0.4, "srcnn": 0.5}, "fsrcnn"),  # the least work, where nobody keeps up
    ],
)
def test_auto_is_the_best_that_keeps_up(monkeypatch: pytest.MonkeyPatch, costs: dict[str, float], best: str) -> None:
    """On a clock that the networks turn."""
    now = 0.0
    networks, fake = Networks(), FakeNetworks()

    def open_fake(model: str, scale: int) -> Upscaler:
        upscaler = fake.open("fast", scale)
        real = upscaler.upscale

        def upscale(frames: Sequence[Frame]) -> list[Frame]:
            nonlocal now
            now += costs[model]
            return real(frames)

        monkeypatch.setattr(upscaler, "upscale", upscale)
        return upscaler

    monkeypatch.setattr("vsr_plugin.preview.networks.time.perf_counter", lambda: now)
    monkeypatch.setattr(networks, "open", open_fake)
    monkeypatch.setattr(networks, "models", lambda _: tuple(costs))
    assert networks.best(open_clip(str(CLIP)), 3) == best


def test_a_scale_without_any_weights_is_said() -> None:
    with pytest.raises(UsageError, match="Expected a scale that a model has weights for, got 7"):
        Networks().best(open_clip(str(CLIP)), 7)


def test_the_bench_plays_by_us_and_by_opencv(monkeypatch: pytest.MonkeyPatch, media: Media) -> None:
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setattr(measure, "_WARM_UP", 0.1)
    for choice in (Networks(backend="eager", device="cpu"), DnnNetworks()):
        played = measure.measure(media("lossless.mkv"), choice, "espcn", 2, 0.5)
        assert played.shown_fps > 0
        assert (played.source_fps, played.where) == (25.0, "memory, without a display")
    assert played.name.startswith("OpenCV dnn")
    frame, _ = next(open_clip(str(media("lossless.mkv"))).frames(0.0))
    with Networks(backend="eager", device="cpu").open("espcn", 2) as ours:
        (a,), (b,) = DnnNetworks().open("espcn", 2).upscale([frame]), ours.upscale([frame])
    for one, other in zip(a.planes, b.planes, strict=True):
        assert int((one.int() - other.int()).abs().max()) <= 1
