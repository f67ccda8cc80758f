"""bfloat16: what it changes, and what it costs."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import CHOSEN, seeded, small
from vsr_plugin.backends import Device, Precision, open_backend, rounding
from vsr_plugin.backends.openvino import OpenVINOBackend
from vsr_plugin.backends.rounding import RationalTanh, for_bfloat16
from vsr_plugin.backends.tracing import _plain
from vsr_plugin.engine import Upscaler
from vsr_plugin.evaluation import evaluate, psnr, to_uint8
from vsr_plugin.execution import Execution
from vsr_plugin.images import Image, crop_to_multiple, rgb_to_luma, shrink
from vsr_plugin.models import CLEAN, MODELS, NetworkSpec, load_model, manifest, read_model
from vsr_plugin.passes import Pass
from vsr_plugin.sources import Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

CPU = Device("cpu")
# Residual networks, and one of RGB, that others have trained.
OTHERS = {
    ("vdsr", 2): "vdsr/twtygqyy/model_epoch_50.npz",
    ("lapsrn", 4): "lapsrn/twtygqyy/model_epoch_100.npz",
    ("srresnet", 4): "srgan/srzoo_srresnet_pytorch/SRResNet_4x-0000.npz",
    ("edsr-baseline", 2): "edsr/srzoo_krasserm/EDSR-8-x2-0000.npz",
}


def capability() -> bool:
    backend = cast("OpenVINOBackend", open_backend("openvino"))
    return "BF16" in backend._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


NEEDS_BFLOAT16 = pytest.mark.skipif(not capability(), reason="this processor has no bfloat16")


@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_the_form_for_bfloat16_changes_weights_by_their_rounding_only(name: str, scale: int) -> None:
    spec = small(name, scale)
    module = seeded(spec, scale)
    x = torch.rand(1, spec.channels, 11, 13)
    # Half a unit of 8 bits for every weight, and as much again for the neighbour's that it makes up for.
    assert float((for_bfloat16(module, spec)(x) - module(x)).abs().max()) < 2**-6


def test_rounded_kernels_keep_their_sum() -> None:
    layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 5), nn.Conv2d(8, 4, 3)).requires_grad_(
        requires_grad=False
    )
    middle = cast("nn.Conv2d", layers[1])
    rounded = cast("nn.Conv2d", cast("nn.Sequential", for_bfloat16(layers, NetworkSpec(overlap={1: 0})))[1]).weight
    assert torch.equal(rounded.to(torch.bfloat16).float(), rounded)
    error = (rounded.sum((2, 3)) - middle.weight.sum((2, 3))).abs()
    assert float(error.max()) <= 2**-8 * float(middle.weight.abs().max())  # no more than one tap's rounding
    plain = (middle.weight.to(torch.bfloat16).float().sum((2, 3)) - middle.weight.sum((2, 3))).abs()
    assert float(error.mean()) < float(plain.mean()) / 2


def images(channels: int, side: int) -> list[Image]:
    """Noise with a photograph's spectrum: what bfloat16 costs here it costs on Set14, within 0.002 dB (FSRCNN ×2)."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = 1

    def field(random: np.random.Generator) -> NDArray[np.float64]:
        """Of mean 0 and deviation 1."""
        noise = np.fft.ifft2(np.fft.fft2(random.standard_normal((side, side))) * frequency**-1.3).real
        return (noise - noise.mean()) / noise.std()

    made = []
    for random in map(np.random.default_rng, range(3)):
        gray = 128 + 45 * field(random)
        rgb = np.stack([gray + 11 * field(random) for _ in range(3)], 2).clip(0, 255).astype(np.uint8)
        made.append(Image("noise", rgb_to_luma(rgb), rgb if channels == 3 else None))
    return made


def cost(name: str, scale: int, weights: Path | None, tuned_for: str = CLEAN, side: int = 250) -> float:
    """dB of PSNR that OpenVINO's bfloat16 loses against its float32."""
    spec, module = read_model(name, scale, weights, tuned_for)
    measured = images(spec.channels, side)

    def psnr(how: Precision) -> float:
        networks: dict[Any, Callable[[Tensor], Tensor]] = {}

        def run(x: Tensor) -> Tensor:
            shape = cast("tuple[int, int, int, int]", tuple(x.shape))
            if shape not in networks:
                networks[shape] = open_backend("openvino").compile(module, spec, shape, how, CPU)
            return networks[shape](x)

        return evaluate(run, scale, measured, spec.channels).psnr

    return psnr("float32") - psnr("bfloat16")


def _weights() -> Iterator[Any]:
    """All that are shipped, which is slow; in smaller images one scale of each model."""
    models: dict[tuple[str, str], list[str]] = {}
    for key, row in sorted(manifest().items()):
        models.setdefault((row["model"], row.get("tuned_for", CLEAN)), []).append(key)
    for index, keys in enumerate(models.values()):
        for place, key in enumerate(keys):
            yield pytest.param(key, 250, marks=pytest.mark.slow)
            if place == index % len(keys):
                yield pytest.param(key, 120)


@NEEDS_BFLOAT16
@pytest.mark.parametrize(("key", "side"), list(_weights()))
def test_bfloat16_costs_our_weights_at_most_002_db(key: str, side: int) -> None:
    row = manifest()[key]
    assert cost(row["model"], int(row["scale"]), None, row.get("tuned_for", CLEAN), side) <= 0.02


@NEEDS_BFLOAT16
@pytest.mark.parametrize(("name", "scale"), list(OTHERS))
def test_bfloat16_costs_the_weights_of_others_at_most_002_db(name: str, scale: int, shared: Path) -> None:
    assert cost(name, scale, shared / "reference_weights" / OTHERS[name, scale]) <= 0.02


