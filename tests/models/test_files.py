"""Files of weights are read whatever wraps them, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
import zipfile
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests import distance
from vsr_plugin import Upscaler
from vsr_plugin.errors import WeightsError
from vsr_plugin.execution import Execution
from vsr_plugin.frames import ColorSpec, Frame
from vsr_plugin.models import MODELS, ModelSpec, build_model, load_model
from vsr_plugin.models.convert import read_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


class Malice:
    """What is unpickled of it is whatever the call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_model(MODELS["espcn"], 2).state_dict()


def save_npz(state: dict[str, Tensor], path: Path) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("a.safetensors", save_file),
        ("a.pth", torch.save),
        ("a.pt", torch.save),
        ("a.PTH", torch.save),
        ("a.npz", save_npz),
    ],
)
def test_every_kind_of_file_is_read(
    tmp_path: Path, state: dict[str, Tensor], name: str, save: Callable[[dict[str, Tensor], Path], None]
) -> None:
    save(state, tmp_path / name)
    loaded = load_model("espcn", 2, tmp_path / name).state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items())


def test_half_precision_is_read_as_float32(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file({key: tensor.half() for key, tensor in state.items()}, tmp_path / "a.safetensors")
    loaded = load_model("espcn", 2, tmp_path / "a.safetensors").state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert all(torch.equal(loaded[key], tensor.half().float()) for key, tensor in state.items())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"params": state},
        lambda state: {"params": {}, "params_ema": state},
        lambda state: {"model": {"state_dict": state}, "optimizer": {"lr": 1.0}},
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"state_dict": {f"module.model.{key}": tensor for key, tensor in state.items()}},
    ],
)
def test_what_wraps_weights_is_taken_off(
    tmp_path: Path, state: dict[str, Tensor], wrap: Callable[[dict[str, Tensor]], Any]
) -> None:
    torch.save(wrap(state), tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth").tensors.keys() == state.keys()


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pth_is_never_executed(tmp_path: Path, state: dict[str, Tensor], legacy: bool) -> None:
    target, file = tmp_path / "executed", tmp_path / "a.pth"
    torch.save({**state, "extra": Malice(target)}, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        WeightsError, match=r"Cannot read weights from 'a\.pth': it holds \S*mkdir, which is code; save"
    ):
        load_model("espcn", 2, file)
    assert not target.exists()
    torch.load(file, weights_only=False)
    assert target.exists(), "the file would have done it"


def test_code_in_a_npz_is_never_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    np.savez(tmp_path / "a.npz", f1=np.array([Malice(target)], dtype=object))
    with pytest.raises(WeightsError, match=r"Cannot read weights from 'a\.npz'"):
        load_model("espcn", 2, tmp_path / "a.npz")
    assert not target.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_bare_pickle_is_never_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    for name in ("a.pt", "a.npz", "a.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Malice(target)))
        with pytest.raises(WeightsError, match="Cannot read weights from"):
            load_model("espcn", 2, tmp_path / name)
    assert not target.exists()


def test_files_that_are_not_such_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"no pickle")
    with pytest.raises(WeightsError, match=r"Cannot read weights from 'a\.pth'"):
        read_weights(tmp_path / "a.pth")
    for content in ({"epoch": 3}, [torch.zeros(1)], {}, torch.zeros(1)):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(WeightsError, match=r"state_dict\(\) alone"):
            read_weights(tmp_path / "other.pth")
    (tmp_path / "a.onnx").touch()
    with pytest.raises(WeightsError, match=r"Expected a file named \.safetensors, \.pth, \.pt, \.npz, got 'a\.onnx'"):
        read_weights(tmp_path / "a.onnx")
    with zipfile.ZipFile(tmp_path / "a.npz", "w"):
        pass
    with pytest.raises(WeightsError, match="Expected a dictionary of tensors"):
        read_weights(tmp_path / "a.npz")
    with pytest.raises(WeightsError, match=r"No such file: .*absent\.npz"):
        read_weights(tmp_path / "absent.npz")


@pytest.mark.parametrize("backend", ["eager", "openvino"])
def test_an_upscaler_takes_the_form_of_its_weights(tmp_path: Path, backend: str) -> None:
    """hvrr's ESPCN mirrors its edges and ends in a sigmoid; in tiles, its frame is that of the whole."""
    rng = np.random.default_rng(0)
    shapes = {"conv1": (5, 5, 1, 64), "conv2": (3, 3, 64, 32), "conv3": (3, 3, 32, 4)}
    arrays: dict[str, Any] = {
        f"espcn|{name}|kernel": rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()
    }
    arrays |= {f"espcn|{name}|bias": np.zeros(shape[-1], np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "theirs.npz", **arrays)
    plane = rng.integers(0, 256, (50, 70), np.uint8)
    frame = Frame((plane,), 0, Fraction(1), color=ColorSpec())
    frames = []
    tiles: tuple[Literal["off"] | int, ...] = ("off", 32)
    for tile in tiles:
        with Upscaler(
            "espcn",
            2,
            Execution(backend=backend, device="cpu", tile=tile, precision="float32"),
            weights=tmp_path / "theirs.npz",
        ) as upscaler:
            assert isinstance(upscaler.spec, ModelSpec)
            assert upscaler.spec.options == {"last": "sigmoid", "edges": "mirror"}
            frames += upscaler.upscale([frame])
    whole, tiled = (frame.planes[0] for frame in frames)
    module = load_model("espcn", 2, tmp_path / "theirs.npz")
    expected = (255 * module(torch.from_numpy(plane)[None, None] / 255)[0, 0]).round()
    assert distance(whole, expected) <= 1
    assert distance(tiled, expected) <= 1
