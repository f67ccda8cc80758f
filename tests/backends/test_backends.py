"""Every backend keeps the contract of `Backend` and `Network`."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.networks import CHOSEN, seeded, small
from vsr_plugin.arrays import as_tensor
from vsr_plugin.backends import BACKEND_NAMES, Device, Precision, SamplesNetwork, open_backend, precisions
from vsr_plugin.backends.memory import translated_errors
from vsr_plugin.errors import BackendError, OutOfMemoryError, UsageError
from vsr_plugin.kernels import to_samples
from vsr_plugin.models import MODELS
from vsr_plugin.samples import SampleFormat, to_unit

if TYPE_CHECKING:
    from pathlib import Path

CPU = Device("cpu")
ESPCN = MODELS["espcn"]
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


# Those that run on the CPU, if only for tests; tests/backends/tensorrt/ asks the same of the other.
ON_CPU = ("eager", "openvino", "triton")


def of_floats(backend: str) -> list[Precision]:
    """The precisions of a backend that take any weights."""
    return [precision for precision in precisions(backend) if precision != "int8"]


# Interpreting kernels takes long: test_triton.py asks the same of them in other ways.
@pytest.mark.parametrize("backend", [name for name in ON_CPU if name != "triton"])
@pytest.mark.parametrize(("name", "scale"), CHOSEN)
def test_float32_is_as_near_the_truth_as_plain_torch(backend: str, name: str, scale: int) -> None:
    spec = small(name, scale)
    module = seeded(spec, scale)
    x = torch.rand(2, spec.channels, 21, 34)
    plain = module(x)
    truth = seeded(spec, scale).double()(x.double())
    network = open_backend(backend).compile(module, spec, (2, spec.channels, 21, 34), "float32", CPU)
    result = network(x)
    assert result.dtype == torch.float32
    assert result.shape == truth.shape
    # Other orders of summing have other luck: a thousandth of a code value of 8 bits is nobody's fault.
    tolerance = max(2 * float((plain - truth).abs().max()), 2**-18)
    assert float((result - truth).abs().max()) <= tolerance
    network.close()


@pytest.mark.parametrize("precision", of_floats("openvino"))
@pytest.mark.parametrize("samples", [SampleFormat(255, 8), SampleFormat(1020, 10), SampleFormat(65535, 16)])
def test_openvino_makes_the_samples_that_its_numbers_are_rounded_to(
    precision: Precision, samples: SampleFormat
) -> None:
    for name, scale in (("espcn", 2), ("fsrcnn", 3), ("srcnn", 2), ("vdsr", 2)):
        spec = small(name, scale)
        network = open_backend("openvino").compile(seeded(spec, scale), spec, (2, 1, 29, 34), precision, CPU)
        assert isinstance(network, SamplesNetwork)
        highest = (1 << samples.depth) - 1  # above the peak of limited range, too
        x = np.random.default_rng(scale).integers(0, highest + 1, (2, 1, 29, 34), samples.dtype)
        result = network.upscale_samples(x, samples)
        unit: Any = to_unit(x, samples.peak)
        large: Any = network(unit)
        expected = to_samples(as_tensor(large), samples.depth, peak=samples.peak).numpy()
        assert result.dtype == samples.dtype
        assert result.shape == expected.shape
        rim = spec.overlap[scale] * scale
        inner = (result[..., rim:-rim, rim:-rim].astype(int), expected[..., rim:-rim, rim:-rim].astype(int))
        if precision == "bfloat16" and samples.depth == 8:  # code values are exact in it, and others are split
            assert abs(inner[0] - inner[1]).max() <= 2
        else:
            assert np.array_equal(*inner)
        network.close()


@pytest.mark.parametrize("backend", ON_CPU)
def test_a_result_stays_when_the_network_is_called_again(backend: str) -> None:
    network = open_backend(backend).compile(seeded(ESPCN, 2), ESPCN, (1, 1, 8, 9), "float32", CPU)
    first, second = torch.rand(1, 1, 8, 9), torch.rand(1, 1, 8, 9)
    result = network(first)
    before = result.clone()
    network(second)
    assert torch.equal(result, before)
    assert torch.equal(network(first), before)


@pytest.mark.parametrize("backend", ON_CPU)
def test_the_callers_module_is_left_alone(backend: str) -> None:
    module = seeded(MODELS["fsrcnn"], 3)
    before = {name: (value.dtype, value.clone()) for name, value in module.state_dict().items()}
    for precision in of_floats(backend):
        open_backend(backend).compile(module, MODELS["fsrcnn"], (1, 1, 8, 8), precision, CPU)
    for name, value in module.state_dict().items():
        assert value.dtype == before[name][0]
        assert torch.equal(value, before[name][1])


@pytest.mark.parametrize("backend", ON_CPU)
def test_every_precision_takes_and_gives_float32(backend: str) -> None:
    x = torch.rand(1, 1, 12, 12)
    truth = seeded(ESPCN, 2)(x)
    for precision in of_floats(backend):
        network = open_backend(backend).compile(seeded(ESPCN, 2), ESPCN, (1, 1, 12, 12), precision, CPU)
        result = network(x)
        assert result.dtype == torch.float32
        assert float((result - truth).abs().max()) < 0.05


SCRIPT = """
from vsr_plugin.backends import open_backend
from vsr_plugin.backends import Device
from vsr_plugin.models import MODELS, build_model