@NEEDS_BFLOAT16
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["espcn", "fsrcnn", "fsrcnn-s"])
def test_bfloat16_costs_frames_of_8_bits_at_most_002_db(name: str, scale: int) -> None:
    """Their code values are not split, and ESPCN's tanh is a quotient."""
    measured = images(1, 240)
    small = [to_uint8(shrink(crop_to_multiple(image.luma, scale)[..., None], scale)[0]) for image in measured]

    def mean(precision: Precision) -> float:
        with Upscaler(name, scale, Execution(backend="openvino", precision=precision)) as upscaler:
            results = zip(measured, map(upscaler, small), strict=True)
            return fmean(psnr(crop_to_multiple(image.luma, scale), large) for image, large in results)

    assert mean("float32") - mean("bfloat16") <= 0.02


@torch.no_grad()
def test_the_quotient_is_tanh() -> None:
    x = torch.linspace(-20, 20, 40001)
    error = (RationalTanh()(x) - torch.tanh(x)).abs()
    assert float((error / torch.tanh(x).abs().clamp(min=1e-3)).max()) < 3e-4
    assert float(error[x.abs() < 4].max()) < 4e-5


class Prepared(nn.Module):
    """A network of a user's own, whose first layer does not see the samples as they are."""

    def __init__(self, prepare: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.prepare = prepare
        self.first, self.last = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.first(self.prepare(x))))
        return y + x


@torch.no_grad()
def test_only_a_layer_that_sees_code_values_takes_them_so() -> None:
    def forms(module: nn.Module) -> list[str]:
        return [type(part).__name__ for part in for_bfloat16(module, NetworkSpec(overlap={1: 2}), codes=True).modules()]

    torch.manual_seed(0)
    assert "CodeConvolution" in forms(load_model("fsrcnn-s", 2))
    x = torch.arange(256).reshape(1, 1, 16, 16) / 255
    for prepare in (lambda x: x - 0.5, lambda x: 3 * x, lambda x: x - F.avg_pool2d(x, 3, 1, 1)):
        module = Prepared(prepare)
        assert "SplitConvolution" in forms(module)
        rounded = for_bfloat16(module, NetworkSpec(overlap={1: 2}), codes=True)
        assert float((rounded(x) - module(x)).abs().max()) < 2**-7


@NEEDS_BFLOAT16
def test_without_the_form_for_bfloat16_it_would_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsr_plugin.backends.tracing.for_bfloat16", lambda module, _spec, codes: module)
    assert cost("fsrcnn", 2, None) > 0.02


@pytest.mark.parametrize(
    ("maker", "capabilities", "amx", "precision"),
    [
        ("AMD EPYC 9B14", ["FP32", "BF16"], False, "bfloat16"),
        ("AMD EPYC 7763", ["FP32"], False, "float32"),
        ("Intel(R) Xeon(R) Platinum 8481C", ["FP32", "BF16"], True, "bfloat16"),
        ("Intel(R) Xeon(R) Processor", ["FP32", "BF16"], False, "float32"),  # has it, and is slower in it
    ],
)
def test_bfloat16_is_the_default_where_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, maker: str, capabilities: list[str], amx: bool, precision: Precision
) -> None:
    class Core:
        def get_property(self, device: str, name: str) -> object:
            return {"FULL_DEVICE_NAME": maker, "OPTIMIZATION_CAPABILITIES": capabilities}[name]

    monkeypatch.setattr("vsr_plugin.backends.openvino.features", lambda: {"amx_bf16"} if amx else set())
    backend = open_backend("openvino")
    monkeypatch.setattr(backend, "_core", Core())
    assert backend.default_precision([Source.of(load_model("espcn", 3))], MODELS["espcn"], CPU) == precision


@pytest.mark.parametrize(("model", "precision"), [("espcn", "bfloat16"), ("fsrcnn-s", "float32")])
def test_bfloat16_is_the_default_of_networks_that_leave_flat_areas_flat_in_it(
    monkeypatch: pytest.MonkeyPatch, model: str, precision: Precision
) -> None:
    monkeypatch.setattr(OpenVINOBackend, "fast_bfloat16", lambda _backend: True)
    module, identity, random = map(Source.of, (load_model(model, 2), nn.Identity(), seeded(MODELS[model], 2)))
    backend = open_backend("openvino")
    assert backend.default_precision([module], MODELS[model], CPU) == precision
    assert backend.default_precision([module, identity], MODELS[model], CPU) == precision
    assert backend.default_precision([module, random], MODELS[model], CPU) == "float32"


@pytest.mark.parametrize("model", ["espcn", "fsrcnn-s"])
@torch.no_grad()
def test_flat_frames_are_rounded_here_as_openvino_rounds_them(model: str) -> None:
    if not capability():
        pytest.skip("this processor has no bfloat16")
    module, spec = _plain(load_model(model, 2)), MODELS[model]
    here = Pass(
        Source.of(rounding._endless(for_bfloat16(module, spec), rounding=True)),
        spec,
        2,
        open_backend("eager"),
        CPU,
        "float32",
        self_ensemble=False,
    )
    there = Pass(Source.of(module), spec, 2, open_backend("openvino"), CPU, "bfloat16", self_ensemble=False)
    flat = rounding._flat(range(16, 236, 20), spec)
    assert float(255 * (here(flat, len(flat), None) - there(flat, len(flat), None)).abs().max()) < 0.1
