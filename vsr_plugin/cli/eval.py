"""``vsr eval``."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path  # noqa: TC003 — typer reads the annotations when the command is registered
from typing import TYPE_CHECKING, Annotated

import typer

from ..driver import check_device_here
from ..errors import InputError, OutputError, UsageError
from ..execution import Execution
from ..models import CLEAN, find_model
from .networks import check_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from ..bench.survey import Survey
    from ..evaluation import Scores
    from ..images import Image
    from ..models import ModelSpec
    from .progress import Wait

_VIDEO_FILES = ("video.json", "video.png")
_FILES = ("models.md", "models.json", "models.png")


def evaluate(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[MODEL]...", help="Network, or bicubic; several with --video.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of full-size images, which are shrunk and enlarged again.")
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Clip to shrink, compress and enlarge, next to bicubic and Lanczos.")
    ] = None,
    crf: Annotated[
        str | None, typer.Option(help="With --video: qualities of the compression. [default: 18,23,28,32]")
    ] = None,
    codec: Annotated[
        str | None, typer.Option(help="With --video: libx264, libx265 or libvpx-vp9. [default: libx264]")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="With --video: of libx264 and libx265. [default: medium]")] = None,
    frames: Annotated[int | None, typer.Option(min=2, help="With --video: number of frames. [default: 60]")] = None,
    scale: Annotated[int | None, typer.Option("-x", "--scale", min=2, help="Scale.")] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="All networks that have weights, next to their papers, with their speed on this machine."
        ),
    ] = False,
    weights: Annotated[Path | None, typer.Option(help="Your own .safetensors, .pth or .npz for this model.")] = None,
    self_ensemble: Annotated[bool, typer.Option("--self-ensemble", help="Average over 8 flips and rotations.")] = False,
    backend: Annotated[
        str | None, typer.Option(help="Measure with this backend. [default: plain float32; --video: as vsr encode]")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="With --backend or --video: float32, bfloat16, float16 or int8.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="With --backend: cpu or cuda. [default: cpu; --video: as vsr encode]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --all: a folder for models.md, models.json and models.png; with --video for video.json and "
            "video.png."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("-y", "--overwrite", help="Overwrite existing files in --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure PSNR and SSIM as the papers do: limited-range luma, 8 bits, a border of SCALE samples cropped.

    Networks of RGB get RGB, and the luma of their result is compared.

    With --video, a clip is shrunk, compressed and enlarged, with the weights for clean input and with those for
    compressed video. Flicker says how steady the result is from frame to frame.
    """
    if (data is None) == (video is None):
        raise UsageError("Expected either --data or --video" + (", got both" if data else ", got neither"))
    execution = Execution(backend=backend, device=device, precision=precision)  # type: ignore[arg-type] # it checks
    check_device_here(device, backend)
    if video is not None:
        if every or self_ensemble:
            raise UsageError("Expected --video without --all and --self-ensemble")
        _video(
            video,
            models or [],
            scale,
            _qualities(crf or "18,23,28,32", codec or "libx264", preset),
            codec or "libx264",
            preset,
            frames or 60,
            weights,
            execution,
            out,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    assert data is not None
    for flag, value in {"--crf": crf, "--codec": codec, "--preset": preset, "--frames": frames}.items():
        if value is not None:
            raise UsageError(f"Expected --video with {flag}, got --data")
    if models and len(models) > 1:
        raise UsageError(f"Expected one model with --data, got {' '.join(models)}")
    model = models[0] if models else None
    if every:
        if (
            model is not None
            or weights is not None
            or backend is not None
            or precision is not None
            or device is not None
        ):
            raise UsageError("Expected --all without a model, --weights, --backend, --precision and --device")
        _survey(data, scale, out, self_ensemble=self_ensemble, overwrite=overwrite, as_json=as_json)
        return
    if model is None or scale is None:
        raise UsageError("Expected a model and its scale (`vsr eval espcn -x 3`), or --all")
    if out is not None:
        raise UsageError("Expected --out together with --all, got no --all")
    if backend is None and (precision is not None or device is not None):
        raise UsageError("Expected --precision and --device together with --backend, got no --backend")
    if model == "bicubic" and (backend is not None or weights is not None):
        raise UsageError("Expected neither --weights nor --backend for bicubic, which is no network")
    if model != "bicubic":
        check_model(model, scale, weights, CLEAN, None, quantized=precision == "int8")
    if not data.is_dir():
        raise InputError(f"Expected a folder of images, got {str(data)!r}: no such folder")
    from .progress import waiting

    with waiting(f"measuring {model} ×{scale}") as wait:
        scores = _scores(
            model, scale, data, weights, backend, precision, device or "cpu", wait, self_ensemble=self_ensemble
        )
    _print_scores(model, scale, scores, as_json=as_json)


def _print_scores(model: str, scale: int, scores: Scores, *, as_json: bool) -> None:
    if as_json:
        header = {"model": model, "scale": scale, "psnr": scores.psnr, "ssim": scores.ssim}
        typer.echo(json.dumps(header | {"images": [asdict(score) for score in scores.images]}, indent=1))
        return
    width = max(len(score.name) for score in scores.images)
    for score in scores.images:
        typer.echo(f"{score.name.ljust(width)}  {score.psnr:7.3f} dB  {score.ssim:.4f}")
    typer.echo(f"{'mean'.ljust(width)}  {scores.psnr:7.3f} dB  {scores.ssim:.4f}")


def _scores(
    model: str,
    scale: int,
    data: Path,
    weights: Path | None,
    backend: str | None,
    precision: str | None,
    device: str,
    wait: Wait,
    *,
    self_ensemble: bool,
) -> Scores:
    from ..backends.ensemble import mean_of_eight
    from ..evaluation import bicubic
    from ..evaluation import evaluate as measure
    from ..images import read_images
    from ..models import read_model
    from ..models.quantized import mirrored

    def said() -> Iterator[Image]:
        for number, image in enumerate(images, 1):
            wait.say(f"measuring {model} ×{scale} on {image.name}, {number} of {len(images)}")
            yield image

    network: Callable[[Tensor], Tensor]
    channels = 1
    if model == "bicubic":
        network = bicubic(scale)
    else:
        spec, module = read_model(model, scale, weights, quantized=precision == "int8")
        channels = spec.channels
        network = module if backend is None else _through(backend, module, spec, precision, device)
        if precision == "int8":
            network = mirrored(network, scale, spec.overlap[scale])
    if self_ensemble:
        network = partial(mean_of_eight, upright=network, lying=network)
    images = read_images(data, channels)
    return measure(network, scale, said(), channels)


def _through(
    backend_name: str, module: nn.Module, spec: ModelSpec, precision: str | None, device_name: str
) -> Callable[[Tensor], Tensor]:
    """The network as a backend runs it, compiled anew for each shape."""
    from ..backends import check_precision, open_backend
    from ..device import find_device
    from ..sources import Source

    backend, device = open_backend(backend_name), find_device(device_name)
    chosen = (
        check_precision(backend_name, precision)
        if precision
        else backend.default_precision([Source.of(module)], spec, device)
    )

    def run(x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        network = backend.compile(module, spec, (1, spec.channels, height, width), chosen, device)
        try:
            return network(x.to(device)).cpu()
        finally:
            network.close()

    return run


def _video(
    clip: Path,
    models: Sequence[str],
    scale: int | None,
    crfs: Sequence[float],
    codec: str,
    preset: str | None,
    frames: int,
    weights: Path | None,
    execution: Execution,
    out: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    from .terminal import speak

    if not models or scale is None:
        raise UsageError("Expected a model and its scale (`vsr eval espcn -x 2 --video CLIP`)")
    if weights is not None and len(models) > 1:
        raise UsageError(f"Expected --weights with one model, got {' '.join(models)}")
    for name in models:
        if name == "bicubic":
            raise UsageError("Expected networks with --video, which are measured beside bicubic, got bicubic")
        find_model(name, scale)
    if not clip.exists():
        raise InputError(f"No such file: {clip}")
    _check_free(out, _VIDEO_FILES, overwrite=overwrite)
    speak(quiet=False, verbose=False)
    from .progress import waiting

    with waiting(f"measuring {', '.join(models)} ×{scale} on {clip.name}"):
        from ..bench.compressed import candidates, measure

        chosen = [each for name in models for each in candidates(name, scale, weights)]
        study = measure(clip, scale, chosen, crfs, codec=codec, preset=preset, frames=frames, execution=execution)
    if as_json:
        typer.echo(json.dumps(study.as_dict(), indent=1, ensure_ascii=False))
    else:
        typer.echo(f"{_columns(study.table())}\n\n{study.legend}")
    if out is not None:
        from ..bench.curves import draw

        _write_text(out / _VIDEO_FILES[0], json.dumps(study.as_dict(), indent=1, ensure_ascii=False) + "\n")
        draw(study, out / _VIDEO_FILES[1])


def _qualities(text: str, codec: str, preset: str | None) -> list[float]:
    """Parse ``18,23,28``, and check that the encoder accepts these values and the preset."""
    from ..stream.compression import ENCODERS
    from ..stream.encoder import check_encoding
    from ..stream.encoding import Encoding

    if codec not in ENCODERS:
        raise UsageError(f"Unknown encoder {codec!r}. Known encoders: {', '.join(ENCODERS)}")
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"Expected --crf as numbers (18,23,28,32), got {text!r}") from error
    for number in numbers:
        if codec == "libvpx-vp9" and number % 1:
            raise UsageError(f"Expected --crf in whole numbers for libvpx-vp9, got {number:g}")
        check_encoding(".mkv", Encoding(codec, number, preset))
    return numbers


def _check_free(out: Path | None, files: Sequence[str], *, overwrite: bool) -> None:
    """Raise `OutputError` if one of the files exists in the folder and may not be replaced."""
    there = [name for name in files if out is not None and (out / name).exists()]
    if out is not None and there and not overwrite:
        raise OutputError(f"{out / there[0]} exists", overwrite=True)


def _survey(
    data: Path, scale: int | None, out: Path | None, *, self_ensemble: bool, overwrite: bool, as_json: bool
) -> None:
    from .terminal import speak

    speak(quiet=False, verbose=False)
    _check_free(out, _FILES, overwrite=overwrite)
    from .progress import waiting

    with waiting("measuring every model that has weights"):
        from ..bench.survey import measure

        survey = measure(data, () if scale is None else (scale,), self_ensemble=self_ensemble)
    if as_json:
        typer.echo(json.dumps(survey.as_dict(), indent=1, ensure_ascii=False))
    else:
        typer.echo(_table(survey))
    if out is not None:
        _write(survey, out)


def _table(survey: Survey) -> str:
    from ..bench.survey import cells

    lines: list[tuple[str, ...]] = [("model", "scale", "PSNR", "SSIM", "paper", "difference", "fps")]
    for row in survey.rows:
        name, *figures = cells(row)
        lines.append((name, f"×{row.scale}", *figures))
    return f"{_columns(lines)}\n\n{survey.legend}"


def _columns(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _write(survey: Survey, out: Path) -> None:
    from ..bench.scatter import draw

    markdown, data, image = (out / name for name in _FILES)
    _write_text(markdown, survey.as_markdown())
    _write_text(data, json.dumps(survey.as_dict(), indent=1, ensure_ascii=False) + "\n")
    draw(survey, image)


def _write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write to {path.parent}: {error.strerror}") from error
