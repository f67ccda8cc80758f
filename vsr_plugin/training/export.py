"""Exports a run's weights to the shipped ones: the file, and its row in manifest.toml."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save

from ..backends.rounding import stays_flat
from ..errors import InputError, OutputError, UsageError
from ..evaluation import evaluate
from ..images import read_images
from ..kernels import exact_float32
from ..models import CLEAN, find_model, load_model
from ..models.specs import weights_key
from .leveling import level
from .recipes import find_recipe
from .settings import BEST
from .small_patches import training_patches
from .transfer import lineage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor, nn

    from ..evaluation import Scores
    from ..images import Image

# (model, scale, file of weights, kind of input) → figures for their row in the manifest.
type Measure = Callable[[str, int, Path, str], Mapping[str, Any]]

_FREE = 0.005  # dB
_LEVELED = "leveled.safetensors"  # of a run

_HEADER = (
    "# Written by `vsr models export`; one table per file. PSNR in dB and SSIM on luma, measured as `vsr eval` does.\n"
)


_CPU = torch.device("cpu")


def export(
    run: Path,
    into: Path,
    benchmarks: Mapping[str, Path],
    notice: str,
    measure_more: Measure | None = None,
    device: torch.device = _CPU,
    level_with: Sequence[Path] = (),
    only: Sequence[int] = (),
) -> list[str]:
    """Copy a run's best weights into a folder of weights, and write their rows in the manifest.

    They are stored in float16, half as large, if that costs less than 0.005 dB on every benchmark; otherwise, and
    without benchmarks, in float32.

    Args:
        run: Folder of a run, finished or not.
        into: Folder with a manifest.toml, or an empty one.
        benchmarks: Name → folder of images to measure them on.
        notice: A notice for users on the images that they were trained on.
        measure_more: Returns further figures for a row.
        device: The device for the benchmarks; they run in float32 on every device.
        level_with: Folders of images; the last convolution is then fitted again to flat frames (see `leveling`).
        only: The scales that get a row, if the weights serve several; by default all.

    Returns:
        The keys of the rows, e.g. ``espcn_x3``, one for each scale. Weights that were trained on compressed images
        have rows and a file of their own, ``espcn_x3_video``.

    Raises:
        InputError: there is no run, or images cannot be read.
        OutputError: the folder cannot be written.
        UsageError: a network to level is of RGB, or serves several scales; or the run lacks a scale.
        WeightsError: the run's weights do not fit its model.
    """
    try:
        report = json.loads((run / "run.json").read_text(encoding="utf-8"))
        content = (run / BEST).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"Expected the folder of a run of `vsr train`, got {str(run)!r}: {error}") from error
    settings, history = report["settings"], report["history"]
    model, scales = settings["model"], settings["scales"]
    spec = find_model(model, scales[0])
    tuned_for = CLEAN if settings.get("degradation", "none") == "none" else settings["degradation"]
    name = (model if len(scales) > 1 else f"{model}_x{scales[0]}") + ("" if tuned_for == CLEAN else f"_{tuned_for}")
    if level_with and (spec.channels != 1 or spec.shared):
        raise UsageError(f"Expected a network of luma, of one scale, to level, got {model}")
    if unknown := set(only) - set(scales):
        raise UsageError(f"Expected scales out of {', '.join(map(str, scales))}, got {', '.join(map(str, unknown))}")
    images = {name: read_images(folder, spec.channels) for name, folder in benchmarks.items()}
    path, training = run / BEST, lineage(report)
    if level_with:
        path, training[-1]["leveled"] = _level(run, model, scales[0], level_with), True
        content = path.read_bytes()
    scores = _measure(path, model, only or scales, spec.channels, images, device)
    state = {key: value.half() if value.is_floating_point() else value for key, value in load_file(path).items()}
    half = save(state, {"model": model, "scale": " ".join(map(str, scales))})
    with TemporaryDirectory() as folder:
        (halved := Path(folder) / "half.safetensors").write_bytes(half)
        half_scores = _measure(halved, model, only or scales, spec.channels, images, device)
    if scores and max(scores[key].psnr - half_scores[key].psnr for key in scores) < _FREE:
        content, scores = half, half_scores
    # Against a discriminator, the last weights are kept.
    validated = history[-1]["psnr" if find_recipe(model, settings["recipe"]).content else "best"]
    rows = {}
    for scale in only or scales:
        rows[weights_key(model, scale, tuned_for)] = {
            "file": f"{name}.safetensors",
            "sha256": hashlib.sha256(content).hexdigest(),
            "model": model,
            "scale": scale,
            **({} if tuned_for == CLEAN else {"tuned_for": tuned_for}),
            "trained_on": _data(training),
            "notice": notice,
            "training": training,
            "validation_psnr": round(validated, 3),
        } | {
            benchmark: {"psnr": round(found.psnr, 3), "ssim": round(found.ssim, 4)}
            for (benchmark, measured), found in scores.items()
            if measured == scale
        }
        if measure_more:
            rows[weights_key(model, scale, tuned_for)] |= measure_more(model, scale, path, tuned_for)
    manifest = into / "manifest.toml"
    try:
        into.mkdir(parents=True, exist_ok=True)
        before = tomllib.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
        file = into / f"{name}.safetensors"
        file.write_bytes(content)
        for row in rows.values():
            row["stays_flat"] = stays_flat(load_model(model, row["scale"], file), spec)
        manifest.write_text(dump_manifest(before | rows), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write weights into {str(into)!r}: {error}") from error
    return list(rows)


def _level(run: Path, model: str, scale: int, folders: Sequence[Path]) -> Path:
    """Level a run's best weights; returns the new file, in the run's folder."""
    module = load_model(model, scale, run / BEST)
    level(module, training_patches(folders, scale))
    path = run / _LEVELED
    try:
        path.write_bytes(save(module.state_dict(), {"model": model, "scale": str(scale)}))
    except OSError as error:
        raise OutputError(f"Cannot write into {str(run)!r}: {error}") from error
    return path


def _data(commands: list[dict[str, Any]]) -> list[str]:
    """The folders of images that these commands, oldest first, trained on."""
    words = [word for step in commands for word in step["command"].split("--data ")[1:]]
    return list(dict.fromkeys(word.split()[0] for word in words))


def _measure(
    path: Path,
    model: str,
    scales: Sequence[int],
    channels: int,
    images: Mapping[str, list[Image]],
    device: torch.device,
) -> dict[tuple[str, int], Scores]:
    """(Benchmark, scale) → the weights' scores."""
    scores = {}
    for scale in scales:
        module = load_model(model, scale, path).to(device)

        def network(x: Tensor, module: nn.Module = module) -> Tensor:
            x = x.to(device)
            with exact_float32(x):
                result: Tensor = module(x).cpu()
            return result

        for name, folder in images.items():
            scores[name, scale] = evaluate(network, scale, folder, channels)
    return scores


def dump_manifest(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a manifest: one table per row, sorted by name, values in JSON's notation, which is also TOML's."""
    tables = []
    for key in sorted(rows):
        values = "".join(f"{name} = {_value(value)}\n" for name, value in rows[key].items())
        tables.append(f"\n[{key}]\n{values}")
    return _HEADER + "".join(tables)


def _value(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_value(inner)}" for name, inner in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
