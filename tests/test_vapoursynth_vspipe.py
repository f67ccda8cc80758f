"""Scripts through vspipe, as users run them: the bytes of `vsr-encode`, sentences for errors, nothing on stdout."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import vapoursynth as vs

from tests.cli.warm import Command
from vsr_plugin.frames import Matrix
from vsr_plugin.stream import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    type Pipe = Callable[..., subprocess.CompletedProcess[bytes]]

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
CLIP = EXAMPLES / "clip.mp4"
BIN = Path(sys.executable).parent
FRAMES, WIDTH, HEIGHT = 5, 240, 136
LOSSLESS = {".mkv": "ffv1", ".avi": "utvideo"}  # and only that one has planes of 8-bit RGB
HEAD = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import vapoursynth as vs
import vsr_plugin.vapoursynth as vsr
from vapoursynth_source import *
core = vs.core
"""


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which vspipe finds this Python, as after ``vapoursynth config``, with folders of its own."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
    subprocess.run([BIN / "vapoursynth", "config"], env=environment, capture_output=True, check=True)
    return environment


@pytest.fixture
def vspipe(configured: dict[str, str], tmp_path: Path) -> Pipe:
    """Run a script."""

    def run(script: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        file = tmp_path / "script.vpy"
        file.write_text(HEAD + script, encoding="utf-8")
        command = [str(BIN / "vspipe"), str(file), *words]
        return subprocess.run(command, env=configured, capture_output=True, timeout=300, check=False)

    return run


def video(done: subprocess.CompletedProcess[bytes]) -> bytes:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def y4m(done: subprocess.CompletedProcess[bytes], form: int) -> tuple[str, list[bytes]]:
    """The header of a y4m stream, and its frames."""
    header, _, rest = video(done).partition(b"\n")
    width, height = (int(re.search(rf" {letter}(\d+)", header.decode()).group(1)) for letter in "WH")  # type: ignore[union-attr]
    blank = vs.core.std.BlankClip(format=form, width=width, height=height, length=1).get_frame(0)
    size = sum(np.asarray(blank[index]).nbytes for index in range(blank.format.num_planes))
    assert len(rest) % (size + 6) == 0
    parts = [rest[begin : begin + size + 6] for begin in range(0, len(rest), size + 6)]
    assert all(part.startswith(b"FRAME\n") for part in parts)
    return header.decode(), [part[6:] for part in parts]


def run_here(script: str) -> subprocess.CompletedProcess[bytes]:
    """The y4m stream that vspipe would make of a script, made in this process, which has loaded everything already."""
    written = io.BytesIO()
    exec(HEAD + script, {})
    output = vs.get_output(0)
    assert isinstance(output, vs.VideoOutputTuple)
    output.clip.output(written, y4m=True)
    vs.clear_outputs()
    return subprocess.CompletedProcess((), 0, written.getvalue(), b"")


def make(path: Path, pix_fmt: str) -> Path:
    """The first frames of a real clip, a quarter of them, lossless, in another format."""
    with av.open(str(CLIP)) as clip, av.open(str(path), "w") as target:
        stream: Any = target.add_stream(LOSSLESS[path.suffix], rate=30)
        frames = [frame for frame, _ in zip(clip.decode(video=0), range(FRAMES), strict=False)]
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        context = stream.codec_context
        if pix_fmt != "gbrp":
            context.color_range, context.colorspace = 1, frames[0].colorspace
        for index, frame in enumerate(frames):
            other = frame.reformat(WIDTH, HEIGHT, pix_fmt)
            other.pts, other.time_base = index, stream.time_base
            target.mux(stream.encode(other))
        target.mux(stream.encode(None))
    return path


def encoded(path: Path, folder: Path, *options: str) -> list[bytes]:
    """The frames that `vsr-encode` makes of a file, plane by plane; G, B and R as vspipe has them."""
    output = folder / f"encoded{path.suffix.replace('.mp4', '.mkv')}"
    words = (str(path), str(output), "-q", "-y", "--codec", LOSSLESS[output.suffix], *options)
    with Command("vsr-encode", *words, folder=folder) as command:
        assert command.wait() == 0, command.stderr
    frames = []
    for frame in Source(output):
        planes = [plane.tobytes() for plane in frame.planes]
        frames.append(b"".join(planes[1:] + planes[:1] if frame.color.matrix is Matrix.RGB else planes))
    return frames


# One engine, one picture.


@pytest.mark.parametrize(
    ("pix_fmt", "form", "scale", "model"),
    [
        ("yuv420p", vs.YUV420P8, 3, "espcn"),
        ("yuv420p", vs.YUV420P8, 2, "fsrcnn"),
        ("yuv422p", vs.YUV422P8, 2, "espcn"),
        ("yuv420p10le", vs.YUV420P10, 2, "espcn"),
        ("yuv444p16le", vs.YUV444P16, 2, "espcn"),
        ("gray", vs.GRAY8, 4, "espcn"),
    ],
)
def test_y4m_is_byte_for_byte_what_vsr_encode_makes(
    pix_fmt: str, form: int, scale: int, model: str, tmp_path: Path, vspipe: Pipe
) -> None:
    clip = make(tmp_path / "clip.mkv", pix_fmt)
    script = f"vsr.upscale(open_file({str(clip)!r}), scale={scale}, model={model!r}).set_output()"
    done = vspipe(script, "-c", "y4m", "-") if form == vs.YUV420P8 and scale == 3 else run_here(script)
    header, frames = y4m(done, form)
    assert f"W{WIDTH * scale} H{HEIGHT * scale} F30:1" in header
    assert frames == encoded(clip, tmp_path, "-x", str(scale), "--model", model)
    assert len(frames) == FRAMES


def test_rgb_is_byte_for_byte_what_vsr_encode_makes(tmp_path: Path, vspipe: Pipe) -> None:
    clip = make(tmp_path / "clip.avi", "gbrp")
    frames = encoded(clip, tmp_path, "-x", "2")
    assert video(vspipe(f"vsr.upscale(open_file({str(clip)!r})).set_output()", "-")) == b"".join(frames)
    assert len(frames) == FRAMES


def test_floating_rgb_is_what_vsr_encode_makes_before_it_rounds(tmp_path: Path, vspipe: Pipe) -> None:
    clip = make(tmp_path / "clip.avi", "gbrp")
    script = f"vsr.upscale(open_file({str(clip)!r}).resize.Point(format=vs.RGBS)).set_output()"
    samples = np.frombuffer(video(vspipe(script, "-")), np.float32).astype(np.float64) * 255
    expected = np.frombuffer(b"".join(encoded(clip, tmp_path, "--precision", "float32")), np.uint8)
    assert np.abs(samples.clip(0, 255) - expected).max() < 0.501  # half a code value is the rounding


# Requests.

COUNTED = """
from vsr_plugin.sizes import Target
from vsr_plugin.vapoursynth.graph import enlarged
import json
core.num_threads = int(threads)
counters = [Counter(), Counter()]
clip = numbered(200)
enlarged(clip, counters, Target(clip.width, clip.height, (1,)), 8).set_output()
write = lambda file=open(log, "w"), counters=counters, dump=json.dump: dump([c.batches for c in counters], file)
vs.register_on_destroy(lambda write=write: write())  # when the names of the script are gone
"""


@pytest.mark.parametrize(("threads", "requests"), [(1, 1), (1, 32), (8, 32)])
def test_vspipe_computes_every_frame_once(threads: int, requests: int, tmp_path: Path, vspipe: Pipe) -> None:
    log = tmp_path / "log.json"
    done = vspipe(COUNTED, "-a", f"threads={threads}", "-a", f"log={log}", "-r", str(requests), "-")
    frames = np.frombuffer(video(done), np.uint8).reshape(200, -1)
    assert frames[:, 0].tolist() == list(range(200))
    batches = [batch for counter in json.loads(log.read_text()) for batch in counter]
    assert sorted(chain.from_iterable(batches)) == list(range(200))
    assert len(batches) <= 25 + 1 + (requests if threads > 1 else requests > 1)  # as in the tests of the blocks


# Talk.


def test_an_error_in_a_frame_is_one_sentence(vspipe: Pipe) -> None:
    script = "clip = numbered(9)\nvsr.upscale(clip[:4] + clip[4].std.SetFieldBased(1) + clip[5:]).set_output()"
    done = vspipe(script, "-c", "y4m", "-")
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if "vsr" in line or "Traceback" in line]
    [sentence] = said
    assert sentence == (
        "vapoursynth.Error: vsr.upscale: expected progressive frames, got fields in frame 4 (_FieldBased=1): "
        "deinterlace the clip first, or, if the mark is wrong, std.SetFieldBased(clip, 0)"
    )


