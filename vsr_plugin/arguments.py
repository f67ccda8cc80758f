"""Checks of arguments: unknown names, and values of wrong types.

Weights, device, batch and tile have one name each in Python, on the command line and in the filter; other programs use
other names. With `checked_arguments`, the error for an unknown name says which one is meant and where it belongs, and
the error for a value of a wrong type says which type is expected.
"""

from __future__ import annotations

import builtins
import collections.abc
import difflib
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from functools import cache, wraps
from importlib import import_module
from inspect import isfunction
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeAliasType, Union, cast, get_args, get_origin

from .errors import UsageError

# What FFmpeg, Real-ESRGAN, video2x, vs-mlrt, OpenCV and PyTorch call our arguments.
_ELSEWHERE = {
    "batch": ("batch_size", "batchsize", "num_batches"),
    "tile": ("tile_size", "tilesize", "tiles", "tile_width"),
    "device": ("device_id", "device_index", "gpu", "gpu_id", "cuda"),
    "weights": ("checkpoint", "model_file", "model_path", "network_path", "pretrained", "weights_path"),
    "precision": ("dtype", "fp16", "half"),
    "backend": ("engine", "provider", "runtime"),
    "scale": ("factor", "outscale", "ratio", "scale_factor", "upscale", "upscale_factor", "zoom"),
    "threads": ("num_threads", "n_threads"),
    "self_ensemble": ("ensemble", "tta", "tta_mode"),
    "model": ("model_name", "network"),
    "codec": ("encoder", "vcodec", "video_codec"),
    "options": ("encoder_options",),
    "pixel_format": ("pix_fmt",),
    "frame_rate": ("framerate", "rate"),
    "start": ("ss", "start_time", "seek"),
    "source": ("in_path", "infile", "input", "input_path"),
    "output": ("destination", "out", "out_path", "outfile", "output_path", "target"),
    "overwrite": ("force", "yes"),
    "on_progress": ("callback", "progress", "progress_callback"),
    "executor": ("cluster",),
    "steps": ("epochs", "iterations", "iters", "max_steps"),
    "lr": ("learning_rate",),
    "data": ("dataset", "train_data"),
}
_OURS = {other: ours for ours, others in _ELSEWHERE.items() for other in others}


def meant(name: str, known: Collection[str]) -> str | None:
    """The known argument that a name most likely means; None if none is similar."""
    return _same(name, known) or next(iter(difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)), None)


def _same(name: str, known: Collection[str]) -> str | None:
    """The known argument that has this name, here or in other programs."""
    name = name.lower().replace("-", "_")
    return next((each for each in (name, _OURS.get(name, name)) if each in known), None)


def checked_arguments[Target: Callable[..., Any]](*lenient: str, **parts: str) -> Callable[[Target], Target]:
    """Decorate a class or a function, so that calls with wrong names or types raise errors of one sentence.

    An unknown keyword raises a TypeError that says which one is meant; a value that its annotation does not allow
    raises a UsageError. For a class, the calls of its public methods are checked, too.

    Args:
        lenient: The arguments whose types are not checked here; the target checks them itself.
        parts: The arguments that have arguments of their own, and the public name of their class:
            ``execution="Execution"``.
    """

    def decorate(target: Target) -> Target:
        if isinstance(target, type):
            for name, method in list(vars(target).items()):
                if name == "__init__":
                    setattr(target, name, _checked(method, target.__name__, lenient, parts))
                elif isfunction(method) and not hasattr(method, "names") and not name.startswith("_"):
                    setattr(target, name, _checked(method, name, (), {}))
            return target
        return cast("Target", _checked(target, target.__name__, lenient, parts))

    return decorate


def _checked(function: Any, name: str, lenient: Collection[str], parts: dict[str, str]) -> Any:
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    bound = names[:1] in (("self",), ("cls",))
    names = names[bound:]
    known = frozenset(names)

    @wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        if not known.issuperset(given):
            wrong = next(each for each in given if each not in known)
            raise TypeError(f"{name}() has no argument {wrong!r}. {_hint(wrong, call)}")
        kinds = _annotations(function)
        for argument, value in (*zip(names, args[bound:], strict=False), *given.items()):
            if argument not in lenient:
                check_type(argument, value, kinds.get(argument, object))
        return function(*args, **given)

    call.names, call.parts = names, parts  # type: ignore[attr-defined]
    return call


def _hint(wrong: str, function: Any) -> str:
    """The end of the message for a wrong name: the right one, or all there are."""
    there = dict(_reachable(function))
    found = _same(wrong, function.names) or _same(wrong, there) or meant(wrong, function.names) or meant(wrong, there)
    if found is not None:
        return f"Did you mean {there[found].format(found)}?"
    return f"Its arguments: {', '.join(function.names)}"


def _reachable(function: Any) -> Iterator[tuple[str, str]]:
    """(name, how a call passes it) of the arguments of a function's parts, and then of its own."""
    for argument, kind in function.parts.items():
        made = getattr(import_module(__package__), kind)
        for name, form in _reachable(made.__init__):
            yield name, f"{argument}={kind}({form})"
    for name in function.names:
        yield name, "{}=…"


