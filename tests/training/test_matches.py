"""Training images that a benchmark has are found, at other sizes and cropped; others are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import pytest
import torch

from vsr_plugin.errors import UsageError
from vsr_plugin.images import Image, imresize
from vsr_plugin.training.matches import find_matches
from vsr_plugin.training.settings import Settings
from vsr_plugin.training.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def scene(seed: int, height: int = 240, width: int = 320) -> NDArray[np.uint8]:
    """Patches of light and dark, as in a photograph."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 1, 6, 8, generator=generator)
    fine = torch.rand(1, 1, 24, 32, generator=generator)
    large = [torch.nn.functional.interpolate(part, (height, width), mode="bicubic") for part in (coarse, fine)]
    return (large[0] * 180 + large[1] * 60).clamp(0, 255)[0, 0].byte().numpy()


BENCHMARK = [Image(f"benchmark {seed}", scene(seed)) for seed in range(4)]


@pytest.mark.parametrize(
    "changed",
    [
        lambda luma: luma,
        lambda luma: imresize(luma, 1 / 0.725),
        lambda luma: imresize(luma, 0.6)[4:-3, 2:-5],
        lambda luma: luma[12:232, 10:305],
        lambda luma: np.pad(luma, ((30, 20), (40, 10)), mode="reflect"),
        lambda luma: (luma * 0.7 + 20).astype(np.uint8),
    ],
    ids=["itself", "larger", "smaller and cropped", "a part", "with more around", "darker"],
)
def test_a_benchmark_image_is_found(changed: object) -> None:
    assert callable(changed)
    (match,) = find_matches([Image("training", changed(BENCHMARK[2].luma))], BENCHMARK)
    assert (match.training, match.benchmark) == ("training", "benchmark 2")
    assert match.correlation > 0.96


def test_other_images_are_not_found() -> None:
    others = [Image(str(seed), scene(seed, 300, 260)) for seed in range(10, 30)]
    flat = Image("flat", np.full((90, 90), 128, np.uint8))
    assert find_matches([*others, flat], [*BENCHMARK, flat]) == []


def test_training_on_a_benchmark_image_is_refused(tmp_path: Path) -> None:
    for folder, images in {"training": range(10), "benchmark": range(9, 11)}.items():
        (tmp_path / folder).mkdir()
        for seed in images:
            path = tmp_path / folder / f"{folder}{seed}.png"
            av.VideoFrame.from_ndarray(scene(seed), format="gray").save(path)
    settings = Settings("espcn", (2,), (tmp_path / "training",), tmp_path / "run", benchmarks=(tmp_path / "benchmark",))
    with pytest.raises(UsageError, match=r"got 1: training9\.png looks like benchmark9\.png \(1\.000\)\. Remove"):
        Trainer(settings)
