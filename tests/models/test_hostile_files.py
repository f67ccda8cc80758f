"""Files of weights from strangers: whatever they hold, a line comes back, soon and in little memory."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vsr_plugin.errors import WeightsError
from vsr_plugin.models import MODELS, build_model, load_model
from vsr_plugin.models.convert import read_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_model(MODELS["espcn"], 2).state_dict()


KINDS: dict[str, Callable[[Tensor], Any]] = {
    "holds NaN": lambda x: x * float("nan"),
    "holds NaN or infinity": lambda x: x.masked_fill(x == x.max(), float("inf")),
    "got int8": lambda x: x.to(torch.int8),
    "got int64": lambda x: x.to(torch.int64),
    "got bool": lambda x: x > 0,
    "got complex64": lambda x: x.to(torch.complex64),
    "_rebuild_sparse_tensor, which is not a plain tensor": lambda x: x.to_sparse(),
    "_rebuild_meta_tensor_no_storage, which is not a plain tensor": lambda x: x.to("meta"),
    "_rebuild_qtensor, which is not a plain tensor": lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    r"conv1\.weight: expected \(64, 1, 5, 5\), got \(1600,\)": lambda x: x.flatten(),
    "larger than its numbers": lambda x: x.flatten()[0].expand(64, 1, 5, 5),
    "infinity": lambda x: x.double() * 1e300,
}


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("message", KINDS)
@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_that_are_no_weights_are_refused(
    tmp_path: Path, state: dict[str, Tensor], message: str, zipped: bool
) -> None:
    state["conv1.weight"] = KINDS[message](state["conv1.weight"])
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=message) as caught:
        load_model("espcn", 2, tmp_path / "a.pth")
    assert "\n" not in str(caught.value)


def test_they_are_refused_in_other_files_too(tmp_path: Path, state: dict[str, Tensor]) -> None:
    for kind in (torch.int8, torch.bool):
        save_file(state | {"conv1.weight": state["conv1.weight"].to(kind)}, tmp_path / "a.safetensors")
        with pytest.raises(WeightsError, match="expected floating-point numbers"):
            load_model("espcn", 2, tmp_path / "a.safetensors")
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez(tmp_path / "a.npz", **arrays | {"conv1.weight": np.full((64, 1, 5, 5), np.nan, np.float32)})
    with pytest.raises(WeightsError, match=r"conv1\.weight holds NaN"):
        load_model("espcn", 2, tmp_path / "a.npz")


def test_big_endian_and_fortran_arrays_are_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    arrays: dict[str, Any] = {name: np.asfortranarray(tensor.numpy().astype(">f8")) for name, tensor in state.items()}
    np.savez(tmp_path / "a.npz", **arrays)
    loaded = load_model("espcn", 2, tmp_path / "a.npz").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def save_old(state: dict[str, Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_npz(state: dict[str, Tensor], path: Path) -> None:
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez(path, **arrays)


def npy(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def bomb(path: Path, names: dict[str, tuple[int, ...]]) -> None:
    """An .npz whose arrays are all zeros, which take a thousandth of their size."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in names.items():
            with archive.open(f"{name}.npy", "w") as member:
                member.write(npy(shape))
                for _ in range(4 * int(np.prod(shape)) >> 20):
                    member.write(bytes(1 << 20))


