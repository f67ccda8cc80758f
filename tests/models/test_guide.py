"""The words that models are chosen by."""

from __future__ import annotations

import pytest

from vsr_plugin.models import guide


@pytest.mark.parametrize(
    ("macs", "words"),
    [
        (100, "real time at 720p"),
        (20_000, "real time at 480p"),
        (60_000, "real time at 360p"),
        (220_000, "5 fps at 480p"),
        (1_400_000, "1 s a frame at 480p"),
        (40_000_000, "34 s a frame at 480p"),
    ],
)
def test_speed_comes_from_the_work_per_pixel(monkeypatch: pytest.MonkeyPatch, macs: int, words: str) -> None:
    monkeypatch.setattr(guide, "MODELS", {"espcn": _Costing(macs)})
    assert guide.speed("espcn", 2) == words


class _Costing:
    def __init__(self, macs: int) -> None:
        self.cost = {2: (0, macs)}


@pytest.mark.parametrize(
    ("psnr", "word"), [(37.5, "best"), (37.41, "best"), (37.1, "very good"), (36.6, "good"), (36.0, "fair")]
)
def test_quality_compares_with_the_best_weights_of_the_scale(
    monkeypatch: pytest.MonkeyPatch, psnr: float, word: str
) -> None:
    rows = {
        "espcn_x2": {"set5": {"psnr": psnr}},
        "edsr_x2": {"set5": {"psnr": 37.5}},
        "srcnn_x3": {"set5": {"psnr": 40}},
    }
    monkeypatch.setattr(guide, "manifest", lambda: rows)
    assert guide.quality("espcn", 2) == word
    assert guide.quality("vdsr", 2) is None
