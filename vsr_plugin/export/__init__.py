"""Networks as files for other programs: `export_file` writes one.

`chain` takes a network apart into convolutions; `glsl` writes them as a shader for mpv and libplacebo.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OutputError, UsageError
from ..models import read_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from ..models import ModelSpec

__all__ = ["KINDS", "default_target", "export_file"]


def _glsl(spec: ModelSpec, module: nn.Module, scale: int) -> bytes:
    from .chain import chain
    from .glsl import shader

    layers = chain(spec.name, module)
    about = [
        f"{spec.name} x{scale}: {spec.paper}. Written by vsr_plugin.",
        f"Weights {_digest(module)[:16]}; {layers.macs} multiply-accumulates per input pixel.",
        "The code of this file is MIT-licensed; for the weights, see the notice in vsr_plugin's weights/manifest.toml.",
    ]
    return shader(f"{spec.name} x{scale}", layers, about).encode()


# Name → suffix, and what writes it.
KINDS: dict[str, tuple[str, Callable[[ModelSpec, nn.Module, int], bytes]]] = {"glsl": (".glsl", _glsl)}


def default_target(model: str, scale: int, kind: str) -> Path:
    """``espcn_x2.glsl`` in the current folder.

    Raises:
        UsageError: an unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"Unknown kind of file {kind!r}. Known kinds: {', '.join(KINDS)}")
    return Path(f"{model}_x{scale}{KINDS[kind][0]}")


def export_file(
    model: str,
    scale: int,
    kind: str,
    target: str | Path | None = None,
    *,
    weights: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a network as a file for another program.

    Args:
        model: A name out of `MODELS`.
        scale: One that the model has.
        kind: A name out of `KINDS`; ``glsl`` is a user shader for mpv and libplacebo.
        target: The file to write; `default_target` if None.
        weights: As for `load_model`.
        overwrite: Replace an existing file.

    Returns:
        The file.

    Raises:
        UsageError: an unknown model, scale or kind, or a network that this kind of file cannot hold.
        WeightsError: as `load_model` raises it.
        OutputError: the file exists, or cannot be written.
    """
    target = default_target(model, scale, kind) if target is None else Path(target)
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists")
    spec, module = read_model(model, scale, weights)
    content = KINDS[kind][1](spec, module, scale)
    part = target.with_name(f".vsr-{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"Cannot write {target}: {error.strerror}") from error
    return target


def _digest(module: nn.Module) -> str:
    """sha256 over the names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
