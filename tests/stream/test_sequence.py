"""Image sequences: from any number on, and never shorter without a word."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from vsr_plugin.errors import DamagedInputError, InputError
from vsr_plugin.stream import Selection, Source
from vsr_plugin.stream.sequence import ImageSequence


def _draw(folder: Path, numbers: list[int], pattern: str = "f_%04d.png") -> Path:
    for number in numbers:
        Image.new("RGB", (32, 24), (number % 256, 0, 0)).save(folder / (pattern % number))
    return folder / pattern


def _reds(frames: list[object]) -> list[int]:
    return [int(frame.planes[0][0, 0]) for frame in frames]  # type: ignore[attr-defined]


@pytest.mark.parametrize("first", [0, 1, 7, 1000, 123456])
@pytest.mark.parametrize("pattern", ["f_%04d.png", "%d.png", "100%%_%03d_x.png"])
def test_a_sequence_begins_at_its_lowest_number(tmp_path: Path, first: int, pattern: str) -> None:
    source = Source(_draw(tmp_path, list(range(first, first + 3)), pattern), Selection(frame_rate=Fraction(10)))
    assert _reds(list(source)) == [number % 256 for number in range(first, first + 3)]
    assert source.damaged == 0


@pytest.mark.parametrize("gap", range(1, 9))
@pytest.mark.parametrize("start", [None, Fraction(1, 10)])
def test_a_gap_is_damage_and_all_before_it_is_kept(
    tmp_path: Path, gap: int, start: Fraction | None, caplog: pytest.LogCaptureFixture
) -> None:
    pattern = _draw(tmp_path, [number for number in range(10) if number != gap])
    source = Source(pattern, Selection(frame_rate=Fraction(20), start=start))
    if start is not None and gap <= 2:
        with pytest.raises(InputError):
            list(source)
        return
    assert _reds(list(source)) == list(range(2 if start else 0, gap))
    assert source.damaged == 1
    assert caplog.messages == [f"f_%04d.png: f_{gap:04d}.png is missing, and the {9 - gap} after it are left out"]
    with pytest.raises(DamagedInputError, match=rf"f_{gap:04d}\.png"):
        list(Source(pattern, Selection(frame_rate=Fraction(20), start=start), strict=True))


def test_an_empty_file_in_a_sequence_is_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pattern = _draw(tmp_path, list(range(6)))
    (tmp_path / "f_0003.png").write_bytes(b"")
    source = Source(pattern)
    assert _reds(list(source)) == [0, 1, 2]
    assert source.damaged == 1
    assert "f_0003.png cannot be read, and the 2 after it are left out" in caplog.text


def test_a_part_before_the_gap_is_whole(tmp_path: Path) -> None:
    pattern = _draw(tmp_path, [0, 1, 2, 3, 5, 6])
    source = Source(pattern, Selection(frames=4), strict=True)
    assert len(list(source)) == 4


def test_an_image_of_another_size_is_named(tmp_path: Path) -> None:
    pattern = _draw(tmp_path, list(range(10, 14)))
    Image.new("RGB", (40, 24)).save(tmp_path / "f_0012.png")
    with pytest.raises(InputError, match=r"f_0012\.png is 40×24, those before it are 32×24"):
        list(Source(pattern))


@pytest.mark.parametrize("name", ["50%d off.png", "a%04d.png"])
def test_a_file_with_a_percent_sign_in_its_name_is_a_file(tmp_path: Path, name: str) -> None:
    _draw(tmp_path, [3], "x_%d.png")
    (tmp_path / "x_3.png").rename(tmp_path / name)
    assert _reds(list(Source(tmp_path / name))) == [3]


def test_a_pattern_without_files_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No file fits the pattern"):
        Source(tmp_path / "f_%04d.png")
    (tmp_path / "f_12.png").write_bytes(b"")  # not written by this pattern
    assert ImageSequence.find(tmp_path / "f_%04d.png") is None
