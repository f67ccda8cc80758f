"""Reads pickles without running anything: a small interpreter for tensors, containers and literals.

`pickle` imports and calls whatever a file names. Here a name stays a name (`Global`). A call that is not one of torch's
for plain tensors becomes an `Unknown` that keeps its arguments and state. A tensor becomes a `TensorRecord` with the
location of its numbers.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass
from pickle import UnpicklingError
from typing import Any

import torch

LARGEST = 8 << 20  # bytes of a pickle; those of networks have a few thousand

_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_TENSORS = frozenset({"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"})
_PARAMETERS = frozenset(
    {
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch.nn.parameter.Parameter",
        "torch.autograd.variable.Variable",
    }
)
_DICTIONARIES = frozenset({"collections.OrderedDict", "collections.defaultdict", "builtins.dict"})
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or a function."""

    name: str


@dataclass(slots=True, eq=False)
class Unknown:
    """An object that a call would have made.

    Attributes:
        name: The name of the class or function.
        arguments: The arguments of the call.
        state: The state that the object would have been given.
    """

    name: str
    arguments: Any = ()
    state: Any = None


@dataclass(frozen=True, slots=True)
class StorageRecord:
    """Numbers of a file: their type, their key in the file, the first of them, and how many there are."""

    dtype: torch.dtype
    key: str
    first: int
    length: int


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """A tensor: the location of its numbers, in elements."""

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def load(data: bytes, start: int = 0) -> tuple[Any, int, dict[str, StorageRecord]]:
    """Read one pickle.

    Args:
        data: The bytes that contain it.
        start: The offset of its beginning.

    Returns:
        Its content, of dict, list, tuple, literals and the classes above; the offset of its end; its storages by key.

    Raises:
        UnpicklingError: the pickle is too large, or damaged.
    """
    file = io.BytesIO(data)
    file.seek(start)
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            if file.tell() - start > LARGEST:
                raise UnpicklingError(f"its description of the network is larger than {LARGEST >> 20} MiB")
            machine.step(opcode.name, argument)
        return machine.stack.pop(), file.tell(), machine.storages
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UnpicklingError("it is damaged") from error


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.storages: dict[str, StorageRecord] = {}
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Execute one opcode."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(stack[-_TUPLES[name] :])]
        else:
            self._step(name, argument)

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                self._marks.append(len(stack))
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_SET" | "FROZENSET":
                stack.append(Unknown("builtins.set", self._marked() if name == "FROZENSET" else ()))
            case "DICT":
                items = self._marked()
                stack.append({})
                self._set(items)
            case "LIST":
                stack.append(self._marked())
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._marked()
            case "DUP":
                stack.append(stack[-1])
            case "APPEND":
                self._append([stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._append(self._marked())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._set([key, value])
            case "SETITEMS":
                self._set(self._marked())
            case "GLOBAL":
                stack.append(Global(str(argument).replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(Global(f"{module:.200}.{attribute:.200}"))
            case "REDUCE" | "NEWOBJ":
                arguments, called = stack.pop(), stack.pop()
                stack.append(_called(called, arguments))
            case "NEWOBJ_EX":
                _, arguments, called = stack.pop(), stack.pop(), stack.pop()
                stack.append(_called(called, arguments))
            case "INST":
                stack.append(Unknown(str(argument).replace(" ", ".", 1), self._marked()))
            case "OBJ":
                called, *arguments = self._marked()
                stack.append(_called(called, tuple(arguments)))
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Unknown):
                    stack[-1].state = state
            case "BINPERSID":
                stack.append(self._stored(stack.pop()))
            case _:
                raise ValueError(name)

    def _marked(self) -> list[Any]:
        """Pop all items above the last mark."""
        mark = self._marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def _append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        """Set items with strings as keys: no others are needed, and nested tuples as a key would crash Python."""
        if isinstance(self.stack[-1], dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            self.stack[-1].update({key: value for key, value in pairs if isinstance(key, str)})

    def _stored(self, what: Any) -> Any:
        """An object that is stored outside the pickle: a storage, or in old files the class of a pickled network."""
        if what[0] == "module":
            return what[1]
        kind, key, length = what[1], what[2], what[4]
        view = what[5] if len(what) > 5 else None
        dtype = _DTYPES.get(kind.name.rpartition(".")[2])
        if dtype is None:  # quantized numbers
            return Unknown(kind.name)
        whole = StorageRecord(dtype, str(key), 0, _size(length))
        self.storages[whole.key] = whole
        return StorageRecord(dtype, whole.key, _size(view[1]), _size(view[2])) if view else whole


def _called(called: Any, arguments: Any) -> Any:
    name = called.name if isinstance(called, Global) else "an object"
    if name in _TENSORS:
        storage, offset, shape, stride = arguments[:4]
        return _tensor(storage, _size(offset), tuple(map(_size, shape)), tuple(map(_size, stride)))
    if name in _PARAMETERS and arguments and isinstance(arguments[0], TensorRecord):
        return arguments[0]
    if name in _DICTIONARIES:
        pairs = arguments[0] if arguments and isinstance(arguments[0], list) else []
        return {key: value for key, value in pairs if isinstance(key, str)}
    return Unknown(name, arguments)


def _tensor(storage: Any, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> TensorRecord:
    """Check that a tensor is inside its storage, with no element twice, so that small files make no large tensors."""
    if not isinstance(storage, StorageRecord) or len(shape) != len(stride):
        raise TypeError("no tensor")
    elements = 1
    for length in shape:
        elements *= length
    extent = 1 + sum((length - 1) * step for length, step in zip(shape, stride, strict=True)) if elements else 0
    if elements > extent or offset + extent > storage.length:
        raise UnpicklingError("it holds a tensor that is larger than its numbers")
    return TensorRecord(storage, offset, shape, stride)


def _size(number: Any) -> int:
    if not isinstance(number, int) or not 0 <= number < 1 << 48:
        raise ValueError(number)
    return number
