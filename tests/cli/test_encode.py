"""The command as its user meets it: arguments, exit codes, what is said where, what is left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.warm import Command
from tests.stream.conftest import Media, frame_times, packets, video
from vsr_plugin import cli
from vsr_plugin.stream import Source

Run = Callable[..., int]
ENCODE = (sys.executable, "-c", "from vsr_plugin.cli import main_encode; main_encode()")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """``run("in.mp4", "-x", 2)``: the exit code of vsr-encode in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> int:
        argv = ["vsr-encode", "--backend", "eager", "--device", "cpu", "--preset", "ultrafast", *map(str, words)]
        monkeypatch.setattr(sys, "argv", argv)
        with pytest.raises(SystemExit) as stop:
            cli.main_encode()
        return int(stop.value.code or 0)

    return command


def _there(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_the_main_job(media: Media, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copy(media("two_audio.mp4"), "in.mp4")
    assert run("in.mp4", "--model", "espcn", "-x", "3") == 0
    assert _there(tmp_path) == ["in.mp4", "in_espcn_x3.mp4"]
    output = tmp_path / "in_espcn_x3.mp4"
    assert (video(output)["width"], video(output)["height"], video(output)["codec_name"]) == (288, 162, "h264")
    assert frame_times(output) == frame_times(media("two_audio.mp4"))
    assert packets(output, "a:0") == packets(media("two_audio.mp4"), "a:0")
    said = capfd.readouterr()
    assert said.out == ""
    summary = said.err.strip().splitlines()[-1]
    assert summary.startswith("in.mp4 → in_espcn_x3.mp4: 38 frames, 288×162, libx264 yuv420p, in ")
    for word in ("fps", "espcn ×3", "eager on cpu", "float32", "batch", "whole frames"):
        assert word in summary
    assert "\x1b" not in said.err  # no terminal, no escape codes


def test_quiet_says_nothing_and_json_speaks_to_programs(
    media: Media, run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(media("vfr.mp4"), "out.mkv", "-q", "--json") == 0
    said = capfd.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert (found["frames"], found["width"], found["model"], found["scale"], found["damaged"]) == (
        17,
        192,
        "espcn",
        2,
        0,
    )
    assert found["fps"] > 0


def test_a_size_is_asked_for_in_place_of_a_scale(
    media: Media, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(media("wide.mp4"), "in.mp4")
    assert run("in.mp4", "--height", 120, "-n", 1, "--json") == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["scales"] == [3]
    assert "espcn ×3, eager" in said.err
    assert run("in.mp4", "--width", 500, "-n", 1) == 0
    assert "espcn ×2 ×3, eager" in capfd.readouterr().err
    assert run("in.mp4", "--size", "200x200", "--fit", "cover", "-n", 1) == 0
    assert run("in.mp4", "-o", "square.mp4", "--height", 108, "--square-pixels", "-n", 1) == 0
    found = {
        name: (
            video(tmp_path / name)["width"],
            video(tmp_path / name)["height"],
            video(tmp_path / name)["sample_aspect_ratio"],
        )
        for name in _there(tmp_path)
        if name != "in.mp4"
    }
    assert found == {
        "in_espcn_120p.mp4": (214, 120, "10240:8667"),
        "in_espcn_500w.mp4": (500, 282, "12032:10125"),
        "in_espcn_200x200_cover.mp4": (200, 200, "1:1"),
        "square.mp4": (228, 108, "1:1"),
    }


def test_the_self_ensemble_makes_its_own_picture(media: Media, run: Run) -> None:
    assert run(media("plain.mp4"), "once.mkv", "-n", 1, "--crf", 0) == 0
    assert run(media("plain.mp4"), "eight.mkv", "-n", 1, "--crf", 0, "--self-ensemble") == 0
    once, eight = (next(Source(name)).planes[0].astype(int) for name in ("once.mkv", "eight.mkv"))
    assert 0 < np.abs(once - eight).mean() < 8


def test_reuse_is_reported_and_changes_nothing(media: Media, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """A small square moves over a still picture."""
    moving = "testsrc=size=320x240:duration=1:rate=12,trim=end_frame=1,loop=71:1[a];color=red:size=16x16[b];[a][b]"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"{moving}overlay=x=4*n:y=100:shortest=1,format=yuv420p"]
    subprocess.run([*command, "-frames:v", "72", "-c:v", "ffv1", "moving.mkv"], check=True)
    assert run("moving.mkv", "with.mkv", "--crf", 0) == 0
    assert re.search(r"whole frames, reused [1-9]\d?%\)", capfd.readouterr().err)
    assert run("moving.mkv", "without.mkv", "--crf", 0, "--reuse", "off", "--json") == 0
    assert json.loads(capfd.readouterr().out)["reused"] == 0
    assert run("moving.mkv", "again.mkv", "--crf", 0, "--json") == 0
    assert 0.1 < json.loads(capfd.readouterr().out)["reused"] < 1
    pictures = [[plane for frame in Source(name) for plane in frame.planes] for name in ("with.mkv", "without.mkv")]
    assert len(pictures[0]) == 216
    assert all(np.array_equal(mine, other) for mine, other in zip(*pictures, strict=True))


def test_existing_files_stay_unless_asked(media: Media, run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Path("out.mp4").write_text("precious")
    assert run(media("plain.mp4"), "-o", "out.mp4") == 1
    assert Path("out.mp4").read_text() == "precious"
    assert capfd.readouterr().err == "Error: out.mp4 exists: add -y to overwrite it\n"
    assert run(media("plain.mp4"), "-o", "out.mp4", "-y", "-n", 2) == 0
    assert len(frame_times(Path("out.mp4"))) == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("{plain}", "--reuse", "on"), 2, "Expected reuse to be 'auto' or 'off', got 'on'"),
        (("nothing.mp4",), 1, "No such file: nothing.mp4"),
        (("{text}",), 1, "text.txt: not a video or image that FFmpeg can read"),
        (("{plain}", "out.mp4", "-m", "espnc"), 2, "Unknown model 'espnc'. Did you mean 'espcn'? Known models: "),
        (("{plain}", "out.mp4", "-x", "5"), 2, "Model 'espcn' has no scale 5. Its scales: 2, 3, 4"),
        (("{plain}", "out.mp4", "-c", "libfoo"), 2, "Unknown encoder 'libfoo'"),
        (("{plain}", "out.mp4", "-e", "foo"), 2, "Expected --encoder-option KEY=VALUE, got 'foo'"),
        (("{plain}", "out.mp4", "-e", "foo=1"), 2, "Encoder libx264 has no option 'foo'"),
        (("{plain}", "out.mp4", "--start", "soon"), 2, "Expected --start as seconds or HH:MM:SS, got 'soon'"),
        (("{plain}", "out.mp4", "--start", "99"), 1, "there are no frames between the given times"),
        (("{plain}", "out.mp4", "-r", "0"), 2, "Expected --frame-rate as 25 or 30000/1001, got '0'"),
        (("{plain}", "out.mp4", "--tile", "small"), 2, "Expected --tile auto, off or a number of pixels, got 'small'"),
        (("{plain}", "out.mp4", "--tile", "4"), 2, "Expected a tile"),
        (("{plain}", "out.mp4", "--precision", "float8"), 2, "float8"),
        (("{plain}", "out.mp4", "--weights", "nothing.safetensors"), 1, "No such file: nothing.safetensors"),
        (("{plain}", "no/out.mp4"), 1, "No such folder: no"),
        (("{plain}", "/proc/out.mp4"), 1, "Cannot write to /proc: it takes no new files"),
        (("{plain}", "out.foo"), 1, "Cannot write a .foo file: expected a name that ends in .mp4"),
        (("{plain}", "out"), 1, ".png, …; for a folder, -o out/"),
        (("{plain}", "-o", "-", "--json"), 2, "Expected --json or y4m on standard output, got both"),
        (("-",), 2, "Expected an output name with standard input"),
        (
            ("{interlaced}", "out.mp4"),
            1,
            "is interlaced: two fields would be enlarged as one frame: use --deinterlace",
        ),
        (("{plain}", "{plain}", "-y"), 2, "plain.mp4 is the input itself: name another output"),
        (("{plain}", "out.mp4", "-x", "2", "--height", "99"), 2, "Expected -x or --height, got both: the size says"),
        (("{plain}", "out.mp4", "--size", "99x99", "--width", "9"), 2, "Expected --size or --width, got both"),
        (("{plain}", "out.mp4", "--size", "1080"), 2, "Expected --size as WIDTHxHEIGHT, such as 1920x1080, got '1080'"),
        (("{plain}", "out.mp4", "--size", "9x9", "--fit", "fill"), 2, "Unknown fit 'fill'. Known fits: inside, cover"),
        (("{plain}", "out.mp4", "--fit", "cover"), 2, "Expected --fit with --height, --width or --size, got none"),
        (("{plain}", "out.mp4", "--square-pixels"), 2, "Expected --square-pixels with --height, --width or --size"),
        (("{plain}", "out.mp4", "--height", "99", "-m", "drcn"), 1, "No weights are shipped for drcn ×2"),
        (("{plain}", "out.mp4", "--height", "54"), 2, "plain.mp4: expected a size above that of the frames, 96×54"),
        (("{plain}", "-o", "{plain}", "-y"), 2, "is an input, too: name another output"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    media: Media,
    run: Run,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    files = {"plain": media("plain.mp4"), "text": media.folder / "text.txt", "interlaced": media("interlaced.mkv")}
    assert run(*(word.format(**files) for word in words)) == code
    said = capfd.readouterr()
    assert said.out == ""
    assert message in said.err.strip().splitlines()[-1]
    assert said.err.strip().splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in said.err
    assert _there(tmp_path) == []


def test_unknown_options_are_usage_errors(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("in.mp4", "--modle", "espcn") == 2
    assert capfd.readouterr().err.startswith("Error: No such option: --modle")
    assert run("in.mp4", "--batch", "0") == 2
    said = capfd.readouterr().err
    assert (said[:7], said.count("\n")) == ("Error: ", 1)
    assert run("in.mp4", "--crf", "abc") == 2
    assert capfd.readouterr().err == "Error: Expected --crf to be a number, got 'abc'\n"
    assert run("in.mp4", "-n", "0") == 2
    assert capfd.readouterr().err == "Error: Expected --frames to be greater than or equal to 1, got '0'\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-e", "nonsense=1"), "has no option 'nonsense'"),
        (("--preset", "warp"), "warp"),
        (("--codec", "libx265", "--crf", "99"), "Expected a CRF of 0 to 51"),
        (("--codec", "nosuch"), "Unknown encoder 'nosuch'"),
        (("--preset", "nosuch"), "Encoder libx264 has no preset 'nosuch'. Its presets: ultrafast, "),
    ],
)
def test_what_the_encoder_refuses_is_said_before_standard_input_is_read(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    command = [sys.executable, "-c", "from vsr_plugin.cli import main_encode; main_encode()", "-", "-o"]
    silent, _ = os.pipe()
    done = subprocess.run(
        [*command, str(tmp_path / "out.mkv"), *words], stdin=silent, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_verbose_shows_where(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("nothing.mp4", "--verbose") == 1
    assert "Traceback" in capfd.readouterr().err


def test_one_bad_file_does_not_stop_the_others(
    media: Media, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(media("plain.mp4"), media.folder / "text.txt", media("vfr.mkv"), "-o", "all", "-n", 2) == 1
    assert _there(tmp_path / "all") == ["plain_espcn_x2.mp4", "vfr_espcn_x2.mkv"]
    assert f"Error: {media.folder / 'text.txt'}: not a video" in capfd.readouterr().err


def test_missing_and_finished_files_do_not_stop_the_others(
    media: Media, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all/plain_espcn_x2.mp4").write_text("done before")
    assert run("nothing.mp4", media("plain.mp4"), media("vfr.mkv"), "-o", "all", "-n", 2) == 1
    assert _there(tmp_path / "all") == ["plain_espcn_x2.mp4", "vfr_espcn_x2.mkv"]
    assert (tmp_path / "all/plain_espcn_x2.mp4").read_text() == "done before"
    said = capfd.readouterr().err
    assert "No such file: nothing.mp4" in said
    assert "plain_espcn_x2.mp4 exists" in said


def test_svt_av1_is_quiet_and_one_frame_is_no_frames(
    media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SVT_LOG", raising=False)
    words = (
        str(media("plain.mp4")),
        "out.webm",
        *["-c", "libsvtav1", "--preset", "12", "-n", "1", "--backend", "eager"],
    )
    with Command("vsr-encode", *words, folder=tmp_path) as command:
        assert command.wait() == 0
        said = command.stderr
    assert "Svt" not in said
    assert ": 1 frame, 192×108" in said


def test_a_folder_is_all_its_videos(media: Media, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "films").mkdir()
    shutil.copy(media("plain.mp4"), "films/a.mp4")
    shutil.copy(media("vfr.mkv"), "films/b.mkv")
    (tmp_path / "films/notes.txt").write_text("not a film")
    assert run("films", "-n", 2) == 2
    assert "films is a folder: say where its results go with -o FOLDER" in capfd.readouterr().err
    assert run("films", "-n", 2, "-o", "films") == 0
    after = ["a.mp4", "a_espcn_x2.mp4", "b.mkv", "b_espcn_x2.mkv", "notes.txt"]
    assert _there(tmp_path / "films") == after
    assert run("films", "-n", 2, "-o", "films", "-y") == 0  # the results are not enlarged again
    assert _there(tmp_path / "films") == after


def test_damage_is_encoded_reported_and_refused(
    media: Media, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken = media.cut("fast.mp4", 0.6)
    assert run(broken, "out.mp4") == 1
    assert 0 < len(frame_times(tmp_path / "out.mp4")) < 38
    assert "damaged in" in capfd.readouterr().err
    assert run(broken, "strict.mp4", "--strict") == 1
    assert _there(tmp_path) == ["out.mp4"]


def test_a_read_only_folder_is_one_error(
    media: Media, tmp_path: Path, capfd: pytest.CaptureFixture[str], run: Run
) -> None:
    Path("sys").symlink_to("/sys/kernel")  # read-only even for root
    assert run(media("plain.mp4"), "sys/out.mp4") == 1
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith("Error: Cannot write")


def test_y4m_goes_through_pipes(media: Media, tmp_path: Path) -> None:
    y4m = tmp_path / "in.y4m"
    subprocess.run(["ffmpeg", "-v", "error", "-i", media("lossless.mkv"), "-strict", "-1", y4m], check=True)
    words = ("vsr-encode", "-", "-o", "-", "--backend", "eager")
    with Command(*words, "--quiet", folder=tmp_path, streams={0: y4m}) as command:
        assert command.wait() == 0
        made, said = command.output, command.stderr
    assert made.startswith(b"YUV4MPEG2 W192 H108 F25:1")
    assert len(made) == made.index(b"\n") + 1 + 12 * (len(b"FRAME\n") + 192 * 108 * 3 // 2)
    assert said == ""
    with Command(*words, folder=tmp_path, streams={0: y4m}) as command:
        assert command.wait() == 0
        said = command.stderr
    assert said.splitlines()[-1].startswith("standard input → standard output: 12 frames")


def test_a_name_that_begins_with_a_dash(media: Media, run: Run, tmp_path: Path) -> None:
    shutil.copy(media("lossless.mkv"), tmp_path / "-dash-.mkv")
    assert run("-o", "out.mkv", "--", "-dash-.mkv") == 0
    assert len(frame_times(tmp_path / "out.mkv")) == 12


def test_a_terminal_sees_a_bar(media: Media, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    words = (str(media("plain.mp4")), "out.mp4", "--backend", "eager")
    with Command("vsr-encode", *words, folder=tmp_path, streams={2: Path(os.ttyname(theirs))}) as command:
        said = b""
        while not said:  # until the command has opened its end
            said = os.read(ours, 65536)
        os.close(theirs)
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            said += chunk
        os.close(ours)
        assert command.wait() == 0
    assert b"38/38" in said
    assert b"fps" in said
