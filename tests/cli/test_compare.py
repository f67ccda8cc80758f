"""``vsr compare``: what is in the images, and what is refused."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stream.conftest import Media, frame_times, video
from vsr_plugin import cli
from vsr_plugin.arrays import as_tensor
from vsr_plugin.cli import progress
from vsr_plugin.color import Conversion
from vsr_plugin.compare.crop import Crop, busiest, cut
from vsr_plugin.compare.page import Page
from vsr_plugin.engine import Upscaler
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame, Matrix
from vsr_plugin.stream import Selection, Source

pytest.importorskip("matplotlib")

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``run("in.mp4", "-m", "espcn")``: the exit code of vsr compare in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["vsr", "compare", "--backend", "eager", "--device", "cpu", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0)

    return command


def rgb(frame: Frame) -> torch.Tensor:
    x, _ = Conversion(frame.color, len(frame.planes), 3, 1).split([as_tensor(plane[None]) for plane in frame.planes])
    return (x[0] * 255).round().to(torch.uint8).permute(1, 2, 0)


def holds(page: torch.Tensor, panel: torch.Tensor) -> bool:
    """Whether a panel stands somewhere on a page, sample for sample."""
    height, width = panel.shape[:2]
    row = np.lib.stride_tricks.sliding_window_view(page.numpy(), (1, width, 3))[:, :, 0, 0]
    starts = np.argwhere((row == panel[0].numpy()).all((2, 3)))
    return any(torch.equal(page[y : y + height, x : x + width], panel) for y, x in starts)


def test_what_was_opened_is_closed_when_a_later_model_fails(
    media: Media, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed: list[str] = []
    monkeypatch.setattr(Upscaler, "close", lambda self: closed.append(self.spec.name))
    (tmp_path / "bad.pth").write_text("no weights")
    assert run(media("two_audio.mp4"), "-m", "espcn,espcn=bad.pth", "-x", 3, "-o", "out.png") == 1
    assert sorted(closed) == ["bicubic", "espcn"]


def test_panels_are_what_the_models_make_of_the_whole_image(
    media: Media, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(media("two_audio.mp4"), "in.mp4")
    assert (
        run(
            "in.mp4",
            "-m",
            "espcn,fsrcnn+,espcn:video",
            "-x",
            3,
            "--at",
            "0.5",
            "--crop",
            "30x20+33+17",
            "-o",
            "side.png",
        )
        == 0
    )
    assert capfd.readouterr().out == "side.png\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.mp4", "side.png"]
    page = rgb(next(Source("side.png")))
    frame = next(Source("in.mp4", Selection(start=Fraction(1, 2))))
    for name, ensemble, kind in ("espcn", False, "clean"), ("fsrcnn", True, "clean"), ("espcn", False, "video"):
        how = Execution(backend="eager", device="cpu", self_ensemble=ensemble)
        with Upscaler(name, 3, how, tuned_for=kind) as upscaler:
            whole = rgb(upscaler.upscale([frame])[0])
        panel = whole[17 * 3 : 37 * 3, 33 * 3 : 63 * 3].repeat_interleave(4, 0).repeat_interleave(4, 1)
        assert holds(page, panel)
        assert not holds(page, panel.flip(0))


def test_a_video_keeps_its_times(media: Media, run: Run) -> None:
    source = media("vfr.mp4")
    assert run(source, "-m", "espcn", "--duration", "99", "--at", "0", "-o", "side.mp4") == 0
    assert frame_times(Path("side.mp4")) == frame_times(source)
    found = video(Path("side.mp4"))
    assert (found["codec_name"], found["pix_fmt"]) == ("h264", "yuv420p")
    assert (int(found["width"]) % 2, int(found["height"]) % 2) == (0, 0)


def test_an_image_is_not_expected_to_have_titles_and_chapters(
    media: Media, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(media("all.mkv"), "-m", "espcn", "-o", "out.png") == 0
    assert "dropping" not in capfd.readouterr().err


def test_it_says_how_far_it_is(media: Media, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[int] = []
    monkeypatch.setattr(progress._Lines, "show", lambda _, now: shown.append(now.frame))
    assert run(media("plain.mp4"), "-m", "espcn", "-o", "out.mkv", "--duration", "0.2") == 0
    assert shown == [1, 2, 3, 4, 5]


def test_existing_files_stay_unless_asked(media: Media, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Path("out.png").write_text("precious")
    assert run(media("plain.mp4"), "-m", "espcn", "-o", "out.png") == 1
    assert Path("out.png").read_text() == "precious"
    assert capfd.readouterr().err == "Error: out.png exists: add -y to overwrite it\n"
    assert run(media("plain.mp4"), "-m", "espcn", "-o", "out.png", "-y") == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nothing.mp4", "-m", "espcn"), 1, "No such file: nothing.mp4"),
        (("{plain}", "-m", "espnc"), 2, "Unknown model 'espnc'. Did you mean 'espcn'?"),
        (("{plain}", "-m", "espcn,lapsrn", "-x", "3"), 2, "Model 'lapsrn' has no scale 3"),
        (("{plain}", "-m", "espcn:films"), 2, "Unknown kind of input 'films'. Weights are tuned for clean or video"),
        (("{plain}", "-m", "lapsrn:video"), 2, "No weights of lapsrn ×2 are tuned for video. Those there are: "),
        (("{plain}", "-m", "espcn", "--crop", "30x20"), 2, "Expected --crop as 160x120+40+32, of 8x8 or more"),
        (("{plain}", "-m", "espcn", "--crop", "30x20+90+0"), 2, "Expected a crop inside of 96×54, got 30x20+90+0"),
        (("{plain}", "-m", "espcn", "--at", "soon"), 2, "Expected --at as seconds or HH:MM:SS, got 'soon'"),
        (("{plain}", "-m", "espcn="), 2, "Expected --models NAME=FILE, got 'espcn='"),
        (("{plain}", "-m", "espcn", "--duration", "2"), 2, "Expected --duration with a video, got out.png"),
    ],
)
def test_mistakes_are_told_in_one_line(
    media: Media, run: Run, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, message: str
) -> None:
    filled = [word.replace("{plain}", str(media("plain.mp4"))) for word in words]
    assert run(*filled, "-o", "out.png") == code
    said = capfd.readouterr().err.strip().splitlines()
    assert said[-1].startswith("Error: ")
    assert message in said[-1]
    assert not Path("out.png").exists()


def test_the_busiest_part_is_found() -> None:
    luma = np.full((90, 120), 80, np.uint8)
    luma[40:60, 64:92] = np.random.default_rng(0).integers(0, 255, (20, 28))
    frame = Frame((luma,), 0, Fraction(1))
    assert busiest(frame, 28, 20) == [Crop(28, 20, 64, 40)]
    assert busiest(frame, 500, 400) == [Crop(120, 90, 0, 0)]
    luma[4:16, 8:20] = luma[40:52, 64:76]
    first, second = busiest(frame, 28, 20, 2)
    assert (first.x, first.y) == (64, 40)
    assert (second.x, second.y) <= (8, 4) < (second.right, second.bottom)
    crops = busiest(frame, 40, 30, 99)
    assert 4 <= len(crops) <= 9
    covered = np.zeros((90, 120))
    for crop in crops:
        covered[crop.y : crop.bottom, crop.x : crop.right] += 1
    assert covered.max() == 1


def test_a_window_holds_the_crop_and_whole_chroma_samples() -> None:
    color = ColorSpec(Matrix.BT709, subsampling=(1, 1))
    luma = (np.arange(50 * 61).reshape(50, 61) % 251).astype(np.uint8)
    chroma = (np.arange(25 * 31).reshape(25, 31) % 241).astype(np.uint8)
    frame = Frame((luma, chroma, chroma), 0, Fraction(1), color=color)
    window, x, y = cut(frame, Crop(10, 9, 23, 21), 3)
    assert np.array_equal(window.planes[0][y : y + 9, x : x + 10], luma[21:30, 23:33])
    left, top = 23 - x, 21 - y
    assert (left % 2, top % 2) == (0, 0)
    assert window.planes[1][0, 0] == chroma[top // 2, left // 2]
    edge, x, y = cut(frame, Crop(61, 50, 0, 0), 3)
    assert (x, y, edge.width, edge.height) == (0, 0, 61, 50)


def test_labels_are_written_above_their_panels() -> None:
    page = Page(["one", "another"], 400, 100)
    empty = page.compose([torch.zeros(100, 400, 3, dtype=torch.uint8)] * 2, "")
    assert empty.shape == (*page.shape, 3)
    other = Page(["one", "different"], 400, 100).compose([torch.zeros(100, 400, 3, dtype=torch.uint8)] * 2, "")
    changed = (empty != other).any(2).nonzero()
    assert len(changed)
    assert int(changed[:, 1].min()) > 400  # above the second panel alone
    titled = page.compose([torch.zeros(100, 400, 3, dtype=torch.uint8)] * 2, "0:00:01.500")
    assert not torch.equal(titled, empty)
