"""Whether there is a GPU is known without torch."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vsr_plugin import backends, driver
from vsr_plugin.errors import BackendError, UsageError

_FOR_CPUS = "the torch that is installed is the build for CPUs"


def _driver(monkeypatch: pytest.MonkeyPatch, *, code: int = 0, count: int = 0) -> None:
    def count_devices(found: Any) -> int:
        found._obj.value = count
        return 0

    library = SimpleNamespace(cuInit=lambda _: code, cuDeviceGetCount=count_devices)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(driver, "_build_of_torch", lambda: "cuda")


def test_it_agrees_with_torch() -> None:
    here = torch.cuda.device_count()
    assert (driver.why_no_gpu(here) is None) == (torch.version.hip is not None)
    assert all(driver.why_no_gpu(index) is None for index in range(here))


def test_the_build_is_that_of_torch() -> None:
    assert driver._build_of_torch() == ("rocm" if torch.version.hip else "cuda" if torch.version.cuda else "cpu")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "cuda: Optional[str] = None\nhip: Optional[str] = None\n",
            _FOR_CPUS,
        ),
        ("cuda = None\nhip = None\n", _FOR_CPUS),
        ("cuda: Optional[str] = None\nhip: Optional[str] = '6.4'\n", None),
        ("something else\n", "there is no NVIDIA driver"),
        (None, "there is no NVIDIA driver"),
    ],
)
def test_the_build_that_is_installed_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, why: str | None
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch/__init__.py").write_text("")
    if text is not None:
        (tmp_path / "torch/version.py").write_text(text)
    spec = SimpleNamespace(origin=str(tmp_path / "torch/__init__.py"))
    monkeypatch.setattr(driver, "find_spec", lambda _: spec)
    monkeypatch.setattr(driver, "_build_of_torch", driver._build_of_torch.__wrapped__)

    def missing(_: str) -> None:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert driver.why_no_gpu() == why


def test_the_driver_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    _driver(monkeypatch, count=2)
    assert driver.why_no_gpu(1) is None
    assert driver.why_no_gpu(2) == "the NVIDIA driver finds 2 GPUs"
    driver.check_device_here("cuda:1", "triton")
    driver.check_device_here(None, "tensorrt")
    with pytest.raises(UsageError, match="No device 'cuda:2', because the NVIDIA driver finds 2 GPUs"):
        driver.check_device_here("cuda:2")
    _driver(monkeypatch, code=100)
    assert driver.why_no_gpu() == "the NVIDIA driver finds no GPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert driver.why_no_gpu() == "the NVIDIA driver finds no GPU, which CUDA_VISIBLE_DEVICES may hide"
    _driver(monkeypatch, code=803)
    assert driver.why_no_gpu() == "the NVIDIA driver does not start (error 803)"


def test_what_needs_no_gpu_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    _driver(monkeypatch, code=100)
    driver.check_device_here(None)
    driver.check_device_here("cpu", "openvino")
    driver.check_device_here(None, "eager")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UsageError, match="Backend 'triton' runs on cuda, and the NVIDIA driver finds no GPU"):
        driver.check_device_here(None, "triton")
    with pytest.raises(UsageError, match="Backend 'openvino' runs on cpu, not on cuda"):
        driver.check_device_here("cuda", "openvino")


@pytest.mark.parametrize("name", backends.BACKEND_NAMES)
def test_backends_run_on_the_devices_of_their_row(name: str) -> None:
    try:
        there = backends.open_backend(name).devices
    except BackendError as error:
        pytest.skip(str(error))
    assert set(there) <= set(backends.devices(name))
    if "TRITON_INTERPRET" not in sys.modules["os"].environ:
        assert there == backends.devices(name)
