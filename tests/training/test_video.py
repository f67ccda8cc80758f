"""Pairs for compressed video: aligned, damaged, the same for a seed; a run with them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vsr_plugin.errors import UsageError
from vsr_plugin.evaluation import psnr
from vsr_plugin.images import Image, rgb_to_luma, shrink
from vsr_plugin.stream import compression
from vsr_plugin.training import video
from vsr_plugin.training.settings import Settings
from vsr_plugin.training.trainer import Trainer
from vsr_plugin.training.transfer import lineage
from vsr_plugin.training.video import VideoPairs, degrade

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def image(height: int = 220, width: int = 260) -> NDArray[np.uint8]:
    """(H, W, 3) with detail of several sizes."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(40, 200, (height // 20, width // 20, 3)), np.ones((20, 20, 1)))
    fine = np.kron(rng.integers(-30, 30, (height // 4, width // 4, 3)), np.ones((4, 4, 1)))
    return (coarse[:height, :width] + fine[:height, :width]).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scales", [(2,), (3,), (2, 3, 4)])
def test_the_small_frame_is_the_large_one_shrunk_and_compressed(channels: int, scales: tuple[int, ...]) -> None:
    samples = image()[..., :channels]
    qualities = []
    for seed in range(6):
        for large, small in degrade(samples, scales, 24, 96, np.random.default_rng(seed)):
            for scale in scales:
                assert small[scale].shape == (large.shape[0] // scale, large.shape[1] // scale, channels)
                clean = (shrink(large, scale).permute(1, 2, 0) * 255).round().byte().numpy()
                qualities.append(psnr(clean, small[scale]))
    assert min(qualities) > 18  # of another frame it would be 12
    assert min(qualities) < 40


def test_a_clip_goes_through_the_encoders_and_some_stay_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Spy(compression.Compression):
        def __init__(self, frames: object, encoder: str, options: dict[str, str]) -> None:
            asked.append((encoder, options))
            super().__init__(frames, encoder, options)  # type: ignore[arg-type]

    monkeypatch.setattr(video, "Compression", Spy)
    for seed in range(40):
        list(degrade(image()[..., :1], (2,), 4, 128, np.random.default_rng(seed)))
    assert {encoder for encoder, _ in asked} == set(compression.ENCODERS)
    assert 25 <= len(asked) < 40
    x264 = [options for encoder, options in asked if encoder == "libx264"]
    assert {options["preset"] for options in x264} == {"veryfast", "medium"}
    assert {options["bf"] for options in x264} == {"0", "1", "2", "3"}
    assert all(18 <= float(options["crf"]) <= 32 for options in x264)


def test_clips_move() -> None:
    """Large frames of most clips are not all the same, and every sample of a pan is one of the image."""
    moving = 0
    for seed in range(12):
        first, second = (large for large, _ in degrade(image(), (2,), 4, 96, np.random.default_rng(seed)))
        moving += not np.array_equal(first, second)
    assert 5 <= moving < 12


def test_pairs_are_the_same_for_a_seed_and_targets_in_between_are_not_compressed() -> None:
    images = [Image(str(index), rgb_to_luma(image())) for index in range(2)]

    def make(seed: int) -> list[tuple[NDArray[np.uint8], dict[int, torch.Tensor]]]:
        return list(VideoPairs((4,), 1, seed)(images, 1, (1.0, 0.8), (2, 4), 64))

    first, again, other = make(0), make(0), make(1)
    assert len(first) == 2 * 2 * video._CLIPS_PER_IMAGE
    for (large, small), (same, small_again) in zip(first, again, strict=True):
        assert np.array_equal(large, same)
        assert torch.equal(small[4], small_again[4])
        half = (shrink(large, 2) * 255).round().byte().flatten(1).T
        assert torch.equal(small[2], half)
    assert any(
        large.shape != fresh.shape or not np.array_equal(large, fresh)
        for (large, _), (fresh, _) in zip(first, other, strict=True)
    )


def test_any_size_of_image_has_room_for_any_motion() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        height, width = (int(side) for side in rng.integers(64, 180, 2))
        pairs = list(degrade(image(180, 180)[:height, :width, :1], (2,), 4, 64, rng))
        assert len(pairs) == 2
        assert all(min(large.shape[:2]) >= 64 for large, _ in pairs)


def test_an_image_that_is_too_small_gives_nothing() -> None:
    assert list(degrade(image(60, 200), (2,), 4, 64, np.random.default_rng(0))) == []


@pytest.fixture
def settings(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(video, "_CLIPS_PER_IMAGE", 1)
    return Settings("espcn", (2,), (folder,), tmp_path / "run", steps=6, degradation="video")


def test_a_run_is_validated_on_compressed_images_and_says_so(settings: Settings, small_networks: None) -> None:
    trainer = Trainer(settings)
    clean = Trainer(replace(settings, degradation="none", out=settings.out.parent / "clean"))
    assert trainer.baseline < clean.baseline - 0.3
    list(trainer.run())
    report = json.loads((settings.out / "run.json").read_text())
    assert report["settings"]["degradation"] == "video"
    assert "--degradation video" in lineage(report)[-1]["command"]


def test_an_interrupted_run_goes_on_to_the_same_weights(settings: Settings, small_networks: None) -> None:
    list(Trainer(settings).run())
    other = replace(settings, out=settings.out.parent / "other")
    for progress in Trainer(other).run():
        if progress.part > 0.4:
            break
    list(Trainer(other, resume=True).run())
    weights, same = load_file(settings.best), load_file(other.best)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    with pytest.raises(UsageError, match="degradation: video → none"):
        Trainer(replace(other, degradation="none"), resume=True)


def test_an_unknown_degradation_is_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match=r"Unknown degradation 'vhs'\. Known degradations: none, video"):
        Trainer(replace(settings, degradation="vhs"))
