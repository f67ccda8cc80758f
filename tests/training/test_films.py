"""Films as training images."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from vsr_plugin.errors import InputError
from vsr_plugin.images import rgb_to_luma
from vsr_plugin.training import films
from vsr_plugin.training.films import read_film
from vsr_plugin.training.settings import Settings
from vsr_plugin.training.trainer import Trainer

if TYPE_CHECKING:
    from pathlib import Path

LEVELS = (60, 110, 160, 210)  # of the scenes


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Four scenes of a second each, in which nothing moves, and then one in which everything does."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    path = tmp_path / "film.mkv"
    still = [f"color=0x{level:02x}{level:02x}{level:02x}:s=96x80:d=1:r=25[s{i}]" for i, level in enumerate(LEVELS)]
    inputs = "".join(f"[s{index}]" for index in range(len(LEVELS)))
    graph = ";".join([*still, "mandelbrot=s=96x80:r=25,trim=duration=1[m]", f"{inputs}[m]concat=n={len(LEVELS) + 1}"])
    options = ("-c:v", "libx264", "-crf", "12", "-pix_fmt", "yuv420p", "-g", "30")
    subprocess.run(["ffmpeg", "-v", "error", "-filter_complex", graph, *options, str(path)], check=True)
    return path


@pytest.mark.parametrize("most", [600, 10])
def test_frames_are_of_every_scene_and_none_twice(film: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of a film that is read from end to end, and of one that is searched."""
    monkeypatch.setattr(films, "_READ_WHOLE", most)
    images = read_film(film, 1, 40)
    levels = [16 + level * 219 / 255 for level in LEVELS]
    means = [float(image.luma.mean()) for image in images]
    for level in levels:
        assert (
            sum(abs(mean - level) < 1.5 and image.luma.std() < 2 for mean, image in zip(means, images, strict=True))
            == 1
        )
    assert len(LEVELS) < len(images) <= 13


@pytest.mark.parametrize("name", ["film.264", "with_sound.mkv"])
def test_frames_are_of_every_scene_where_the_length_is_unknown_or_wrong(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A raw stream does not say its length, and sound that goes on for longer makes a film longer."""
    sound = ("-f", "lavfi", "-i", "sine=440:d=15") if name == "with_sound.mkv" else ()
    command = ["ffmpeg", "-v", "error", "-i", str(film), *sound, "-c:v", "copy", str(tmp_path / name)]
    subprocess.run(command, check=True)
    monkeypatch.setattr(films, "_READ_WHOLE", 10)
    means = [float(image.luma.mean()) for image in read_film(tmp_path / name, 1, 40)]
    for level in LEVELS:
        assert any(abs(mean - 16 - level * 219 / 255) < 1.5 for mean in means)
    assert len(means) > len(LEVELS)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 100, 1000])
def test_frames_are_thinned_evenly(length: int) -> None:
    kept: list[Any] = films._thinned(cast("Any", range(length)), 8)  # any items will do
    assert min(length, 4) <= len(kept) <= 8
    assert len({later - earlier for earlier, later in pairwise(kept)}) <= 1
    assert length - kept[-1] <= length / len(kept) * 2


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, what in (("pipe", "which is neither"), ("nothing", "and there is none")):
        with pytest.raises(InputError, match=f"Expected a folder of images or a film, got '.*{name}', {what}"):
            films.read_training_images(tmp_path / name, 1)


def test_a_network_of_rgb_gets_colors(film: Path) -> None:
    for image in read_film(film, 3, 8):
        assert image.rgb is not None
        assert image.rgb.shape == (80, 96, 3)
        assert np.array_equal(image.luma, rgb_to_luma(image.rgb))


def test_one_image_is_no_film(folder: Path) -> None:
    with pytest.raises(InputError, match="Expected a folder of images or a film, got one image"):
        read_film(folder / "00.png", 1)


@pytest.mark.parametrize("degradation", ["none", "video"])
def test_a_run_takes_a_film_beside_a_folder(
    film: Path, folder: Path, tmp_path: Path, small_networks: None, degradation: str
) -> None:
    settings = Settings("espcn", (2,), (film, folder), tmp_path / "run", steps=2, degradation=degradation)
    assert len(list(Trainer(settings).run())) == 2
    assert settings.best.exists()
