"""Shaders compute what the `Upscaler` computes: asked of libplacebo, through FFmpeg, on Mesa's software Vulkan."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from tests.networks import Mirrored
from vsr_plugin import ColorSpec, Frame, Upscaler
from vsr_plugin.errors import OutputError, UsageError, WeightsError
from vsr_plugin.execution import Execution
from vsr_plugin.export import export_file
from vsr_plugin.export.chain import chain
from vsr_plugin.export.glsl import shader
from vsr_plugin.models import MODELS, build_model, load_model

if TYPE_CHECKING:
    from pathlib import Path

_DEVICE = ("-init_hw_device", "vulkan=vk:0", "-filter_hw_device", "vk")


@pytest.fixture(scope="module")
def libplacebo() -> None:
    """FFmpeg's libplacebo on a Vulkan device, or a skip that says what is missing."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("needs ffmpeg")
    flat = ("-f", "lavfi", "-i", "color=gray:s=16x16,format=yuv420p", "-frames:v", "1")
    done = run(
        *_DEVICE, *flat, "-vf", "hwupload,libplacebo=format=yuv420p,hwdownload,format=yuv420p", "-f", "null", "-"
    )
    if done.returncode:
        pytest.skip(f"needs FFmpeg's libplacebo and a Vulkan driver (mesa-vulkan-drivers): {done.stderr[:200]!r}")


def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ffmpeg", "-v", "error", *words], input=stdin, capture_output=True)