spec = MODELS["espcn"]
open_backend("openvino").compile(build_model(spec, 2), spec, (1, 1, 8, 8), "float32", Device("cpu"))
"""


def test_openvino_says_nothing_and_reports_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert list(tmp_path.iterdir()) == []  # it would keep the number that it reports under here


INTERRUPTED = """
import gc, signal
from vsr_plugin.backends import open_backend

backends = [open_backend("openvino") for _ in range(3)]
for backend in backends:
    backend.fast_bfloat16()  # which asks OpenVINO's plugin for CPUs
del backend
while backends:
    del backends[0]
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_is_heard_after_several_backends_were_closed() -> None:
    """Signals of Python use a thread's stack for signals, which OpenVINO replaces."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_a_missing_openvino_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "openvino":
            raise ImportError(name)
        return real(name, *rest, **more)

    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr("vsr_plugin.backends.openvino.find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"pip install .*\bopenvino"):
        open_backend("openvino")


@pytest.mark.parametrize(
    ("name", "kind", "index"), [("cpu", "cpu", None), ("cuda", "cuda", None), ("cuda:1", "cuda", 1)]
)
def test_a_device_is_torchs_by_its_name(name: str, kind: str, index: int | None) -> None:
    device, of_torch = Device(name), torch.device(name)
    assert (device.type, device.index) == (of_torch.type, of_torch.index) == (kind, index)
    assert torch.device(device) == of_torch
    others: tuple[object, ...] = (torch.device("cuda:2"), "cuda:2", Device("meta"), None, 1, PurePath(name))
    pairs = [(same, True) for same in (of_torch, name, Device(name))] + [(other, False) for other in others]
    for each, equal in pairs:
        assert (device == each, each == device) == (equal, equal)
        assert (device != each, each != device) == (not equal, not equal)
    assert {name: 1}[device] == 1
    assert pickle.loads(pickle.dumps(device)) == of_torch


def test_an_unknown_backend_is_refused() -> None:
    known = ", ".join(BACKEND_NAMES)
    with pytest.raises(UsageError, match=rf"Unknown backend 'tensorflow'\. Known backends: {known}"):
        open_backend("tensorflow")


class Broken(nn.Module):
    """Fails when it runs."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("first line\nthe second line says why")


@pytest.mark.parametrize("backend", ON_CPU)
def test_failures_are_backend_errors_of_one_line(backend: str) -> None:
    with pytest.raises(BackendError, match="says why") as caught:
        open_backend(backend).compile(Broken(), ESPCN, (1, 1, 8, 8), "float32", CPU)(torch.rand(1, 1, 8, 8))
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, OutOfMemoryError)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a primitive"),
        RuntimeError("Exception from src/inference/src/cpp/infer_request.cpp:223:\nstd::bad_alloc"),
    ],
)
def test_every_way_to_have_no_room_is_one_error(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match="no room in memory"), translated_errors("eager: running espcn"):
        raise error


@NEEDS_CUDA
@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_eager_on_cuda_agrees_with_the_cpu(precision: Precision) -> None:
    device = Device("cuda")
    network = open_backend("eager").compile(seeded(ESPCN, 2), ESPCN, (2, 1, 33, 40), precision, device)
    x = torch.rand(2, 1, 33, 40)
    result = network(x.to(device)).cpu().numpy()
    np.testing.assert_allclose(result, seeded(ESPCN, 2)(x).numpy(), atol=0.05 if precision == "bfloat16" else 5e-3)
