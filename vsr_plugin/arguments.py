"""Arguments by names that are not ours: which one is meant.

Weights, device, batch and tile have one name each in Python, on the command line and in the filter; other programs have
others. `named_arguments` makes a call by a wrong name say the right one, and where it belongs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator
from functools import wraps
from importlib import import_module
from typing import Any, cast

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
    """The one of the known arguments that a name most likely means; None where none is like it."""
    return _same(name, known) or next(iter(difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)), None)


def _same(name: str, known: Collection[str]) -> str | None:
    """The one of the known arguments that other programs call so, if not we ourselves."""
    name = name.lower().replace("-", "_")
    return next((each for each in (name, _OURS.get(name, name)) if each in known), None)


def named_arguments[Target: Callable[..., Any]](**parts: str) -> Callable[[Target], Target]:
    """Decorate a class or a function: a keyword that it does not have raises a TypeError that says which is meant.

    Args:
        parts: The arguments that have arguments of their own, and the public name of what makes one:
            ``execution="Execution"``.
    """

    def decorate(target: Target) -> Target:
        if isinstance(target, type):
            init = target.__init__  # type: ignore[misc] # a class like any other
            target.__init__ = _checked(init, target.__name__, parts)  # type: ignore[misc]
            return target
        return cast("Target", _checked(target, target.__name__, parts))

    return decorate


def _checked(function: Any, name: str, parts: dict[str, str]) -> Any:
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    names = tuple(each for each in names if each not in ("self", "cls"))
    known = frozenset(names)

    @wraps(function)
    def call(*args: Any, **given: Any) -> Any:
        if not known.issuperset(given):
            wrong = next(each for each in given if each not in known)
            raise TypeError(f"{name}() has no argument {wrong!r}. {_hint(wrong, call)}")
        return function(*args, **given)

    call.names, call.parts = names, parts  # type: ignore[attr-defined]
    return call


def _hint(wrong: str, function: Any) -> str:
    """What a call says of a wrong name: the right one, or all there are."""
    there = dict(_reachable(function))
    found = _same(wrong, function.names) or _same(wrong, there) or meant(wrong, function.names) or meant(wrong, there)
    if found is not None:
        return f"Did you mean {there[found].format(found)}?"
    return f"Its arguments: {', '.join(function.names)}"


def _reachable(function: Any) -> Iterator[tuple[str, str]]:
    """(name, how a call has it) of a function's arguments and of those of its parts, those at hand last."""
    for argument, kind in function.parts.items():
        made = getattr(import_module(__package__), kind)
        for name, form in _reachable(made.__init__):
            yield name, f"{argument}={kind}({form})"
    for name in function.names:
        yield name, "{}=…"