@pytest.mark.parametrize(
    "names",
    [
        {"conv1.weight": (64, 1, 1024, 1024)},
        {"something.else": (64, 1, 1024, 1024)},
        dict.fromkeys(("NCHW_output|perm", "f1", "f2", "f3"), (8, 1, 1024, 1024)),
    ],
)
def test_a_zip_bomb_is_not_read(tmp_path: Path, names: dict[str, tuple[int, ...]]) -> None:
    bomb(tmp_path / "a.npz", names)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(WeightsError):
        load_model("espcn", 2, tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_an_array_whose_header_never_ends_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f1.npy", b"\x93NUMPY\2\0" + struct.pack("<I", 96 << 20) + b" " * (96 << 20))
    tracemalloc.start()
    with pytest.raises(WeightsError, match=r"Cannot read weights from 'a\.npz'"):
        read_weights(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 32 << 20
    tracemalloc.stop()


def test_tensors_beside_the_network_are_not_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """What a layout leaves out could be of any size."""
    arrays = {"first_part.0": "conv1", "first_part.2": "conv2", "last_part.0": "conv3"}
    theirs = {f"{a}.{part}": state[f"{b}.{part}"] for a, b in arrays.items() for part in ("weight", "bias")}
    torch.save(theirs | {"rest": torch.zeros(1 << 20)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="rest: expected no such tensor"):
        load_model("espcn", 2, tmp_path / "a.pth")
    edsr = build_model(MODELS["edsr-baseline"], 2).state_dict()
    names = {"head": "head.0", "body": "body.16", "tail": "tail.1"}
    theirs = {}
    for name, tensor in edsr.items():
        first, _, rest = name.partition(".")
        if first == "blocks":
            block, layer, part = rest.split(".")
            theirs[f"body.{block}.body.{2 * int(layer[-1]) - 2}.{part}"] = tensor
        else:
            theirs[f"tail.0.{rest}" if first == "upsample" else f"{names[first]}.{rest}"] = tensor
    torch.save(theirs, tmp_path / "b.pth")
    load_model("edsr-baseline", 2, tmp_path / "b.pth")
    torch.save(theirs | {"sub_mean.weight": torch.zeros(6 << 20)}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match=r"Expected up to 5,\S+ numbers in 'b\.pth', got 7,"):
        load_model("edsr-baseline", 2, tmp_path / "b.pth")


def recompressed(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))


def test_archives_that_torch_does_not_write_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    torch.save(state, tmp_path / "a.pth")
    recompressed(tmp_path / "a.pth", tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="it is compressed"):
        read_weights(tmp_path / "b.pth")
    with zipfile.ZipFile(tmp_path / "c.pth", "w") as archive:
        archive.writestr("archive/data.pkl", bytes(9 << 20))
    with pytest.raises(WeightsError, match="larger than 8 MiB"):
        read_weights(tmp_path / "c.pth")


def test_containers_that_hold_themselves_end(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    torch.save(loop, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="Expected a dictionary of tensors"):
        read_weights(tmp_path / "a.pth")
    network = nn.Module()
    network.register_module("inside", nn.Module())
    network._modules["inside"]._modules["inside"] = network  # type: ignore[union-attr]
    torch.save(network, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="too many parts"):
        read_weights(tmp_path / "a.pth")


PICKLES = {  # nested so deep that Python itself would overflow its stack
    "a memo of four billion": b"\x80\x02}r\xff\xff\xff\xff.",
    "tuples in tuples as a key": b"\x80\x02})" + 300_000 * b"\x85" + b"Ns.",
    "lists in lists": b"\x80\x02" + 300_000 * b"]" + 299_999 * b"a" + b".",
    "a string of a terabyte": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"x.",
    "an empty stack": b"\x80\x02ssss.",
    "no end": b"\x80\x02}",
    "a persistent id of nonsense": b"\x80\x02K\x01Q.",
    "a mark too few": b"\x80\x02}u.",
    "a name that is long": b"\x80\x02}X" + struct.pack("<I", 1 << 20) + (1 << 20) * b"a" + b"K\x01s.",
}


@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_that_no_program_writes_are_refused(tmp_path: Path, name: str, zipped: bool) -> None:
    if zipped:
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("archive/data.pkl", PICKLES[name])
    else:
        (tmp_path / "a.pth").write_bytes(PICKLES[name])
    with pytest.raises(WeightsError) as caught:
        read_weights(tmp_path / "a.pth")
    assert len(str(caught.value)) < 500


class _Net(nn.Module):
    """Has the names of twtygqyy's VDSR."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.residual_layer = nn.Sequential(*(_Block() for _ in range(18)))
        self.output = nn.Conv2d(64, 1, 3, padding=1, bias=False)
        self.register_buffer("nothing", None)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(64, 64, 3, padding=1, bias=False)

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("code of the file was run")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: {"epoch": 50, "model": nn.DataParallel(net)}])
def test_a_network_that_was_pickled_whole_is_read_without_its_class(
    tmp_path: Path, zipped: bool, wrap: Callable[[nn.Module], Any]
) -> None:
    net = _Net()
    torch.save(wrap(net), tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    loaded = load_model("vdsr", 2, tmp_path / "model.pth")
    x = torch.rand(1, 1, 6, 6)
    expected = net.input(x).relu()
    for block in net.residual_layer:
        expected = block.conv(expected).relu()  # type: ignore[operator]
    loaded.upsample = nn.Identity()
    torch.testing.assert_close(loaded(x), x + net.output(expected))


class _Old(pickle.Pickler):
    """Stores parameters as the first versions of torch did."""

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, nn.Parameter):
            return nn.Parameter, (thing.data,), (True, False, OrderedDict())
        return NotImplemented


def test_parameters_of_the_first_torch_are_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    class Module:
        Pickler = _Old
        __name__ = "pickle"
        dump, dumps, load, loads, Unpickler = pickle.dump, pickle.dumps, pickle.load, pickle.loads, pickle.Unpickler

    parameters = {name: nn.Parameter(tensor) for name, tensor in state.items()}
    with (tmp_path / "a.pth").open("wb") as file:
        torch.serialization._legacy_save(parameters, file, Module, 2)
    loaded = load_model("espcn", 2, tmp_path / "a.pth").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def test_parts_of_shared_numbers_are_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    whole = torch.cat([tensor.flatten() for tensor in state.values()])
    parts = torch.split(whole, [tensor.numel() for tensor in state.values()])
    views = {name: part.view(tensor.shape) for part, (name, tensor) in zip(parts, state.items(), strict=True)}
    views["conv2.weight"] = state["conv2.weight"].to(memory_format=torch.channels_last)
    for zipped in (True, False):
        torch.save(views, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        loaded = load_model("espcn", 2, tmp_path / "a.pth").state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "a.npz", "a.mat"])
def test_a_pointer_of_git_lfs_says_what_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(WeightsError, match=r"is a Git LFS pointer, not the weights: .*`git lfs pull`"):
        load_model("espcn", 2, tmp_path / name)


@pytest.mark.parametrize("name", ["a.mat", "a.pb", "a.h5"])
def test_files_of_other_programs_are_told_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"MATLAB 5.0")
    with pytest.raises(WeightsError, match=r"save its tensors as \.npz"):
        load_model("espcn", 2, tmp_path / name)


@pytest.mark.parametrize("cut", [10, 100, 1000, 30_000, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, state: dict[str, Tensor], cut: int, zipped: bool) -> None:
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    (tmp_path / "a.pth").write_bytes((tmp_path / "a.pth").read_bytes()[:cut])
    with pytest.raises(WeightsError, match=r"Cannot read weights from 'a\.pth'"):
        load_model("espcn", 2, tmp_path / "a.pth")


@pytest.mark.parametrize("save", [torch.save, save_old, save_file, save_npz])
def test_damage_is_refused_or_harmless(
    tmp_path: Path, state: dict[str, Tensor], save: Callable[[dict[str, Tensor], Path], None]
) -> None:
    file = tmp_path / {save_file: "a.safetensors", save_npz: "a.npz"}.get(save, "a.pth")
    save(state, file)
    whole, random = file.read_bytes(), Random(0)
    refused: list[str] = []
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(random.randint(1, 5)):
            damaged[random.randrange(3000)] = random.randrange(256)
        file.write_bytes(damaged)
        try:
            load_model("espcn", 2, file)
        except WeightsError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert not [message for message in refused if "\n" in message]


@pytest.mark.parametrize(
    "metadata",
    [
        {"options": "[" * 5000 + "]" * 5000},
        {"options": '{"last": ' + "[" * 500 + "]" * 500 + "}"},
        {"options": '{"activation": "' + "x" * 5000 + '"}'},
        {"options": '{"' + "x" * 5000 + '": 1}'},
        {"model": "espcn", "scale": "[" * 5000},
    ],
)
def test_what_a_file_says_is_quoted_in_short(
    tmp_path: Path, state: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    save_file(state, tmp_path / "a.safetensors", metadata)
    with pytest.raises(WeightsError) as caught:
        load_model("espcn", 2, weights=tmp_path / "a.safetensors")
    assert len(str(caught.value)) < 250


def test_a_header_that_is_not_read_is_quoted_in_short(tmp_path: Path) -> None:
    header = b'"' + b"[" * 5000 + b'"'
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(WeightsError, match=r"invalid type: string \"\[{10,80}…"):
        read_weights(tmp_path / "a.safetensors")
