"""The words that models are chosen by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vsr_plugin.models import MODELS, guide


@pytest.mark.parametrize(
    ("nanoseconds", "words"),
    [
        (110, "real time at 1080p"),
        (150, "real time at 720p"),
        (500, "real time at 480p"),
        (800, "real time at 360p"),
        (2_900, "5 fps at 480p"),
        (17_500, "1 s a frame at 480p"),
        (151_000, "10 s a frame at 480p"),
    ],
)
def test_speed_is_that_of_the_processor_time_measured(
    monkeypatch: pytest.MonkeyPatch, nanoseconds: int, words: str
) -> None:
    measured = replace(MODELS["espcn"], nanoseconds={2: nanoseconds})
    monkeypatch.setattr(guide, "MODELS", {"espcn": measured})
    assert guide.speed("espcn", 2) == words


def test_every_model_with_weights_was_measured_and_others_are_estimated_by_their_work() -> None:
    for name, scales in guide.usable().items():
        for scale in scales:
            spec = MODELS[name]
            assert scale in spec.nanoseconds, name
            estimate = guide.expected_fps(name, scale)
            for_its_work = guide._PER_PIXEL + guide._PER_MAC * spec.cost[scale][1]
            assert 0.3 < spec.nanoseconds[scale] / for_its_work < 3, (name, scale, estimate)
    assert guide.expected_fps("vdsr", 2) > guide.expected_fps("drcn", 2) > 0


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
    assert guide.quality("drcn", 2) is None
