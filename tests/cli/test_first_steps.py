"""What a new user types first, and what is said at once: before anything slow is loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.cli.warm import Command
from vsr_plugin.cli import program
from vsr_plugin.cli.jobs import find_jobs
from vsr_plugin.cli.program import vsr
from vsr_plugin.sizes import Size
from vsr_plugin.stream.encoder import choose_codec


def command(
    *words: str,
    name: str = "main_encode",
    slow: tuple[str, ...] = ("torch", "numpy", "rich", "filelock"),
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command; the last line of its standard error says whether it has loaded something slow."""
    code = (
        f"import sys; from vsr_plugin.cli import {name} as main\n"
        "try: main()\n"
        f"finally: print(any(name in sys.modules for name in {slow}), file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, cwd=cwd)


@pytest.mark.parametrize(("asked", "policy"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_that_wait_leave_the_processors_to_others_unless_told_otherwise(
    asked: dict[str, str], policy: str
) -> None:
    code = "import os\nfrom vsr_plugin.cli import main\ntry: main()\nfinally: print(os.environ['OMP_WAIT_POLICY'])"
    bare = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    line = [sys.executable, "-c", code, "--version"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=bare | asked)
    assert done.stdout.splitlines()[-1] == policy


def encode(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run `vsr-encode` where everything is loaded already."""
    with Command("vsr-encode", *words, "--backend", "eager", folder=folder) as started:
        code = started.wait()
        assert code is not None
        return subprocess.CompletedProcess(words, code, started.stdout, started.stderr)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backend", "foo"), "Unknown backend 'foo'"),
        (("--backend", "cuda"), "Expected a backend, got the device 'cuda': use --device cuda"),
        (("--device", "gpu"), "Unknown device 'gpu'. Expected 'cpu', 'cuda' or 'cuda:1'"),
        (("--precision", "float16", "--backend", "openvino"), "'openvino' has no precision 'float16'"),
        (
            ("--precision", "int8", "-m", "srcnn"),
            "No weights of srcnn ×2 are in 8 bits, for precision int8",
        ),
        (("--precision", "int8", "-m", "auto", "-x", "8"), "Expected a scale that a model has weights in 8 bits for"),
        (("--model", "drcn"), "No weights are shipped for drcn ×2"),
        (("--weights", "nothing.pth"), "No such file: nothing.pth"),
        (("--segment", "5"), "Expected --segment with --resume, --workers or --cluster, got none of them"),
        (("--scale", "8"), "Model 'espcn' has no scale 8. Its scales: 2, 3, 4. Models with ×8: lapsrn"),
        (("--matrix", "foo"), "Unknown matrix 'foo'. Expected one of bt709, bt601, bt2020, fcc,"),
        (("--resolution", "1080"), "No such option: --resolution. Use --size 1920x1080"),
        (("--pix-fmt", "foo"), "Encoder png takes no pixel format 'foo'. It takes: rgb24"),
        (("--scale", "1.5"), "Expected --scale to be a whole number, got '1.5'"),
    ],
)
def test_what_is_wrong_is_said_at_once(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "in.png")
    done = command("in.png", "out.png", *words, cwd=tmp_path)
    assert message in done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert done.returncode in (1, 2)


@pytest.mark.parametrize(("name", "message"), [("in.mkv", "not a video or image"), ("in.srt", "got subtitle streams")])
def test_what_cannot_be_enlarged_is_said_at_once(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_text("1\n00:00:00,000 --> 00:00:01,000\nHello.\n" if name == "in.srt" else "no video")
    done = command(name, "out.mkv", cwd=tmp_path)
    assert message in done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert done.returncode == 1


def test_a_size_that_is_not_larger_is_said_at_once(tmp_path: Path) -> None:
    clip = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc2=s=64x48:d=0.2", "-c:v", "libx264", "in.mp4"]
    subprocess.run(clip, cwd=tmp_path, check=True)
    turn = ["ffmpeg", "-v", "error", "-i", "in.mp4", "-c", "copy", "-metadata:s:v", "rotate=90", "turned.mp4"]
    subprocess.run(turn, cwd=tmp_path, check=True)
    for name, side, shape in (("in.mp4", 48, "64×48"), ("turned.mp4", 64, "48×64")):
        done = command(name, "out.mkv", "--height", str(side), cwd=tmp_path)
        assert f"{name}: expected a size above that of the frames, {shape}, got a height of {side}" in done.stderr
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "False")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("compare none.mp4", "No such file: none.mp4"),
        ("compare in.txt", "in.txt: not a video or image"),
        ("compare in.png -m espcn,foo", "Unknown model 'foo'"),
        ("compare in.png --crop 3", "Expected --crop as 160x120+40+32"),
        ("eval espcn -x 2 --data none", "Expected a folder of images, got 'none': no such folder"),
        ("eval foo -x 2 --data .", "Unknown model 'foo'"),
        ("eval espcn -x 2 --data . --weights in.txt", "Expected a file named .safetensors, .pth, .pt, .npz, got 'in.t"),
        ("train espcn --data none", "No such folder or film: none"),
        ("train espnc --data .", "Unknown model 'espnc'. Did you mean 'espcn'?"),
        ("train espcn --data . --device tpu", "Unknown device 'tpu'"),
        ("segments none.mkv", "No such file: none.mkv"),
        ("segments in.txt", "in.txt: not a video or image"),
        ("encode in.png --weights in.txt", "Expected a file named .safetensors, .pth, .pt, .npz, got 'in.txt'"),
        ("preview in.txt --serve", "in.txt: not a video or image"),
        ("preview . --serve", "Expected a file, got a folder: ."),
        ("export espcn --to x", "Unknown kind of file 'x'"),
        ("export espcn --to onnx --weights none.pth", "No such file: none.pth"),
        ("compare in.png -o out.xyz", "Cannot write a .xyz file"),
        ("compare in.png --duration 2", "Expected --duration with a video, got in_compare_x2.html"),
        ("eval espcn -x 2 --data . --backend foo", "Unknown backend 'foo'"),
        ("train espcn --data . --from none.pth", "No such file: none.pth"),
        ("train espcn --data . --vgg none.pth", "No such file: none.pth"),
        ("train espcn --data . --benchmark none", "No such folder: none"),
        ("models names espcn -x 7", "Model 'espcn' has no scale 7"),
        ("models convert none.pth out.safetensors --model espcn -x 2", "No such file: none.pth"),
        ("models quantize espcn out.safetensors --data none -x 2", "No such folder: none"),
        ("models quantize espcn out.safetensors --data . -x 2 --measure a=none", "No such folder: none"),
        ("models export none .", "No such folder: none"),
        ("models export . . --device tpu", "Unknown device 'tpu'"),
        ("bench job --backend foo", "Unknown backend 'foo'"),
        ("bench job --weights none.pth", "No such file: none.pth"),
        ("bench job --plot out.xyz", "Expected a chart named .jpeg, .jpg, .pdf, .png, .svg, .webp, got 'out.xyz'"),
        ("bench job --plot none/out.png", "No such folder: none"),
        ("bench layers --weights none.pth", "No such file: none.pth"),
        ("bench kernels --precision foo", "Unknown precision 'foo'. Known precisions: float16, bfloat16, float32"),
        ("preview in.png --serve --weights none.pth", "No such file: none.pth"),
        ("preview in.png --serve --host 192.0.2.1", "Cannot listen at 192.0.2.1:8470"),
        ("preview in.png --serve --port 99999", "Expected --port to be less than or equal to 65535"),
        ("preview in.png --serve --port 0 --format foo", "Expected a format that FFmpeg has here, got 'foo'"),
        ("segments in.png --segment 0", "Expected --segment above 0, got '0'"),
    ],
)
def test_other_commands_say_it_at_once_too(tmp_path: Path, line: str, message: str) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "in.png")
    (tmp_path / "in.txt").write_text("no video")
    done = command(*line.split(), name="main", slow=("torch",), cwd=tmp_path)
    assert message in done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert done.returncode in (1, 2)


def test_what_is_left_is_removed_at_once(tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "in.png")
    done = command("segments", "in.png", "--clear", name="main", slow=("torch",), cwd=tmp_path)
    assert done.stderr.splitlines()[-2:] == ["Nothing is left of in.png in .", "False"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encode in.png out.png --device cuda", "No device 'cuda', because there is no "),
        ("encode in.png out.png --device cuda:1", "No device 'cuda:1', because there is no "),
        ("encode in.png out.png --backend tensorrt", "Backend 'tensorrt' runs on cuda, and there is no "),
        ("encode in.png out.png --backend openvino --device cuda", "Backend 'openvino' runs on cpu, not on cuda"),
        ("encode in.png out.png --workers gpus", "Expected --workers as a number, got gpus, and there is no "),
        ("encode in.png out.png --workers gpus --device cpu", "Expected --workers as a number with --device cpu"),
        ("preview in.png --serve --device cuda", "No device 'cuda'"),
        ("compare in.png --device cuda", "No device 'cuda'"),
        ("eval espcn -x 2 --data . --backend eager --device cuda", "No device 'cuda'"),
        ("train espcn --data . --device cuda", "No device 'cuda'"),
        ("bench job --device cuda", "No device 'cuda'"),
        ("models export . . --device cuda", "No device 'cuda'"),
    ],
)
def test_a_gpu_that_is_not_there_is_missed_at_once(tmp_path: Path, line: str, message: str) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "in.png")
    done = command(*line.split(), name="main", slow=("torch",), cwd=tmp_path)
    assert message.removesuffix("there is no ") in done.stderr
    assert done.stderr.splitlines()[-1] == "False"
    assert done.returncode == 2


def test_default_names_tell_results_apart() -> None:
    box = Size(width=8, height=6)
    changes: list[dict[str, Any]] = [{}, {"fit": "cover"}, {"fit": "stretch"}, {"square_pixels": True}, {"scale": 2}]
    sizes = [replace(box, **change) for change in changes]
    names = [find_jobs(["a.mkv"], None, "espcn", size)[0][1] for size in sizes]
    names += [find_jobs(["a.mkv"], None, "espcn", 2, marks)[0][1] for marks in ((), ("video",), ("video", "ensemble"))]
    assert names == [
        "a_espcn_8x6.mkv",
        "a_espcn_8x6_cover.mkv",
        "a_espcn_8x6_stretch.mkv",
        "a_espcn_8x6_square.mkv",
        "a_espcn_8x6_x2.mkv",
        "a_espcn_x2.mkv",
        "a_espcn_x2_video.mkv",
        "a_espcn_x2_video_ensemble.mkv",
    ]


@pytest.mark.parametrize(
    ("words", "mark"),
    [
        (("--tuned-for", "video"), "video"),
        (("-m", "espcn:video"), "video"),
        (("--self-ensemble",), "ensemble"),
        (("--weights", "own.npz"), "own"),
    ],
)
def test_what_is_unusual_is_in_the_name(tmp_path: Path, words: tuple[str, ...], mark: str) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "in.png")
    (tmp_path / "own.npz").touch()
    (tmp_path / f"in_espcn_x2_{mark}.png").touch()
    assert f"in_espcn_x2_{mark}.png exists" in command("in.png", *words, cwd=tmp_path).stderr


def test_alone_it_shows_usage_and_examples() -> None:
    done = command()
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: vsr-encode INPUT [OUTPUT]")
    assert done.stderr.count("  vsr-encode in.") == 3


@pytest.mark.parametrize("name", ["main", "main_encode", "main_preview"])
def test_version_and_completion(name: str) -> None:
    done = command("--version", name=name)
    assert (done.returncode, done.stdout[:11]) == (0, "vsr_plugin ")
    assert "--install-completion" in command("--help", name=name).stdout


@pytest.mark.parametrize(
    ("program", "line", "offered"),
    [
        ("vsr-encode", "vsr-encode in.mp4 --model es", ["espcn"]),
        ("vsr-preview", "vsr-preview in.mp4 -m fsr", ["fsrcnn", "fsrcnn-s"]),
        ("vsr", "vsr export edsr", ["edsr-baseline"]),  # edsr has no weights
    ],
)
def test_a_shell_completes_models(program: str, line: str, offered: list[str]) -> None:
    asked = {
        f"_{program.upper().replace('-', '_')}_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split()) - 1),
    }
    script = Path(sys.executable).with_name(program)
    done = subprocess.run([script], env={**os.environ, **asked}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == offered


def test_help_fits_80_columns_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    left: list[list[str]] = [[]]
    while left:
        path = left.pop()
        said = CliRunner().invoke(vsr(), [*path, "--help"], catch_exceptions=False).stdout
        commands = said.partition("\nCommands:\n")[2]
        assert [line for line in said.splitlines() if len(line) > 80] == [], path
        assert "..." not in commands, path
        left += [[*path, line.split()[0]] for line in commands.splitlines() if line[2:3].isalpha()]
        assert path or left


def test_help_has_placeholders_in_place_of_types(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left: list[list[str]] = [[]]
    while left:
        path = left.pop()
        monkeypatch.setattr(sys, "argv", ["vsr", *path, "--help"])
        assert program.run("vsr") == 0
        said = capsys.readouterr().out
        assert [
            line for line in said.replace("x>=", "").replace("<=x<=", "").splitlines() if set("<>{}") & set(line)
        ] == []
        assert "list[" not in said
        left += [
            [*path, line.split()[0]] for line in said.partition("\nCommands:\n")[2].splitlines() if line[2:3].isalpha()
        ]
        assert path or left


def test_an_address_needs_an_output_name() -> None:
    assert "Expected -o with the address http://host/a.mp4" in command("http://host/a.mp4").stderr


@pytest.mark.parametrize(("alias", "name"), [("h264", "libx264"), ("hevc", "libx265"), ("vp9", "libvpx-vp9")])
def test_a_codec_named_by_its_format_is_the_encoder_with_its_defaults(alias: str, name: str) -> None:
    assert choose_codec(".mkv", 8, alias) == name


def test_a_folder_keeps_its_tree(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/one/two/b.png", "in/one/.hidden/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16)).save(tmp_path / name)
    done = encode("in", "-o", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    made = sorted(str(file.relative_to(tmp_path)) for file in (tmp_path / "out").rglob("*.png"))
    assert made == ["out/a_espcn_x2.png", "out/one/two/b_espcn_x2.png"]


def test_earlier_results_in_a_folder_are_left_out_and_counted(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "in/a_espcn_x2.png"):
        Image.new("L", (16, 16)).save(tmp_path / name)
    done = encode("in", "-o", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "in: 1 earlier results (*_espcn_x2.*) are not enlarged again" in done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a_espcn_x2.png"]


def test_existing_outputs_are_skipped_and_failures_are_in_the_json(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "bad.png"):
        Image.new("L", (16, 16)).save(tmp_path / name)
    (tmp_path / "bad.png").write_text("no image")
    (tmp_path / "a_espcn_x2.png").write_text("done before")
    done = encode("a.png", "b.png", "bad.png", "-o", ".", "--skip-existing", "--json", folder=tmp_path)
    assert done.returncode == 1
    assert "1 of 3 outputs exist and are skipped" in done.stderr
    assert done.stderr.splitlines()[-1] == "1 of 2 files written, 1 failed"
    assert (tmp_path / "a_espcn_x2.png").read_text() == "done before"
    good, bad = done.stdout.splitlines()
    assert f'"target": "{tmp_path / "b_espcn_x2.png"}"' in good
    assert f'"source": "{tmp_path / "bad.png"}", "error": ' in bad


def test_the_last_file_of_a_folder_fails_as_any_other_does(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/sub/bad.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16)).save(tmp_path / name)
    (tmp_path / "in/sub/bad.png").write_text("no image")
    for made in ("1 of 2", "0 of 1"):
        done = encode("in", "-o", "out", "--skip-existing", "--json", folder=tmp_path)
        assert done.returncode == 1
        assert "Error: in/sub/bad.png: " in done.stderr
        assert done.stderr.splitlines()[-1] == f"{made} files written, 1 failed"
        assert '"error": ' in done.stdout.splitlines()[-1]


def test_a_failed_file_is_named_with_its_folder(tmp_path: Path) -> None:
    for name in ("in/a.png", "in/sub/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16)).save(tmp_path / name)
    (tmp_path / "in/sub/a.png").write_text("no image")
    done = encode("in", "-o", "out", folder=tmp_path)
    failed = Path("in", "sub", "a.png")
    assert f"Error: {failed}: not one frame of the video stream decodes" in done.stderr
    assert done.stderr.splitlines()[-1] == "1 of 2 files written, 1 failed"


def test_two_inputs_of_one_name_stop_only_the_second(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "other").mkdir()
    for name in ("in/a.png", "in/b.png", "other/a.png"):
        Image.new("L", (16, 16)).save(tmp_path / name)
    done = encode("in", "other", "-o", "out", "-y", folder=tmp_path)
    assert done.returncode == 1
    assert "a_espcn_x2.png is another input or output of the same call" in done.stderr
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"a_espcn_x2.png", "b_espcn_x2.png"}


def test_an_option_that_suits_one_container_stops_only_the_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("in/a.mkv", "in/b.webm"):
        clip = f"ffmpeg -v error -f lavfi -i testsrc2=s=32x32:d=0.2 -c:v libvpx -y {name}".split()
        subprocess.run(clip, cwd=tmp_path, check=True)
    done = encode("in", "-o", "out", "--preset", "ultrafast", "--json", folder=tmp_path)
    assert done.returncode == 1
    assert f"Error: in{os.sep}b.webm: Encoder libvpx-vp9 has no option 'preset'" in done.stderr
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a_espcn_x2.mkv"]
    good, bad = map(json.loads, done.stdout.splitlines())
    assert (Path(good["source"]).name, Path(bad["source"]).name) == ("a.mkv", "b.webm")
    assert "'preset'" in bad["error"]
    done = command("in/b.webm", "-o", "b.webm", "--preset", "ultrafast", cwd=tmp_path)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (2, "False")


def test_a_folder_gives_its_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "in" / "folder.png").mkdir(parents=True)
    Image.new("L", (16, 16)).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "link.png").symlink_to("a.png")
    os.mkfifo(tmp_path / "in" / "pipe.mp4")
    done = encode("in", "-o", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"in{os.sep}pipe.mp4 is no regular file: skipped" in done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a_espcn_x2.png", "link_espcn_x2.png"]


def test_small_frames_do_not_crash_x265(tmp_path: Path) -> None:
    noise = "nullsrc=s=24x20:r=25:d=1.2,geq=random(1)*255:128:128"
    clip = ["-f", "lavfi", "-i", noise, "-pix_fmt", "yuv420p10le", "-c:v", "ffv1", "a.mkv"]
    subprocess.run(["ffmpeg", "-v", "error", *clip], cwd=tmp_path, check=True)
    for name in ("b.mkv", "c.mkv", "d.mkv", "e.mkv"):
        (tmp_path / name).hardlink_to(tmp_path / "a.mkv")
    done = encode(*(f"{name}.mkv" for name in "abcde"), "-o", "out", folder=tmp_path)
    assert done.returncode == 0, done.stderr  # with cutree, which is x265's default, the heap is corrupted
    assert len(list((tmp_path / "out").iterdir())) == 5
