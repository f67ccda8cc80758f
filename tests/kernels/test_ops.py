"""The operators of torch say truly what comes out of them, and the facade sends them what it should."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vsr_plugin import kernels

pytest.importorskip("triton")

OPS: Any = kernels.load_ops()
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
CHECKS = ("test_schema", "test_faketensor")


def layer(out: int, channels: int, shuffle: int = 1) -> Any:
    torch.manual_seed(out)
    form = kernels.Layer(torch.randn(out, channels, 3, 3) / 9, torch.randn(out), 1, shuffle=shuffle)
    return OPS.pack(form, torch.float16, DEVICE)


@pytest.mark.parametrize(("out", "channels", "shuffle"), [(12, 1, 1), (9, 6, 3), (1, 8, 1)])
@pytest.mark.parametrize("depth", [None, 8, 10])
def test_the_shape_of_a_convolution_is_foretold(out: int, channels: int, shuffle: int, depth: int | None) -> None:
    packed = layer(out, channels, shuffle)
    x = torch.rand(1, channels, 3, 4, device=DEVICE)
    text = OPS.to_text(packed.form)
    peak = None if depth is None else 255
    args = (x, packed.weight, packed.bias, packed.slope, None, text, None, depth, peak, torch.float32)
    torch.library.opcheck(torch.ops.vsr_plugin.convolution.default, args, test_utils=CHECKS)


def test_the_shapes_of_the_others_are_foretold() -> None:
    x = torch.rand(1, 4, 3, 4, device=DEVICE)
    samples = torch.randint(0, 256, (1, 4, 5), device=DEVICE).to(torch.uint8)
    chroma = samples[:, :2, :3].contiguous()
    matrix = torch.eye(3, 4).flatten().tolist()
    first, second, last = layer(16, 1), layer(16, 16), layer(4, 16, 2)
    tensors = OPS.tensors_of("espcn", (first, second, last))
    text = OPS.to_text(first.form, second.form, last.form)
    ops = torch.ops.vsr_plugin
    for operator, args in (
        (ops.pixel_shuffle, (x, 2)),
        (ops.shuffle_to_samples, (x, 2, 10, 1020)),
        (ops.enlarge, (x, 2, None, torch.float32)),
        (ops.enlarge_samples, (samples, 2, 8, [7, 10], [0.0, 0.25])),
        (ops.planes_to_rgb, (samples, chroma, chroma, matrix, [2, 2], [0.5, 0.0])),
        (ops.rgb_to_planes, (x[:, :3], matrix, 8, [2, 2], [0.5, 0.0])),
        (ops.rgb_to_planes, (x[:, :3], matrix[:4], 10, [1, 1], [0.0, 0.0])),
        (ops.whole, (samples[:, None], tensors, "espcn", text, 255, 8, 255, torch.float32)),
    ):
        torch.library.opcheck(operator.default, args, test_utils=CHECKS)


class NoCompiler:
    """Stands for `ops` where Triton cannot build."""

    def probe(self, _: torch.device) -> None:
        raise RuntimeError("build failed\nFailed to find C compiler")


def test_where_triton_does_not_work_torch_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = torch.device("cuda", 99)
    kernels.usable.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(kernels, "load_ops", NoCompiler)
    assert not kernels.usable(device)
    assert not kernels.usable(device)
    (said,) = caplog.messages
    assert said == "Triton does not work on cuda:99, plain torch does instead: Failed to find C compiler"
    kernels.usable.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    assert not kernels.usable(device)
    assert not kernels.usable(torch.device("cpu"))
    assert len(caplog.messages) == 1
    kernels.usable.cache_clear()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_facade_computes_the_same_on_both_sides() -> None:
    samples = torch.randint(0, 256, (2, 9, 11)).to(torch.uint8)
    chroma = samples[:, :5, :6].contiguous()
    matrix = torch.tensor([[1.0, 0.0, 1.5, 0.0], [1.0, -0.2, -0.5, 3.0], [1.0, 1.8, 0.0, -9.0]], dtype=torch.float64)
    here = kernels.enlarge_samples(samples, 3, 8, (26, 33), (0.0, -0.25))
    there = kernels.enlarge_samples(samples.cuda(), 3, 8, (26, 33), (0.0, -0.25)).cpu()
    assert int((here.int() - there.int()).abs().max()) <= 1
    planes = (samples, chroma, chroma)
    rgb = kernels.planes_to_rgb(planes, matrix, (2, 2), (0.5, 0.0))
    moved = kernels.planes_to_rgb(tuple(plane.cuda() for plane in planes), matrix, (2, 2), (0.5, 0.0)).cpu()  # type: ignore[arg-type] # three
    assert torch.allclose(rgb, moved, rtol=0, atol=1e-3)
    for one, other in zip(
        kernels.rgb_to_planes(rgb, matrix, 8, (2, 2), (0.5, 0.0)),
        kernels.rgb_to_planes(rgb.cuda(), matrix, 8, (2, 2), (0.5, 0.0)),
        strict=True,
    ):
        assert int((one.int() - other.cpu().int()).abs().max()) <= 1