class _Unknown:
    """A name in an annotation that is imported for type checkers only: any value is allowed."""

    def __getattr__(self, name: str) -> _Unknown:
        return self

    def __getitem__(self, item: object) -> _Unknown:
        return self

    def __or__(self, other: object) -> _Unknown:
        return self

    __ror__ = __or__


class _Names(dict[str, Any]):
    """Looks up the names in annotations; those of this package among its public names."""

    def __missing__(self, name: str) -> object:
        for module in (builtins, collections.abc):
            if hasattr(module, name):
                return getattr(module, name)
        public = import_module(__package__)
        return getattr(public, name) if name in public.__all__ else _OTHERS.get(name) or _Unknown()


_OTHERS: Mapping[str, object] = {"Fraction": Fraction, "Literal": Literal, "Path": Path}


@cache
def _annotations(function: Any) -> dict[str, Any]:
    return inspect.get_annotations(function, locals=_Names(function.__globals__), eval_str=True)


def check_type(what: str, value: object, kind: Any) -> None:
    """Raise UsageError unless a value is of a type.

    Args:
        what: The name of the argument.
        value: Its value.
        kind: As in an annotation: a class, a union, a tuple or a mapping of other kinds. ``float`` also allows whole
            numbers, and ``Path`` strings; NumPy's numbers are numbers. For a Literal, only the type is checked. A kind
            that is neither a class nor known allows every value.
    """
    if type(value) not in _sure(kind) and not _fits(value, kind):
        words = dict.fromkeys(_noun(one) for one in _kinds(kind) if one is not NoneType)
        text = repr(value)
        got = text if len(text) <= 40 and "\n" not in text else _one(type(value).__name__)
        raise UsageError(f"Expected {what} to be {' or '.join(map(_one, words))}, got {got}")


@cache
def _sure(kind: Any) -> frozenset[type]:
    """Types whose every value fits: a quick answer for most arguments, which every frame asks for."""
    return frozenset(one for one in _kinds(kind) if isinstance(one, type) and not get_args(one))


def _fits(value: object, kind: Any) -> bool:
    return any(_fits_one(value, one) for one in _kinds(kind))


def _fits_one(value: object, kind: Any) -> bool:
    whole, parts = get_origin(kind) or kind, get_args(kind)
    if isinstance(value, bool):  # to Python it is an int
        return whole in (bool, object, Any)
    if whole is tuple and parts and isinstance(value, tuple):
        parts = parts[:1] * len(value) if Ellipsis in parts else parts
        return len(parts) == len(value) and all(map(_fits, value, parts))
    if whole is Iterable and parts and isinstance(value, Collection):
        return not isinstance(value, str | bytes) and all(_fits(one, parts[0]) for one in value)
    if whole is Mapping and parts and isinstance(value, Mapping):
        return all(_fits(key, parts[0]) and _fits(one, parts[1]) for key, one in value.items())
    if whole is Path and isinstance(value, str):
        return value != "" and "\0" not in value
    return not isinstance(whole, type) or isinstance(value, _TYPES.get(whole, whole))


_TYPES: Mapping[Any, Any] = {Any: object, int: Integral, float: Real, Path: (str, PathLike)}


@cache
def _kinds(kind: Any) -> tuple[Any, ...]:
    """The kinds of a union; ``str`` beside ``Path`` is left out, as a ``Path`` may be given as a string."""
    kinds = tuple(_alternatives(kind))
    return tuple(one for one in kinds if not (one is str and Path in kinds))


def _alternatives(kind: Any) -> Iterator[Any]:
    if isinstance(kind, TypeAliasType):
        yield from _alternatives(kind.__value__)
    elif get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from _alternatives(one)
    elif get_origin(kind) is Literal:
        yield from map(type, get_args(kind))
    else:
        yield NoneType if kind is None else kind


_NOUNS = {
    bool: "True or False",
    float: "number",
    int: "whole number",
    str: "string",
    Iterable: "sequence",
    Mapping: "dictionary",
    Path: "path",
    collections.abc.Callable: "function",
}


def _noun(kind: Any) -> str:
    """The name of a kind in messages."""
    whole, parts = get_origin(kind) or kind, get_args(kind)
    if whole is tuple and parts:
        return f"tuple of {'' if Ellipsis in parts else f'{len(parts)} '}{_noun(parts[0])}s"
    if whole is Mapping and parts:
        return f"dictionary of {' to '.join(f'{_noun(part)}s' for part in parts if part not in (Any, object))}"
    if whole is Iterable and parts:
        return f"sequence of {_noun(parts[0])}s"
    return _NOUNS.get(whole) or str(whole.__name__)


def _one(noun: str) -> str:
    """A noun with its article."""
    if noun == _NOUNS[bool]:
        return noun
    return f"{'an' if noun[0] in 'AEIOUaeiou' else 'a'} {noun}"
