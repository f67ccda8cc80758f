"""Every example runs, and does what it says."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    type Run = Callable[..., str]

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
CLIP = EXAMPLES / "clip.mp4"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run an example as a program; gives what it prints."""

    def run(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_examples_are_short_but_for_the_one_that_draws() -> None:
    lengths = {file.name: len(file.read_text(encoding="utf-8").splitlines()) for file in EXAMPLES.glob("*.py")}
    assert [name for name, length in lengths.items() if length >= 60 and name != "make_clip.py"] == []


def test_every_example_is_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert [file.name for file in EXAMPLES.glob("*.py") if f'"{file.name}"' not in here] == []


def test_enlarge_file(run: Run, tmp_path: Path) -> None:
    short = tmp_path / "short.mp4"
    with av.open(str(CLIP)) as source, av.open(str(short), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in [packet for packet in source.demux(video=0) if packet.dts is not None][:4]:
            packet.stream = stream
            target.mux(packet)
    said = run("enlarge_file.py", short, tmp_path / "large.mp4")
    with av.open(str(tmp_path / "large.mp4")) as large:
        frames = [(frame.width, frame.height) for frame in large.decode(video=0)]
    assert frames == [(1440, 810)] * 4
    assert "4 frames of 1440×810" in said


def test_enlarge_frames(run: Run) -> None:
    lines = run("enlarge_frames.py").splitlines()
    assert lines == [f"Frame(360×270 yuv 8-bit, pts={index}·1/25s)" for index in range(5)]


def test_own_network(run: Run) -> None:
    assert run("own_network.py") == "Frame(200×140 rgb 8-bit, pts=0·1/25s)\n"


def test_before_after(run: Run, tmp_path: Path) -> None:
    run("before_after.py", CLIP, tmp_path / "both.png")
    with av.open(str(tmp_path / "both.png")) as container:
        both = next(container.decode(video=0)).to_ndarray(format="gray").astype(np.float64)
    assert both.shape == (360, 1202)
    left, right = both[:, :600], both[:, 602:]
    sharpness = [np.abs(np.diff(half, axis=1)).mean() for half in (left, right)]
    assert np.abs(left - right).mean() < 8  # the same picture,
    assert sharpness[1] > 1.02 * sharpness[0]  # but sharper


@pytest.fixture(scope="module")
def clip() -> av.container.InputContainer:
    return av.open(str(CLIP))


def test_the_clip_holds_all_that_it_promises(clip: av.container.InputContainer) -> None:
    [video], [audio], [words] = clip.streams.video, clip.streams.audio, clip.streams.subtitles
    assert CLIP.stat().st_size < 1_000_000
    assert (video.width, video.height, video.frames, float(video.average_rate or 0)) == (480, 270, 90, 30.0)
    context = video.codec_context
    assert (context.pix_fmt, context.colorspace, context.color_range, context.color_primaries) == ("yuv420p", 1, 1, 1)
    assert (audio.codec_context.name, audio.codec_context.layout.name, audio.language) == ("aac", "stereo", "eng")
    assert (words.codec_context.name, words.language) == ("mov_text", "eng")
    assert [chapter["metadata"]["title"] for chapter in clip.chapters()] == ["Wind", "Wheel", "Words"]


def test_the_script_draws_the_clip(clip: av.container.InputContainer) -> None:
    pytest.importorskip("cv2")
    script = runpy.run_path(str(EXAMPLES / "make_clip.py"))
    drawn = script["draw"](script["sky"](), 0.0).astype(np.float64)
    clip.seek(0)
    first = next(clip.decode(video=0)).to_ndarray(format="rgb24", src_colorspace="ITU709").astype(np.float64)
    assert np.abs(drawn - first).mean() < 4  # what the encoder and 4:2:0 leave of it