def test_an_error_of_the_script_is_said_with_its_remedy(vspipe: Pipe) -> None:
    done = vspipe("vsr.upscale(numbered(9), model='espnc').set_output()", "--")
    assert done.returncode == 1
    assert b"vsr.upscale: unknown model 'espnc'" in done.stderr
    assert b"script.vpy" in done.stderr  # and where
    assert b"vsr.upscale(numbered(9), model='espnc')" in done.stderr


LOUD = """
import os
from vsr_plugin.backends.eager import EagerBackend, EagerNetwork
compile_quietly, run_quietly = EagerBackend.compile, EagerNetwork.__call__

def compile_loudly(*words):
    print("compiling, says Python")
    os.write(1, b"compiling, says C\\n")
    os.system("echo compiling, says a child")
    return compile_quietly(*words)

def run_loudly(*words):
    print("running, says Python")
    return run_quietly(*words)

EagerBackend.compile, EagerNetwork.__call__ = compile_loudly, run_loudly
print("this is the script's own", file=sys.stderr)
vsr.upscale(numbered(6), backend="eager", num_streams=2, batch_size=2).set_output()
"""


def test_whatever_a_backend_prints_stays_off_stdout(vspipe: Pipe) -> None:
    done = vspipe(LOUD, "-c", "y4m", "-")
    header, frames = y4m(done, vs.YUV420P8)
    assert header.startswith("YUV4MPEG2 ")
    assert len(frames) == 6
    said = done.stderr.decode()
    for words in ("compiling, says Python", "compiling, says C", "compiling, says a child", "running, says Python"):
        assert words in said


