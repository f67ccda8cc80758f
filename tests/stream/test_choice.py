from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.stream import Encoding, Report, Selection, choice, upscale_file
from vsr_plugin.stream.choice import best_model

from .conftest import FAST, Media

HOW = Execution(backend="eager", device="cpu")


@pytest.fixture(autouse=True)
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """FSRCNN has less work, LapSRN the higher PSNR."""
    monkeypatch.setattr(choice, "usable", lambda _: ("fsrcnn", "lapsrn"))
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
    assert chosen.reason(fps).startswith(f"{model}, about ")


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
        ({"source": "-"}, "Expected a model for -, which can be read only once, got 'auto': use model='fsrcnn'"),
        ({"fps": 0}, "Expected fps above 0, got 0"),
    ],
)
def test_what_cannot_be_tried_is_refused(wish: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        best_model(**{"source": "in.mp4", **wish})
