"""The operator of torch foretells its result, and the facade uses Triton only where it works."""

from __future__ import annotations

import pytest
import torch

from vsr_plugin import kernels

pytest.importorskip("triton")


def test_the_shape_of_an_enlargement_is_foretold() -> None:
    operator = kernels.load_ops().enlarge
    for x, peak in ((torch.rand(1, 4, 3, 4), None), (torch.randint(0, 256, (1, 4, 3, 4)).to(torch.uint8), 255)):
        arguments = (x.to("cuda" if torch.cuda.is_available() else "cpu"), 2, peak, torch.float32)
        torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


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