def test_stdout_is_given_back_after_the_script_is_loaded(vspipe: Pipe) -> None:
    done = vspipe("vsr.upscale(numbered(2)).set_output()\nprint('the script may')", "-i", "-")
    assert video(done).startswith(b"the script may\n")


# Examples.


def test_every_example_is_short_and_run_here() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    for file in EXAMPLES.glob("*.vpy"):
        assert len(file.read_text(encoding="utf-8").splitlines()) < 60
        assert f'"{file.name}"' in here, file.name


@pytest.fixture(scope="module")
def example(configured: dict[str, str]) -> Callable[[str], tuple[str, list[bytes]]]:
    """The first two frames of an example, as y4m; each is run once."""
    if not hasattr(vs.core, "bs"):
        pytest.skip("no BestSource to read clips with: pip install vapoursynth-bestsource")

    @cache
    def run(name: str, form: int = vs.YUV420P8) -> tuple[str, list[bytes]]:
        command = [str(BIN / "vspipe"), str(EXAMPLES / name), "-e", "1", "-c", "y4m", "-"]
        return y4m(subprocess.run(command, env=configured, capture_output=True, timeout=300, check=False), form)

    return run


type Example = Callable[..., tuple[str, list[bytes]]]


def test_the_plain_example_and_the_one_for_many_gpus(example: Example, tmp_path: Path) -> None:
    header, frames = example("enlarge.vpy")
    assert "W1440 H810 F30:1" in header
    assert frames == encoded(CLIP, tmp_path, "-x", "3", "-n", "2")
    assert example("many_gpus.vpy")[1] == frames


def test_the_example_of_ten_bits(example: Example) -> None:
    header, frames = example("ten_bits.vpy", vs.YUV420P10)
    assert "C420p10" in header
    luma = np.frombuffer(frames[0], np.uint16)[: 960 * 540]
    assert len(np.unique(luma % 4)) == 4  # there is something between the code values of eight bits


def test_the_example_of_a_comparison(example: Example) -> None:
    header, [first, _] = example("side_by_side.vpy")
    assert "W1440 H810" in header
    _, [large, _] = example("enlarge.vpy")
    both, network = (np.frombuffer(frame[: 1440 * 810], np.uint8).reshape(810, 1440) for frame in (first, large))
    np.testing.assert_array_equal(both[100:, 720:], network[100:, 720:])
    left = np.abs(both[100:, :720].astype(int) - network[100:, :720])
    assert 0 < left.mean() < 8


def test_the_example_with_a_denoiser(example: Example) -> None:
    assert "W960 H540" in example("denoised.vpy")[0]
