from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.models import MODELS, manifest
from vsr_plugin.models.guide import usable
from vsr_plugin.sizes import Size
from vsr_plugin.stream import Encoding, Report, Selection, choice, upscale_file
from vsr_plugin.stream.choice import Trial, best_model

from .conftest import FAST, Media

HOW = Execution(backend="eager", device="cpu")
FRAME = Frame(
    tuple(np.zeros((48 >> part, 64 >> part), np.uint8) for part in (0, 1, 1)),
    0,
    Fraction(1, 25),
    color=ColorSpec(subsampling=(1, 1)),
)


@pytest.fixture(autouse=True)
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """FSRCNN has less work, LapSRN the higher PSNR."""
    monkeypatch.setattr(choice, "usable", lambda *_, **__: {"fsrcnn": (2, 3, 4), "lapsrn": (2, 4, 8)})
    monkeypatch.setattr(choice, "_TRIAL", 0.01)


@pytest.mark.parametrize(("fps", "model", "enough"), [(1e-3, "lapsrn", True), (1e9, "fsrcnn", False)])
def test_the_best_that_is_fast_enough(
    media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fps: float, model: str, enough: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = best_model(media("two_audio.mp4"), 2, fps, encoding=FAST, execution=HOW)
    assert (chosen.model, chosen.enough) == (model, enough)
    assert chosen.fps is not None
    assert chosen.fps > 0
    assert list(tmp_path.iterdir()) == []
    assert chosen.reason(fps).startswith(f"{model} ×2, about ")


def test_a_size_is_tried_by_the_scales_it_leads_to(media: Media) -> None:
    tall = Size(height=2 * 54 + 2)  # of 54 lines: LapSRN has no ×3
    chosen = best_model(media("plain.mp4"), tall, 1e-3, encoding=FAST, execution=HOW)
    assert (chosen.model, chosen.scales) == ("fsrcnn", (3,))
    assert "fsrcnn ×3, about" in chosen.reason(1e-3)
    assert f"({chosen.psnr:.2f} dB on Set5 at ×3)" in chosen.reason(1e-3)
    assert chosen.psnr == manifest()["fsrcnn_x3"]["set5"]["psnr"]


@pytest.mark.parametrize(
    ("times", "scales", "among", "not_among"),
    [
        (Size(width=90), (2,), "lapsrn", "srdensenet"),  # which has weights for ×4 only
        (Size(width=150), (3,), "edsr-baseline", "lapsrn"),
        (Size(width=240, height=180), (4,), "lapsrn", "none"),
        (Size(width=340), (2, 3), "edsr-baseline", "lapsrn"),  # which would take ×8
        (Size(width=90, scale=4), (4,), "srdensenet", "none"),
        (3, (3,), "espcn", "lapsrn"),
    ],
)
def test_models_that_take_the_same_scales_are_compared(
    monkeypatch: pytest.MonkeyPatch, times: int | Size, scales: tuple[int, ...], among: str, not_among: str
) -> None:
    monkeypatch.setattr(choice, "usable", usable)
    found = Trial.of(times, FRAME)
    assert found.scales == scales
    assert among in found.models
    assert not_among not in found.models
    work = [MODELS[model].cost[scales[0]][1] for model in found.models]
    assert work == sorted(work) or len(scales) > 1


def test_weights_for_compressed_video_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "usable", usable)
    found = Trial.of(2, FRAME, "video")
    assert set(found.models) == {"espcn", "fsrcnn", "edsr-baseline"}
    assert found.psnr("espcn") != Trial.of(2, FRAME).psnr("espcn")


def test_weights_in_8_bits_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "usable", usable)
    found = Trial.of(2, FRAME, quantized=True)
    assert found.models == ("fsrcnn", "espcn")
    assert found.psnr("espcn") < Trial.of(2, FRAME).psnr("espcn")


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (Size(height=48), "Expected a size above that of the frames"),
        (Size(height=48 * 65), "Expected a size of at most 64 times"),
        (7, "Expected a scale that a model has weights for, got 7"),
        (Size(height=90, scale=7), "Expected a scale that a model has weights for, got 7"),
    ],
)
def test_what_no_model_reaches_is_refused(monkeypatch: pytest.MonkeyPatch, times: int | Size, message: str) -> None:
    monkeypatch.setattr(choice, "usable", usable)
    with pytest.raises(UsageError, match=message):
        Trial.of(times, FRAME)


def test_what_decoding_and_encoding_take_counts(media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[Path, Selection, Encoding]] = []

    def slow(source: Path, output: Path, upscaler: Upscaler, selection: Selection, *, encoding: Encoding) -> Report:
        taken.append((output, selection, encoding))
        report = upscale_file(source, output, upscaler, selection, encoding=encoding)
        return replace(report, seconds=100.0 * report.frames)

    monkeypatch.setattr(choice, "upscale_file", slow)
    chosen = best_model(media("groups.ts"), 2, 1, output="a/b.mp4", encoding=FAST, execution=HOW)
    assert not chosen.enough
    assert chosen.fps == pytest.approx(0.01, rel=0.05)
    [(output, selection, encoding)] = taken
    assert (output.name, encoding) == ("b.mp4", FAST)
    assert selection.frames == 12
    assert selection.start is not None
    assert Fraction(1) < selection.start < Fraction(2)  # of four seconds


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"source": "-"}, "Expected a model for -, which can be read only once, got 'auto': use another model"),
        ({"fps": 0}, "Expected fps above 0, got 0"),
    ],
)
def test_what_cannot_be_tried_is_refused(monkeypatch: pytest.MonkeyPatch, wish: dict[str, Any], message: str) -> None:
    monkeypatch.setattr(choice, "can_seek", lambda _: True)  # a file that is redirected to standard input
    with pytest.raises(UsageError, match=message):
        best_model(**{"source": "in.mp4", **wish})
