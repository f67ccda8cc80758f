"""Networks in 8 bits: near the float ones, flat where those are, and the same through OpenVINO."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from vsr_plugin.backends import Device, open_backend
from vsr_plugin.backends.processor import multiplies_bytes
from vsr_plugin.engine import Upscaler
from vsr_plugin.errors import BackendError, UsageError, WeightsError
from vsr_plugin.execution import Execution
from vsr_plugin.models import MODELS, load_model, manifest, read_model
from vsr_plugin.models.quantized import mirrored
from vsr_plugin.models.specs import weights_key

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = [
    (name, scale)
    for name, spec in MODELS.items()
    for scale in spec.scales
    if spec.weights(scale, quantized=True) is not None
]
CPU = Device("cpu")
FAST = pytest.mark.skipif(find_spec("openvino") is None or not multiplies_bytes(), reason="no fast int8")


def _frame(height: int = 48, width: int = 64) -> Tensor:
    """Waves that get finer, a slope and an edge."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    frame = 0.5 + 0.2 * torch.sin(x * x / 90) * torch.cos(y / 5) + 0.002 * (x - y)
    frame[:, width // 2 : width // 2 + 6] += 0.25
    return frame.clamp(16 / 255, 235 / 255)[None, None]


def test_some_are_shipped() -> None:
    assert {("espcn", 2), ("espcn", 3), ("espcn", 4), ("fsrcnn", 2)} <= set(SHIPPED)


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_eight_bits_lose_less_than_a_tenth_of_a_decibel(name: str, scale: int) -> None:
    row = manifest()[weights_key(name, scale)]
    for benchmark in ("set5", "set14"):
        assert row["int8"][benchmark]["psnr"] > row[benchmark]["psnr"] - 0.1
    spec, module = read_model(name, scale, quantized=True)
    x, margin = _frame(), spec.overlap[scale]
    with torch.inference_mode():
        error = 255 * (mirrored(module, scale, margin)(x) - mirrored(load_model(name, scale), scale, margin)(x))
    lost = 10 ** (-row["set5"]["psnr"] / 10) * (10**0.01 - 1)  # what 0.1 dB is of the square of the error
    assert error.square().mean().sqrt() < 255 * lost**0.5


@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_flat_areas_stay_flat(name: str, scale: int) -> None:
    spec, module = read_model(name, scale, quantized=True)
    levels = torch.arange(16, 236).reshape(-1, 1, 1, 1)
    with torch.inference_mode():
        small = (levels / 255).expand(-1, 1, 8, 8)
        large = 255 * mirrored(module, scale, spec.overlap[scale])(small)
    phases = large.reshape(len(levels), 8, scale, 8, scale).mean((1, 3)).flatten(1)
    assert (large - levels).abs().max() <= 0.5
    assert (phases.amax(1) - phases.amin(1)).max() <= 0.5


@pytest.mark.parametrize("slope", [1.0, 0.25, 0.0625])
@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_gradients_of_10_bits_do_not_band(name: str, scale: int, slope: float) -> None:
    spec, module = read_model(name, scale, quantized=True)
    codes = (100 + slope * torch.arange(min(800 / slope, 3000))).round()
    x = (codes / 1020).reshape(1, 1, 1, -1).expand(1, 1, 12, -1)
    with torch.inference_mode():
        whole, plain = (
            1020 * mirrored(network, scale, spec.overlap[scale])(x)[0, 0, 6 * scale]
            for network in (module, load_model(name, scale))
        )
        eight = 1020 * load_model(name, scale)((x * 255).round() / 255)[0, 0, 6 * scale]  # what would band
    error, banding = ((row - plain)[9 * scale : -9 * scale].square().mean().sqrt() for row in (whole, eight))
    assert error < min(1.0, 0.75 * banding)  # of a code value
    if slope < 1:
        longest = [int(torch.unique_consecutive(row.round(), return_counts=True)[1].max()) for row in (whole, plain)]
        assert longest[0] < 1.5 * longest[1]


@FAST
@pytest.mark.parametrize(("name", "scale"), SHIPPED)
def test_openvino_computes_the_same_in_integers(name: str, scale: int) -> None:
    spec, module = read_model(name, scale, quantized=True)
    x = _frame()
    network: Any = open_backend("openvino", threads=1).compile(
        module, spec, (1, 1, x.shape[2], x.shape[3]), "int8", CPU
    )
    try:
        result, again = network(x), network(x)
        with torch.inference_mode():
            error = 255 * (result - module(x)).abs()
        layers = [
            op.get_rt_info() for op in network._request(None)[0].get_compiled_model().get_runtime_model().get_ops()
        ]
    finally:
        network.close()
    assert torch.equal(result, again)
    assert error.max() <= 1
    assert error.mean() < 0.05
    kinds = [layer["primitiveType"].astype(str) for layer in layers if layer["layerType"].astype(str) == "Convolution"]
    assert sum("i8" in kind.lower() for kind in kinds) == len(kinds) - 1  # all but the linear filter


@FAST
def test_windows_are_bit_for_bit_what_whole_frames_are() -> None:
    spec, module = read_model("espcn", 2, quantized=True)
    x, margin = _frame(), spec.overlap[2]
    backend = open_backend("openvino", threads=1)

    def run(x: Tensor) -> Tensor:
        network = backend.compile(module, spec, (1, 1, x.shape[2], x.shape[3]), "int8", CPU)
        try:
            return network(x)
        finally:
            network.close()

    whole, window = run(x), run(x[..., 5:38, 7:50])
    part = window[..., 2 * margin : -2 * margin, 2 * margin : -2 * margin]
    y, left = 2 * (5 + margin), 2 * (7 + margin)
    assert torch.equal(part, whole[..., y : y + part.shape[2], left : left + part.shape[3]])


def test_what_has_no_weights_in_8_bits_names_those_that_have() -> None:
    pytest.importorskip("openvino")
    with pytest.raises(UsageError, match=r"^No weights of edsr-baseline ×2 are in 8 bits, .* espcn ×2 ×3 ×4"):
        Upscaler("edsr-baseline", 2, Execution(backend="openvino", precision="int8"))


@pytest.mark.parametrize("backend", ["eager", "triton", "tensorrt"])
def test_other_backends_have_no_int8(backend: str) -> None:
    with pytest.raises(UsageError, match=rf"Backend '{backend}' has no precision 'int8'"):
        Execution(backend=backend, precision="int8")


def test_weights_of_the_other_kind_are_refused() -> None:
    folder = Path(str(resources.files("vsr_plugin.weights")))
    with pytest.raises(WeightsError, match="holds no weights in 8 bits"):
        read_model("espcn", 2, folder / "espcn_x2.safetensors", quantized=True)
    with pytest.raises(WeightsError, match="which only precision int8 computes with"):
        read_model("espcn", 2, folder / "espcn_x2.int8.safetensors")
    with pytest.raises(WeightsError, match="does not fit espcn ×3: it is of espcn ×2"):
        read_model("espcn", 3, folder / "espcn_x2.int8.safetensors", quantized=True)


def test_a_processor_without_such_instructions_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("vsr_plugin.backends.processor.features", lambda: {"avx2", "fma"})
    spec, module = read_model("espcn", 2, quantized=True)
    with pytest.raises(BackendError, match="needs a processor that multiplies bytes"):
        open_backend("openvino").compile(module, spec, (1, 1, 16, 16), "int8", CPU)
