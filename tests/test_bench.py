"""`vsr bench job` and its siblings measure what they say; how fast is not asked here."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from tests.networks import small
from vsr_plugin.backends import Device
from vsr_plugin.bench import Absent, Ceiling, Settings, Timing, backends, inference, job, peers
from vsr_plugin.bench.chart import draw
from vsr_plugin.bench.clip import RATE
from vsr_plugin.bench.ffmpeg_model import ffmpeg_model
from vsr_plugin.bench.kernels import measure_kernels
from vsr_plugin.bench.report import Report, measure
from vsr_plugin.cli.bench import bench as app
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError, OutputError, UsageError
from vsr_plugin.execution import Execution
from vsr_plugin.installation import install
from vsr_plugin.models import MODELS, ModelSpec, build_model
from vsr_plugin.models.cost import macs

if TYPE_CHECKING:
    from typer.testing import Result

TINY = Settings(width=48, height=32, frames=4, runs=2, execution=Execution(backend="eager", batch=2))


def espcn_flops_per_pixel(scale: int) -> int:
    """By hand, from table and text of the paper: 5·5·1·64 + 3·3·64·32 + 3·3·32·scale² products, and as many sums."""
    return 2 * (5 * 5 * 64 + 3 * 3 * 64 * 32 + 3 * 3 * 32 * scale**2)


@pytest.fixture(scope="module")
def report() -> Report:
    return measure(TINY, others=False)


def test_every_part_of_the_job_is_measured_in_every_run(report: Report) -> None:
    assert [len(timing.seconds) for timing in report.own] == [2, 2, 2, 2]
    assert all(second > 0 for timing in report.own for second in timing.seconds)
    assert [timing.codec for timing in report.own] == ["", "", "", "libx264"]
    assert report.upscaler == "eager on cpu, float32, batch 2, whole frames"


def test_operations_are_counted_from_the_network(report: Report) -> None:
    assert report.whole is not None
    assert report.network.flops == report.whole.flops == espcn_flops_per_pixel(3) * 48 * 32


def test_the_report_is_plain_data(report: Report) -> None:
    data = json.loads(json.dumps(report.as_dict()))
    assert data["settings"]["width"] == 48
    assert [row["name"] for row in data["measured"]] == [timing.name for timing in report.own]
    assert data["whole_over_parts"] == pytest.approx(report.overlap, abs=1e-3)


def made_up() -> Report:
    """A report of round figures."""
    one = Timing("network alone", (0.1, 0.3, 0.2), flops=10**9, bytes=10**8)
    others = (
        Timing("slow", (2.0,), codec="libx264", note="slow because"),
        Absent("gone", "no gone", "pip install gone"),
    )
    parts = (replace(one, name="upscale alone"), replace(one, name="decode, scale, encode"))
    whole = replace(one, name="whole job", seconds=(0.4, 0.5, 0.6), codec="libx264")
    return Report(Settings(), "a machine", "eager", Ceiling(50.0, 10.0), one, *parts, whole, others=others)


def test_the_figures_of_a_timing() -> None:
    timing = made_up().network
    assert (timing.median, timing.fps, timing.gflops, timing.gigabytes) == pytest.approx((0.2, 5.0, 5.0, 0.5))
    assert Timing("nothing counted", (1.0,)).gflops is None


def test_without_pyav_what_needs_no_file_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.bench.report.find_spec", lambda _: None)
    for name in ("av", "vsr_plugin.bench.job", "vsr_plugin.bench.peers"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    report = measure(TINY, others=False)
    assert [timing.name for timing in report.own] == ["network alone", "upscale alone"]
    assert report.as_dict()["whole_over_parts"] is None


def test_whole_over_parts_compares_medians() -> None:
    assert made_up().overlap == pytest.approx(0.5 / (0.2 + 0.2))


def test_others_are_compared_with_the_job_of_the_same_encoder() -> None:
    report = replace(made_up(), plain_whole=Timing("whole job, as MPEG-4 part 2", (0.25,), codec="mpeg4"))
    assert report.speedup(Timing("a loop", (1.0,), codec="mpeg4")) == pytest.approx(4)
    assert report.speedup(Timing("ffmpeg", (1.0,), codec="libx264")) == pytest.approx(2)


@pytest.mark.parametrize("name", ["edsr-baseline", "vdsr"])
def test_a_model_without_weights_is_measured_with_random_ones(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spec = replace(small(name, 2), name="new")
    monkeypatch.setitem(MODELS, "new", spec)
    with caplog.at_level("WARNING"):
        report = measure(replace(TINY, model="new", scale=2, runs=1), others=False)
    assert "no weights are shipped for new ×2: measured with random ones" in caplog.text
    assert all(timing.median > 0 for timing in report.own)
    assert report.network.flops == 2 * macs(build_model(spec, 2)) * 48 * 32
    again = [inference.load_network(Settings(model="new", scale=2))[1] for _ in range(2)]
    for one, two in zip(again[0].parameters(), again[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_windows_of_tiles_are_all_counted() -> None:

    settings = replace(TINY, width=96, height=96, runs=1)
    with Upscaler("espcn", 3, Execution(backend="eager", tile=32, batch=1)) as upscaler:
        timing = inference.network(settings, upscaler)
    assert timing.flops == espcn_flops_per_pixel(3) * 96 * 96


@pytest.mark.parametrize(("backend", "bytes_"), [("openvino", 1), ("eager", 4)])
def test_the_network_is_measured_on_samples_where_files_are(backend: Any, bytes_: int) -> None:
    with Upscaler("espcn", 3, Execution(backend=backend, batch=1)) as upscaler:
        timing = inference.network(TINY, upscaler)
    assert timing.bytes == TINY.width * TINY.height * 10 * bytes_


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_ceiling_is_above_what_a_loop_of_python_does(precision: Any) -> None:
    found = inference.ceiling(precision, Device("cpu"), 1)
    assert found.gflops > 0.1
    assert found.gigabytes > 0.1


def test_the_clip_is_what_the_settings_say(tmp_path: Path) -> None:
    clip = job.make_clip(tmp_path, TINY)
    with av.open(str(clip)) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(48, 32)] * 4
    assert [frame.time for frame in frames] == pytest.approx([index / RATE for index in range(4)])
    first, last = (frame.to_ndarray(format="gray").astype(float) for frame in (frames[0], frames[-1]))
    assert np.abs(first - last).mean() > 5  # it moves


# FFmpeg's own format


def test_what_ffmpeg_cannot_run_is_said() -> None:
    with pytest.raises(BackendError, match="FFmpeg's own inference has no Sequential"):
        ffmpeg_model(build_model(MODELS["fsrcnn"], 2))


def test_a_model_file_is_laid_out_as_ffmpeg_reads_it() -> None:
    class One(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3, padding=1)
            self.shuffle = nn.PixelShuffle(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            shuffled: torch.Tensor = self.shuffle(torch.tanh(self.conv(x)))
            return shuffled

    one = One()
    content = ffmpeg_model(one)
    assert content[:15] == b"FFMPEGDNNNATIVE"
    numbers = np.frombuffer(content[15 : 15 + 40], "<u4")
    # version 1.0; convolution, dilation 1, zeros beyond the border, tanh, 1 → 4 channels, kernel 3, with bias
    assert numbers.tolist() == [1, 0, 1, 1, 1, 1, 1, 4, 3, 1]
    kernel = np.frombuffer(content[55 : 55 + 36 * 4], "<f4").reshape(4, 3, 3, 1)
    np.testing.assert_array_equal(kernel, one.conv.weight.detach().permute(0, 2, 3, 1).numpy())
    assert np.frombuffer(content[-8:], "<u4").tolist() == [2, 3]  # layers, operands


def ffmpeg_has_sr() -> bool:
    if shutil.which("ffmpeg") is None:
        return False
    said = subprocess.run(["ffmpeg", "-hide_banner", "-h", "filter=sr"], capture_output=True, text=True, check=False)
    return "native" in said.stdout


@pytest.mark.skipif(not ffmpeg_has_sr(), reason="no ffmpeg with the native backend of sr (4.3 to 6.0)")
def test_ffmpeg_computes_what_our_network_computes(tmp_path: Path) -> None:
    torch.manual_seed(2)
    module = build_model(MODELS["espcn"], 2).eval()
    (tmp_path / "network.model").write_bytes(ffmpeg_model(module))
    y, x = np.mgrid[0:24, 0:32]
    picture = (128 + 90 * np.sin(x / 3) * np.cos(y / 4)).astype(np.uint8)
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "gray", "-s", "32x24", "-i", "-"]
    filters = f"sr=dnn_backend=native:model={tmp_path / 'network.model'}"
    run = subprocess.run(
        [*command, "-vf", filters, "-f", "rawvideo", "-"], input=picture.tobytes(), capture_output=True, check=True
    )
    theirs = np.frombuffer(run.stdout, np.uint8).reshape(48, 64).astype(float)
    with torch.inference_mode():
        ours = module(torch.from_numpy(picture)[None, None].float() / 255)[0, 0].clamp(0, 1) * 255
    assert np.abs(theirs - ours.numpy()).max() <= 1.0  # both round to a code value


# The others


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    clip = job.make_clip(tmp_path, TINY)
    found = list(peers.compare(clip, TINY, Device("cpu")))
    assert all(isinstance(other, Absent) and other.remedy for other in found)
    assert {other.remedy for other in found if isinstance(other, Absent)} == {
        install("bench"),
        "apt-get install ffmpeg",
    }


def test_the_others_do_the_same_job(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    pytest.importorskip("onnxscript")
    settings = replace(TINY, runs=1)
    clip = job.make_clip(tmp_path, settings)
    found = list(peers.compare(clip, settings, Device("cpu")))
    assert [other.name.split()[0] for other in found] == ["eager", "OpenCV", "FFmpeg", "FFmpeg"]
    assert [isinstance(other, Timing) for other in found[:2]] == [True, True]
    if shutil.which("ffmpeg"):
        assert isinstance(found[2], Timing)
        assert isinstance(found[3], Timing) is ffmpeg_has_sr()


def test_a_loop_that_fails_is_absent_not_an_exception(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cv2")

    def broken(_: Settings) -> tuple[ModelSpec, nn.Module]:
        return MODELS["espcn"], nn.Conv2d(7, 1, 3)

    monkeypatch.setattr(peers, "load_network", broken)
    clip = job.make_clip(tmp_path, TINY)
    other = peers._torch_loop(clip, tmp_path, TINY, Device("cpu"))
    assert isinstance(other, Absent)
    assert other.why.startswith("fails: ")


# The chart and the command line


def test_the_chart_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(made_up(), tmp_path / "chart.png")
    with av.open(str(tmp_path / "chart.png")) as container:
        assert next(container.decode(video=0)).width > 500


def test_a_chart_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(OutputError, match="Cannot write the chart"):
        draw(made_up(), tmp_path / "chart.nonsense")


def run_command(monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    monkeypatch.setattr(
        "vsr_plugin.bench.report.measure", lambda settings, *, others: replace(made_up(), settings=settings)
    )
    return CliRunner().invoke(app, ["job", *words])


def test_the_table_holds_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_command(monkeypatch, "espcn", "-x", "3", "--size", "64x48", "--compare")
    assert result.exit_code == 0
    assert "espcn ×3 at 64×48" in result.stdout
    lines = {line.split("  ")[0]: " ".join(line.split()) for line in result.stdout.splitlines()}
    assert lines["network alone"] == "network alone 200 100–300 5 5 10% 0.50"
    assert lines["slow"] == "slow 2000 0.5 4 × as fast"
    assert lines["gone"] == "gone not available no gone: pip install gone"
    assert "whole job ÷ (upscale + decode-scale-encode) = 1.25" in result.stdout


def test_json_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run_command(monkeypatch, "--json", "--runs", "3")
    data = json.loads(result.stdout)
    assert data["settings"]["runs"] == 3
    assert [other.get("speedup", other.get("why")) for other in data["others"]] == [pytest.approx(4), "no gone"]


@pytest.mark.parametrize("size", ["64", "64x", "63x48", "0x0", "axb"])
def test_a_size_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    result = run_command(monkeypatch, "--size", size)
    assert type(result.exception).__name__ == "UsageError"


def test_the_module_of_the_command_imports_no_torch_by_itself() -> None:
    source = Path(str(import_module("vsr_plugin.cli.bench").__file__)).read_text(encoding="utf-8")
    assert "import torch" not in source


def test_every_backend_is_timed_beside_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)  # which takes longer than all the rest
    monkeypatch.setattr(backends, "BACKEND_NAMES", ("eager", "openvino", "tensorrt"))  # no kernels interpreted
    monkeypatch.setattr(inference, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["backends", "espcn", "-x", "2", "--size", "32x16", "--runs", "2", "--precision", "bfloat16"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert next(iter(rows)) == "openvino"
    assert list(rows)[-2:] == ["eager", "torch.compile"]
    timed = {name: row["note"] for name, row in rows.items() if "seconds" in row}
    assert timed.items() >= {"openvino": "bfloat16", "eager": "bfloat16", "torch.compile": "bfloat16"}.items()
    assert {len(rows[name]["seconds"]) for name in timed} == {2}
    assert "why" in rows["tensorrt"]
    plain = CliRunner().invoke(app, words)
    assert "not available: " in plain.stdout


def test_what_torch_compile_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("no compiler\nin this place")

    monkeypatch.setattr(torch, "compile", refuse)
    monkeypatch.setattr(backends, "BACKEND_NAMES", ())
    [last] = backends.measure_backends(replace(TINY, execution=Execution(device="cpu")))
    assert last == Absent("torch.compile", "no compiler")


def test_layers_says_what_runs_every_layer() -> None:
    pytest.importorskip("triton")
    result = CliRunner().invoke(app, ["layers", "srcnn", "-x", "2", "--json"])
    assert result.exit_code == 0, result.output
    steps = json.loads(result.stdout)
    assert [step["runs"] for step in steps] == ["kernel: enlarge", *["kernel: convolution"] * 3]
    assert steps[1]["covers"] == "pad, conv2d, relu"


def test_kernels_without_a_gpu_are_refused_in_a_line() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match="Expected a CUDA device"):
        measure_kernels(torch.device("meta"))


def test_kernels_are_timed_beside_torch_and_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    cases = import_module("vsr_plugin.kernels.cases")
    few = [case for case in cases.CASES if case.timed and case.kernel in ("pixel_shuffle", "espcn")]
    monkeypatch.setattr(cases, "CASES", few)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench: Any = import_module("vsr_plugin.bench.kernels")
    real, fair = bench._time, []

    def time(*args: Any) -> float:
        fair.append(torch.backends.cudnn.benchmark)
        seconds: float = real(*args)
        return seconds

    monkeypatch.setattr(bench, "_time", time)
    report = measure_kernels(device, batch=1, height=2, width=3, runs=1, compiled=False)
    assert [timing.case for timing in report.timings] == [case.name for case in few]
    assert all(fair), "cuDNN chooses its algorithms by measurement, too"
    assert not torch.backends.cudnn.benchmark
    shuffle, espcn = report.timings[0], report.timings[-1]
    assert shuffle.bytes == 2 * 2 * 16 * 2 * 3  # read and written, two bytes each
    assert espcn.flops == 2 * 22_624 * 2 * 3
    assert set(espcn.rivals) == {"our layers", "eager"}
    slower = max(espcn.bytes / report.ceiling.gigabytes / 1e9, espcn.flops / report.ceiling.gflops / 1e9)
    assert espcn.floor == pytest.approx(slower)
    assert espcn.speedup == pytest.approx(espcn.rivals["eager"] / espcn.seconds)
    assert json.loads(json.dumps(report.as_dict()))["timings"][0]["of_floor"] == pytest.approx(shuffle.of_floor)


def test_reuse_is_measured_next_to_all_of_the_work(tmp_path: Path) -> None:
    clip = tmp_path / "still.mkv"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=gray:size=64x48:rate=10", "-frames:v", "4"]
    subprocess.run([*command, "-c:v", "ffv1", str(clip)], check=True)
    words = ["reuse", str(clip), "--runs", "2", "--backend", "eager", "--precision", "float32"]
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 0, result.output
    gain = json.loads(result.stdout)
    assert (gain["frames"], gain["width"], gain["height"], gain["share"]) == (4, 64, 48, 0.75)
    assert len(gain["seconds"]) == len(gain["without"]) == 2
    assert gain["ratio"] > 0
    assert "4 frames of 64×48, espcn ×2, float32: reused 75%, " in CliRunner().invoke(app, words).stdout


def test_segments_are_measured_next_to_the_film_in_one_go() -> None:
    words = ["segments", "--size", "32x32", "--segment", "10", "--runs", "1", "--backend", "eager", "--json"]
    refused = CliRunner().invoke(app, [*words, "-n", "40"])
    assert isinstance(refused.exception, UsageError)
    said = CliRunner().invoke(app, [*words, "-n", "520"])
    assert said.exit_code == 0, said.output
    (way,) = json.loads(said.stdout)
    assert way["name"] == "in segments"
    assert len(way["seconds"]) == len(way["alone"]) == len(way["processor"]) == 1
    assert way["ratio"] == pytest.approx(way["seconds"][0] / way["alone"][0])
    assert 0 < way["planning"] < 60
    assert 0 < way["joining"][0] < 60
    if Path("/proc/self/clear_refs").exists():
        assert 50e6 < way["memory"] < 5e9
        assert 50e6 < way["memory_alone"] < 5e9
    assert way["memory_of_worker"] == 0


def test_weights_in_eight_bits_compute_as_much_as_others() -> None:
    weights = Path(__file__).parents[1] / "weights" / "espcn_x2.int8.safetensors"
    settings = Settings(scale=2, weights=weights, execution=Execution(backend="openvino", precision="int8"))
    assert inference.flops_per_frame(settings) == inference.flops_per_frame(Settings(scale=2))
