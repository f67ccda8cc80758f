from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from tests import distance
from tests.stream.conftest import Media
from vsr_plugin.bench import preview as bench
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.models import MODELS, manifest
from vsr_plugin.preview.clips import open_clip
from vsr_plugin.preview.networks import Networks
from vsr_plugin.preview.pixels import Enlarged
from vsr_plugin.sizes import Size
from vsr_plugin.stream import choice

from .conftest import CLIP, FakeNetworks


def test_what_has_weights_can_be_chosen(tmp_path: Path) -> None:
    networks = Networks(execution=Execution(backend="eager", device="cpu"))
    assert {"espcn", "fsrcnn", "srcnn"} <= set(networks.models(3))
    assert "lapsrn" not in networks.models(3)
    assert networks.scales("lapsrn") == (2, 4, 8)
    assert "drcn" not in networks.models(2)
    own = Networks(weights=tmp_path / "mine.safetensors", own="drcn")
    assert own.scales("drcn") == tuple(MODELS["drcn"].scales)
    with networks.open("espcn", 3) as upscaler:
        assert (upscaler.batch, upscaler.backend) == (1, "eager")


@pytest.mark.parametrize("times", [3, Size(height=320)])
@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ({"espcn": 0.001, "fsrcnn": 0.002, "srcnn": 0.01}, "fsrcnn"),  # of the highest PSNR, though srcnn costs more
        ({"fsrcnn": 0.05, "espcn": 0.001, "srcnn": 0.5}, "espcn"),
        ({"fsrcnn": 0.02, "espcn": 0.001, "srcnn": 0.5}, "espcn"),  # with what an image costs besides, it is too slow
        ({"espcn": 0.5, "fsrcnn": 0.4, "srcnn": 0.5}, "fsrcnn"),  # the least work, where nobody keeps up
    ],
)
def test_auto_is_the_best_that_keeps_up(
    monkeypatch: pytest.MonkeyPatch, costs: dict[str, float], best: str, times: int | Size
) -> None:
    """An image of which the network takes so long, and all else ten milliseconds, at thirty a second."""
    networks, fake = Networks(), FakeNetworks()
    tried: list[str] = []

    def open_fake(model: str, _: int | Size) -> Upscaler:
        tried.append(model)
        return fake.open("fast", 3)

    def made(*_: object) -> Enlarged:
        empty = np.zeros((1, 1, 3), np.uint8)
        return Enlarged(empty, empty, costs[tried[-1]], 0.01)

    monkeypatch.setattr("vsr_plugin.preview.networks.enlarge", made)
    monkeypatch.setattr(networks, "open", open_fake)
    monkeypatch.setattr(choice, "usable", lambda *_, **__: dict.fromkeys(costs, (2, 3, 4)))
    assert networks.best(open_clip(str(CLIP)), times).model == best


def test_auto_tries_what_is_better_than_the_best_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the best of all, if all are fast enough; and all of them together for about a second."""
    images: list[float] = []
    tried: list[str] = []

    def made(*_: object) -> Enlarged:
        images.append(0.002)
        return Enlarged(np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), 0.002, 0.0)

    networks, fake = Networks(), FakeNetworks()

    def open_fake(model: str, scale: int) -> Upscaler:
        tried.append(model)
        return fake.open("fast", scale)

    monkeypatch.setattr("vsr_plugin.preview.networks.enlarge", made)
    monkeypatch.setattr(networks, "open", open_fake)
    figures = {model: manifest()[f"{model}_x2"]["set5"]["psnr"] for model in networks.models(2)}
    assert networks.best(open_clip(str(CLIP)), 2).model == max(figures, key=lambda model: figures[model])
    assert 3 <= len(tried) < len(figures)
    assert [figures[model] for model in tried] == sorted({figures[model] for model in tried})
    assert sum(images) <= 1.0 + 0.004 * len(tried)


def test_a_scale_without_any_weights_is_said() -> None:
    with pytest.raises(UsageError, match="Expected a scale that a model has weights for, got 7"):
        Networks().best(open_clip(str(CLIP)), 7)


def test_the_bench_plays_by_us_and_by_opencv(monkeypatch: pytest.MonkeyPatch, media: Media) -> None:
    monkeypatch.setenv("DISPLAY", "")
    monkeypatch.setattr(bench, "_WARM_UP", 0.1)
    for networks in (Networks(execution=Execution(backend="eager", device="cpu")), bench.DnnNetworks()):
        played = bench.measure(media("lossless.mkv"), networks, "espcn", 2, 0.5)
        assert math.isfinite(played.frame_ms + played.seek_ms)
        assert (played.source_fps, played.where) == (25.0, "memory, without a display")
    assert played.name.startswith("OpenCV dnn")
    frame, _ = next(open_clip(str(media("lossless.mkv"))).frames(0.0))
    with Networks(execution=Execution(backend="eager", device="cpu")).open("espcn", 2) as ours:
        (a,), (b,) = (upscaler.stage(iter([frame])) for upscaler in (bench.DnnNetworks().open("espcn", 2), ours))
    inside = slice(8 * 2, -8 * 2)  # OpenCV runs the network without the mirrored border
    for one, other in zip(a.planes, b.planes, strict=True):
        assert distance(one[inside, inside], other[inside, inside]) <= 1