def played(file: Path, luma: np.ndarray, depth: int, scale: int) -> np.ndarray:
    """(H, W) samples through a player's shader → (H·scale, W·scale)."""
    height, width = luma.shape
    layout = "yuv420p" if depth == 8 else f"yuv420p{depth}le"
    chroma = np.full(2 * -(-height // 2) * -(-width // 2), 1 << (depth - 1), luma.dtype)
    graph = (
        f"hwupload,libplacebo=custom_shader_path={file}:w={scale * width}:h={scale * height}:format={layout}"
        f":dithering=none,hwdownload,format={layout}"
    )
    source = (
        "-f",
        "rawvideo",
        "-pix_fmt",
        layout,
        "-s",
        f"{width}x{height}",
        "-color_range",
        "tv",
        "-colorspace",
        "bt709",
    )
    done = run(
        *_DEVICE, *source, "-i", "-", "-vf", graph, "-f", "rawvideo", "-", stdin=luma.tobytes() + chroma.tobytes()
    )
    assert not done.returncode, done.stderr.decode()
    size = scale * scale * luma.size
    return np.frombuffer(done.stdout, luma.dtype)[:size].reshape(scale * height, scale * width)


def textured(height: int, width: int, depth: int) -> np.ndarray:
    """Edges, ramps and noise of limited range."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    luma = 0.5 + 0.3 * np.sin(x / 5) * np.cos(y / 7) + 0.2 * (np.hypot(x - width / 2, y - height / 2) < height / 3)
    luma = (luma + rng.normal(0, 0.02, luma.shape)).clip(0, 1)
    peak = 1 << (depth - 8)
    return np.asarray(np.rint((16 + 219 * luma) * peak), np.uint8 if depth == 8 else np.uint16)


def enlarged(model: str, scale: int, luma: np.ndarray, depth: int) -> np.ndarray:
    with Upscaler(model, scale, Execution(backend="eager", device="cpu", precision="float32")) as upscaler:
        frame = Frame((luma,), 0, Fraction(1, 25), color=ColorSpec(depth=depth))
        return upscaler.upscale([frame])[0].planes[0]


def enlarged_from_half(model: str, scale: int, luma: np.ndarray, depth: int) -> np.ndarray:
    """What the network makes of half floats: Mesa's software Vulkan cuts samples off to them, before and after it."""
    peak = (1 << depth) - 1

    def cut(x: torch.Tensor) -> torch.Tensor:
        half = x.half()
        return torch.where(half.float() > x, torch.nextafter(half, torch.zeros_like(half)), half).float()

    x = cut(torch.from_numpy(luma / peak).float()[None, None])
    network = Mirrored(load_model(model, scale), MODELS[model].overlap[scale], scale)
    return (cut(network(x))[0, 0] * peak).round().numpy()


@pytest.mark.parametrize(
    ("model", "scale", "depth", "size"),
    [
        ("fsrcnn", 2, 8, (35, 49)),
        ("espcn", 2, 8, (5, 3)),  # smaller than the margin
        ("fsrcnn-s", 3, 10, (35, 49)),
        *[
            pytest.param(model, scale, depth, size, marks=pytest.mark.slow)
            for model in ("espcn", "fsrcnn")
            for scale in (2, 3, 4)
            for depth, size in ((8, (61, 97)), (10, (60, 90)))
        ],
    ],
)
def test_a_player_shows_what_the_upscaler_makes(
    libplacebo: None, tmp_path: Path, model: str, scale: int, depth: int, size: tuple[int, int]
) -> None:
    file = export_file(model, scale, "glsl", tmp_path / "s.glsl")
    luma = textured(*size, depth)
    shown = played(file, luma, depth, scale).astype(int)
    wanted = enlarged(model, scale, luma, depth)
    if depth > 8:  # half floats have 11 bits
        assert np.abs(shown - wanted).max() <= 3
        assert (np.abs(shown - wanted) <= 2).mean() >= 0.999
        wanted = enlarged_from_half(model, scale, luma, depth)
    assert (np.abs(shown - wanted) <= 1).mean() >= 0.999


def test_a_shader_runs_only_where_the_window_is_larger(libplacebo: None, tmp_path: Path) -> None:
    file = tmp_path / "s.glsl"
    file.write_text(shader("tiny", chain("tiny", Tiny()), margin=1), encoding="utf-8")
    luma = textured(36, 48, 8)
    assert np.array_equal(played(file, luma, 8, 1), luma)
    assert not np.array_equal(played(file, luma, 8, 2)[::2, ::2], luma)


class Tiny(nn.Module):
    """One convolution to sub-pixels, of every activation that a network may end with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.Sigmoid(), nn.Conv2d(6, 4, 1, bias=False), nn.ReLU(), nn.PixelShuffle(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", ["espcn", "fsrcnn", "fsrcnn-s"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_chain_computes_what_its_network_computes(model: str, scale: int) -> None:
    torch.manual_seed(0)
    module = build_model(MODELS[model], scale)
    x = torch.rand(1, 1, 9, 11)
    y = x
    found = chain(model, module)
    for layer in found.layers:
        y = layer(y)
    assert found.scale == scale
    torch.testing.assert_close(nn.functional.pixel_shuffle(y, scale), module(x))


def test_trends_are_what_flat_images_give() -> None:
    found = chain("espcn", load_model("espcn", 2))
    slopes, offsets = found.trends()[0]
    for luma in (0.2, 0.5, 0.8):
        channels = found.layers[0](torch.full((1, 1, 9, 9), luma))[0, :, 4, 4]
        assert (channels - slopes * luma - offsets).abs().mean() < 0.1 * channels.abs().mean()


@pytest.mark.parametrize("model", ["srcnn", "lapsrn", "edsr-baseline", "srresnet"])
def test_a_network_that_no_shader_can_run_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"such as espcn, fsrcnn or fsrcnn-s, got {model}"):
        export_file(model, 4, "glsl", tmp_path / "s.glsl")
    assert not any(tmp_path.iterdir())


def test_why_no_shader_can_run_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="got edsr-baseline, which takes RGB"):
        export_file("edsr-baseline", 2, "glsl", tmp_path)
    with pytest.raises(UsageError, match="got srcnn, which enlarges frames before its first layer, or has branches"):
        export_file("srcnn", 2, "glsl", tmp_path)


@pytest.mark.parametrize("model", ["espcn", "fsrcnn", "fsrcnn-s"])
def test_passes_read_no_more_textures_than_opengl_has_vertex_inputs_for(model: str, tmp_path: Path) -> None:
    for scale in MODELS[model].scales:
        text = export_file(model, scale, "glsl", tmp_path).read_text(encoding="utf-8")
        passes = text.split("//!DESC")[1:]
        assert max(one.count("//!BIND") for one in passes) <= 15  # of 16, and one is the position


def test_the_head_says_what_it_is_and_what_it_costs(tmp_path: Path) -> None:
    lines = export_file("espcn", 3, "glsl", tmp_path).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("// espcn x3: Shi, CVPR 2016.")
    assert "22624 multiply-accumulates" in lines[1]
    assert lines[2].startswith("// License: MIT. ")


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown kind of file 'tensorflow'. Known kinds: onnx, openvino, glsl"):
        export_file("espcn", 2, "tensorflow")
    with pytest.raises(WeightsError):
        export_file("espcn", 2, "glsl", tmp_path / "s.glsl", weights=tmp_path / "none.safetensors")
    with pytest.raises(OutputError, match="Cannot write"):
        export_file("espcn", 2, "glsl", tmp_path / "no folder" / "s.glsl")
