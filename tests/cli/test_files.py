"""Where results go on the command line: nothing of the user's is lost, and nothing half is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_encode import Run, run
from tests.cli.warm import Command
from tests.stream.conftest import Make, Media, frame_times
from vsr_plugin import cli, stream

__all__ = ["run"]
Say = pytest.CaptureFixture[str]


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """As ``run``, for images, whose encoders have no preset."""
    monkeypatch.chdir(tmp_path)

    def command(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["vsr-encode", "--backend", "eager", "--device", "cpu", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main_encode()
        return int(stop.value.code or 0)

    return command


def _there(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def _frames(pattern: str, count: int, color: int = 0) -> None:
    for number in range(1, count + 1):
        Image.new("L", (16, 16), color).save(pattern % number)


@pytest.mark.parametrize("same", ["b.mkv", "link.mkv", "hard.mkv", "../{folder}/b.mkv"])
@pytest.mark.parametrize("output", [(), ("-o",)])
def test_an_input_is_never_the_output(
    media: Media, run: Run, tmp_path: Path, capfd: Say, same: str, output: tuple[str, ...]
) -> None:
    for name in ("a.mkv", "b.mkv"):
        shutil.copy(media("lossless.mkv"), name)
    os.link("b.mkv", "hard.mkv")
    Path("link.mkv").symlink_to("b.mkv")
    name = same.format(folder=tmp_path.name)
    before = _there(tmp_path)
    assert run("-y", "b.mkv" if output else "a.mkv", *output, name) == 2
    assert (
        "exists. To overwrite it, use -o " if not output else "is an input, too: name another output"
    ) in capfd.readouterr().err
    assert Path("b.mkv").read_bytes() == media("lossless.mkv").read_bytes()
    assert _there(tmp_path) == before


def test_a_result_is_never_another_input(media: Media, run: Run, tmp_path: Path) -> None:
    for name in ("a.mkv", "a_espcn_x2.mkv", "c.mkv"):
        shutil.copy(media("lossless.mkv"), name)
    assert run("-y", "a.mkv", "a_espcn_x2.mkv", "c.mkv") == 2
    assert Path("a_espcn_x2.mkv").read_bytes() == media("lossless.mkv").read_bytes()


def test_a_shorter_sequence_leaves_no_old_frames(still: Run, tmp_path: Path, capfd: Say) -> None:
    _frames("in_%d.png", 2, 200)
    _frames("out_%02d.png", 5, 0)
    Path("out_keep.png").write_text("another name")
    assert still("-o", "out_%02d.png", "in_%d.png") == 1
    assert still("-y", "-o", "out_%02d.png", "in_%d.png") == 0
    assert _there(tmp_path) == ["in_1.png", "in_2.png", "out_01.png", "out_02.png", "out_keep.png"]
    assert {Image.open(f"out_0{number}.png").size for number in (1, 2)} == {(32, 32)}
    assert "Removed 3 older frames that would follow the new ones: out_03.png to out_05.png" in capfd.readouterr().err


def test_images_that_do_not_follow_a_shorter_sequence_stay(still: Run, tmp_path: Path, capfd: Say) -> None:
    _frames("in_%d.png", 2, 200)
    for number in (0, 1, 3, 9):
        Image.new("L", (16, 16)).save(f"out_{number:02}.png")
    kept = {name: Path(name).read_bytes() for name in ("out_00.png", "out_09.png")}
    assert still("-y", "-o", "out_%02d.png", "in_%d.png") == 0
    assert _there(tmp_path) == ["in_1.png", "in_2.png", "out_00.png", "out_01.png", "out_02.png", "out_09.png"]
    assert {name: Path(name).read_bytes() for name in kept} == kept
    assert "out_03.png to out_03.png" in capfd.readouterr().err


def test_frames_of_the_input_are_never_overwritten(still: Run, tmp_path: Path) -> None:
    _frames("f_%02d.png", 11)
    before = {name: Path(name).read_bytes() for name in _there(tmp_path)}
    assert still("-y", "-o", "f_%d.png", "f_%02d.png") == 2  # f_10 and f_11 are of both
    assert {name: Path(name).read_bytes() for name in _there(tmp_path)} == before


def test_the_parts_of_killed_runs_touch_no_other_files(
    media: Media, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsr_plugin.stream.output._machine", lambda: "0123")
    stale = tmp_path / ".vsr-0123-abcdefgh.part"
    stale.mkdir()
    (stale / "placing").write_text('{"pattern": "f_%d.png", "frames": 2}')
    for number in (1, 2):
        Image.new("L", (16, 16), 255).save(stale / f"{number}.png")
    _frames("f_%d.png", 3)
    before = {number: Path(f"f_{number}.png").read_bytes() for number in (1, 2, 3)}
    assert run(media("lossless.mkv"), "-o", "other.mkv", "-n", 1) == 0
    assert {number: Path(f"f_{number}.png").read_bytes() for number in (1, 2, 3)} == before
    assert not stale.exists()


@pytest.mark.parametrize("letter", ["n", "ü", "語"])
def test_the_longest_names(media: Media, run: Run, tmp_path: Path, letter: str) -> None:
    Path("all").mkdir()
    name = letter * ((255 - 4) // len(letter.encode())) + ".mkv"
    shutil.copy(media("lossless.mkv"), Path("all") / name)
    shutil.copy(media("lossless.mkv"), "all/z.mkv")
    assert run("all", "-o", "out", "-n", 1) == 0
    long, short = sorted(_there(tmp_path / "out"), key=len, reverse=True)
    assert long.startswith(letter * 10)
    assert len(os.fsencode(long)) <= 255
    assert short == "z_espcn_x2.mkv"
    assert run("all/z.mkv", "-o", "n" * 300 + ".mkv", "-n", 1) == 1


def test_names_that_are_too_long_for_a_file(media: Media, run: Run, tmp_path: Path, capfd: Say) -> None:
    shutil.copy(media("lossless.mkv"), "a.mkv")
    name = f"{'x' * 300}.mkv"
    assert run("a.mkv", "-o", name) == 1
    assert capfd.readouterr().err == f"Error: Cannot write {name}: File name too long\n"
    assert run(name) == 1
    assert capfd.readouterr().err == f"Error: No such file: {name}\n"
    assert run(name, "a.mkv", "-o", "results/") == 1, "and the other one is done"
    assert f"No such file: {name}" in capfd.readouterr().err
    assert _there(tmp_path / "results") == ["a_espcn_x2.mkv"]
    assert run("a.mkv", "-o", f"{'x' * 300}/") == 1
    assert capfd.readouterr().err == f"Error: Cannot make the folder {'x' * 300}: File name too long\n"


def test_the_unexpected_does_not_stop_a_batch(
    media: Media, run: Run, tmp_path: Path, capfd: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = stream.upscale_file

    def breaking(source: str, *words: object, **options: object) -> object:
        if source == "a.mkv":
            raise RuntimeError("a bug")
        return genuine(source, *words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(stream, "upscale_file", breaking)
    for name in ("a.mkv", "b.mkv"):
        shutil.copy(media("lossless.mkv"), name)
    assert run("a.mkv", "b.mkv", "-o", "out/", "-n", 1) == 1
    assert _there(tmp_path / "out") == ["b_espcn_x2.mkv"]
    assert "Error: a.mkv: Unexpected RuntimeError: a bug" in capfd.readouterr().err


def test_a_percent_sign_is_no_pattern_where_a_file_has_it(media: Media, still: Run, tmp_path: Path) -> None:
    Path("90% on").mkdir()
    shutil.copy(media("lossless.mkv"), "50%d off.mkv")
    _frames("90%% on/f_%d.png", 2)
    Image.new("L", (16, 16)).save("50%d off.png")
    assert still("50%d off.mkv", "-n", 1) == 0
    assert still("50%d off.png") == 0
    assert still("90% on/f_%d.png") == 0
    assert {"50%d off_espcn_x2.mkv", "50%d off_espcn_x2.png"} < set(_there(tmp_path))
    assert _there(tmp_path / "90% on") == ["f_1.png", "f_2.png", "f_espcn_x2_1.png", "f_espcn_x2_2.png"]


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_are_not_replaced(media: Media, run: Run, tmp_path: Path, capfd: Say, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo("out.mkv")
    else:
        Path("out.mkv").symlink_to("/dev/null")
    assert run(media("lossless.mkv"), "-y", "-o", "out.mkv") == 1
    assert "device or a pipe" in capfd.readouterr().err
    assert not Path("out.mkv").is_file()


def test_a_link_is_followed(media: Media, run: Run, tmp_path: Path) -> None:
    Path("there").mkdir()
    Path("there/old.mkv").write_text("old")
    Path("out.mkv").symlink_to("there/old.mkv")
    assert run(media("lossless.mkv"), "-y", "-o", "out.mkv", "-n", 1) == 0
    assert Path("out.mkv").is_symlink()
    assert len(frame_times(Path("there/old.mkv"))) == 1


def test_escapes_in_names_are_written_out(media: Media, run: Run, capfd: Say) -> None:
    name = "a\x1b[31m\u202eb.mkv"
    shutil.copy(media("lossless.mkv"), name)
    assert run(name, "-n", 1) == 0
    assert run(name, "-n", 1) == 1
    said = capfd.readouterr().err
    assert "a\\x1b[31m\\u202eb.mkv → " in said
    assert not {"\x1b", "\u202e"} & set(said)


_SOUNDED = "-f lavfi -i testsrc2=s=64x48:r=25:d=1 -f lavfi -i sine=d=1"


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("-c:v libx264 -preset ultrafast -g 5 -c:a aac", "a.mkv"),
        ("-c:v libx264 -preset ultrafast -g 5 -c:a aac -movflags faststart", "a.mp4"),
        ("-c:v mpeg2video -g 5 -c:a ac3", "a.ts"),
        ("-c:v mpeg4 -g 5 -c:a libmp3lame", "a.avi"),
        ("-c:v libvpx-vp9 -deadline realtime -g 5 -c:a libopus", "a.webm"),
    ],
)
def test_ffmpeg_prints_no_lines_of_its_own(make: Make, run: Run, capfd: Say, how: str, name: str) -> None:
    data = bytearray(make(f"{_SOUNDED} {how}", name).read_bytes())
    for at in range(len(data) // 3, len(data), len(data) // 9):
        data[at : at + 40] = bytes(40)
    Path(name).write_bytes(data)
    Path(f"cut_{name}").write_bytes(data[: len(data) * 3 // 4])
    for film in (name, f"cut_{name}"):
        assert run(film, "-o", "out.mkv", "-y") == 1
    lines = capfd.readouterr().err.splitlines()
    assert any(name in line for line in lines)
    assert not [line for line in lines if " @ 0x" in line or line.startswith("[")]


_FULL = Path("/dev/full")


@pytest.mark.parametrize(
    ("words", "streams", "message"),
    [
        (("--json", "-o", "out.mkv", "{film}"), {1: _FULL}, "Cannot write to standard output: No space left"),
        (("--json", "-o", "out.mkv", "{film}"), {1: None}, "Cannot write to standard output: it is closed"),
        (("-o", "-", "{film}"), {1: None}, "Standard output is closed"),
        (("-o", "-", "{film}"), {1: _FULL}, "Cannot write y4m: No space left"),
        (("-o", "out.mkv", "-"), {0: None}, "Standard input is closed"),
    ],
)
def test_closed_and_full_streams(
    media: Media, tmp_path: Path, words: tuple[str, ...], streams: dict[int, Path | None], message: str
) -> None:
    said = (word.format(film=media("lossless.mkv")) for word in words)
    with Command(
        "vsr-encode", "-q", "-n", "1", "--backend", "eager", *said, folder=tmp_path, streams=streams
    ) as command:
        assert command.wait() == 1
        assert command.stderr.startswith(f"Error: {message}")
        assert command.stderr.count("\n") == 1


@pytest.fixture
def at_work(tmp_path: Path) -> Callable[[], Command]:
    """Starts an encode into the test's folder, and waits until it writes."""

    def start() -> Command:
        clip = Path(__file__).parents[2] / "examples/clip.mp4"
        output = ("-o", str(tmp_path / "there/out.mp4"), "-y")
        encoder = ("--preset", "ultrafast", "-e", "tune=zerolatency")  # which writes from the first frame on
        words = (str(clip), "-x", "4", *output, *encoder, "--backend", "eager")
        (tmp_path / "there").mkdir(exist_ok=True)
        command = Command("vsr-encode", *words, folder=tmp_path)
        for _ in range(2400):
            if any((tmp_path / "there").glob(".vsr-*/output*")):
                break
            time.sleep(0.05)
        return command

    return start


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_nothing_after_the_next(
    media: Media, run: Run, tmp_path: Path, at_work: Callable[[], Command], number: int
) -> None:
    with at_work() as command:
        assert run(media("lossless.mkv"), "-o", "there/other.mkv", "-n", 1) == 0
        assert command.code is None  # the folder of a living process stays
        assert len(list((tmp_path / "there").glob(".vsr-*"))) == 1
        command.send(number)
        code, said = command.wait(), command.stderr
    if number != signal.SIGKILL:
        assert code == 130
        assert said.endswith("nothing of it is left; with --resume, what is done of a film is kept\n")
        assert _there(tmp_path / "there") == ["other.mkv"]
    foreign = tmp_path / "there/.vsr-00000000-abcdefgh.part"
    foreign.mkdir()
    assert run(media("lossless.mkv"), "-y", "-o", "there/other.mkv", "-n", 1) == 0
    assert _there(tmp_path / "there") == [foreign.name, "other.mkv"]


def test_a_folder_that_is_moved_is_noticed_at_once(run: Run, tmp_path: Path, at_work: Callable[[], Command]) -> None:
    with at_work() as command:
        (tmp_path / "there").rename(tmp_path / "elsewhere")
        assert command.wait() == 1
        said = command.stderr
    assert "was moved or deleted while out.mp4 was written to it" in said
    assert _there(tmp_path / "elsewhere") == []
