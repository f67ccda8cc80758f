"""``vsr doctor``: what is installed, what works, and the command that fixes what does not."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..installation import install, install_package, is_for_cpus, reinstall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

State = Literal["ok", "absent", "broken"]

# Distribution, module, what installs it (a package, or an extra of ours in brackets), and whether vsr_plugin needs it.
_PACKAGES = (
    ("torch", "torch", "torch", True),
    ("numpy", "numpy", "numpy", True),
    ("av", "av", "av", True),
    ("safetensors", "safetensors", "safetensors", True),
    ("openvino", "openvino", "openvino", True),
    ("rich", "rich", "rich", True),
    ("typer", "typer", "typer", True),
    ("triton", "triton", "triton", False),
    ("tensorrt", "tensorrt", "install TensorRT from NVIDIA", False),
    ("tensorrt_rtx", "tensorrt_rtx", "[tensorrt]", False),
    ("vapoursynth", "vapoursynth", "[vapoursynth]", False),
    ("opencv-python", "cv2", "[preview]", False),
    ("aiohttp", "aiohttp", "[preview]", False),
    ("onnx", "onnx", "[export]", False),
    ("matplotlib", "matplotlib", "[bench]", False),
    ("ray", "ray", "[cluster]", False),
)
# Encoders that people ask for, and whether the defaults of `vsr encode` need them.
_ENCODERS = (
    ("libx264", True),
    ("libx265", True),
    ("libsvtav1", False),
    ("libvpx-vp9", False),
    ("ffv1", False),
    ("prores_ks", False),
    ("h264_nvenc", False),
    ("hevc_nvenc", False),
    ("av1_nvenc", False),
)
_CPU_FEATURES = ("avx2", "avx512_f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
# A smooth frame looks the same however it is enlarged: a network's mean difference from bicubic is below this.
_SMOOTH_DIFFERENCE = 4.0  # code values of 8 bits


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    Attributes:
        part: What is examined: versions, devices, encoders, weights, backends, engines, vapoursynth.
        name: Name of the thing examined.
        state: ``broken`` if something needed is missing or does not work; ``absent`` does no harm.
        detail: Its version, its size, or what is wrong.
        remedy: The command that fixes it; empty if there is nothing to fix.
    """

    part: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Check this installation, and enlarge a test frame; exit code 1 if something that is needed is broken."""
    from .progress import waiting

    with waiting("examining this installation"):
        findings = list(examine())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    else:
        _print(findings)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def examine() -> Iterator[Finding]:
    """Examine everything and yield the findings; broken things are findings, not exceptions."""
    yield from _versions()
    if any(_import_error(module) for _, module, _, needed in _PACKAGES if needed):
        return  # the other checks would fail for the same reason
    yield from _devices()
    yield from _encoders()
    yield from _weights()
    yield from _backends()
    yield from _engines()
    yield from _vapoursynth()


def _versions() -> Iterator[Finding]:
    from importlib import metadata

    from .. import __version__

    yield Finding("versions", "vsr_plugin", "ok", __version__)
    yield Finding("versions", "python", "ok", sys.version.split()[0])
    for distribution, module, what, needed in _PACKAGES:
        why = _import_error(module)
        if why:
            yield Finding("versions", distribution, "broken" if needed else "absent", why, _command(what))
            continue
        try:
            version = metadata.version(distribution)
        except metadata.PackageNotFoundError:  # another distribution of the same module, such as opencv-python-headless
            version = str(getattr(import_module(module), "__version__", "of unknown version"))
        libraries = getattr(import_module(module), "library_versions", {}) if module == "av" else {}
        parts = (f"{name} {'.'.join(map(str, number))}" for name, number in libraries.items())
        yield Finding("versions", distribution, "ok", ", ".join([version, *parts]))


def _command(what: str) -> str:
    if what == "triton" and is_for_cpus():
        return ""  # useless without CUDA
    if " " in what:
        return what
    return install(what.strip("[]")) if what[0] == "[" else install_package(what)


def _import_error(module: str) -> str:
    """Why ``module`` cannot be imported, in one line; empty if it can."""
    from ..backends import open_backend

    try:
        if module == "openvino":  # imported directly, it sends telemetry; the backend prevents that
            open_backend(module)
        import_module(module)
    except ModuleNotFoundError as error:
        return "not installed" if error.name == module else f"does not load: {error}"
    except Exception as error:  # noqa: BLE001 - a foreign package may fail in any way; here that is a finding
        return f"does not load: {(str(error).splitlines() or [type(error).__name__])[0]}"
    return ""


def _devices() -> Iterator[Finding]:
    import torch

    from ..backends.processor import multiplies_bytes

    able = torch.cpu.get_capabilities()
    features = [name for name in _CPU_FEATURES if able.get(name)]
    cores = f"{able.get('num_physical_cores', '?')} cores, {torch.get_num_threads()} threads"
    yield Finding(
        "devices", "cpu", "ok", f"{able.get('cpu_name', 'unknown')}, {cores}, {' '.join(features) or 'plain'}"
    )
    fast = multiplies_bytes()
    yield Finding(
        "devices",
        "int8",
        "ok" if fast else "absent",
        "fast" if fast else "this processor has no VNNI: no precision int8",
    )
    if not torch.cuda.is_available():
        yield Finding("devices", "cuda", "absent", "no CUDA device that torch can use")
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        memory, ability = f"{gpu.total_memory / 2**30:.0f} GiB", f"compute capability {gpu.major}.{gpu.minor}"
        yield Finding("devices", f"cuda:{index}", "ok", f"{gpu.name}, {memory}, {ability}")


def _encoders() -> Iterator[Finding]:
    from ..errors import UsageError
    from ..stream.encoder import choose_codec

    for name, needed in _ENCODERS:
        try:
            choose_codec("", 8, name)
        except UsageError:
            remedy = install_package("--force-reinstall --only-binary av av") if needed else ""
            yield Finding("encoders", name, "broken" if needed else "absent", "not in this build of PyAV", remedy)
        else:
            detail = "there; needs an NVIDIA GPU and its driver" if name.endswith("_nvenc") else "there"
            yield Finding("encoders", name, "ok", detail)


def _weights() -> Iterator[Finding]:
    from hashlib import sha256

    from ..models import manifest

    if not manifest():
        yield Finding("weights", "all", "broken", "none in this installation", reinstall())
    folder, good = resources.files("vsr_plugin.weights"), 0
    rows = {name: (row.get("file", f"{name}.safetensors"), row["sha256"]) for name, row in manifest().items()}
    rows |= {
        f"{name} in 8 bits": (row["int8"]["file"], row["int8"]["sha256"])
        for name, row in manifest().items()
        if "int8" in row
    }
    for name, (place, checksum) in rows.items():
        file = folder / place
        try:
            intact = sha256(file.read_bytes()).hexdigest() == checksum
        except OSError:
            yield Finding("weights", name, "broken", "the file is missing", reinstall())
        else:
            good += intact
            if not intact:
                yield Finding("weights", name, "broken", "not the file that was shipped", reinstall())
    if good:
        yield Finding("weights", "shipped", "ok", f"{good} of {len(rows)} are intact")


def _backends() -> Iterator[Finding]:
    """Enlarge a frame through every backend, on every kind of device it runs on, the default first."""
    import torch

    from ..backends import BACKEND_NAMES, open_backend
    from ..errors import BackendError
    from ..models import MODELS

    shipped = [(name, scale) for name, spec in MODELS.items() for scale in spec.scales if spec.weights(scale)]
    if not shipped:
        return
    model, scale = ("espcn", 3) if ("espcn", 3) in shipped else shipped[0]
    yield _enlargement("default", model, scale, None, None)
    for name in BACKEND_NAMES:
        try:
            devices = open_backend(name).devices
        except BackendError as error:
            yield Finding("backends", name, "absent", str(error))
            continue
        here = [device for device in devices if device != "cuda" or torch.cuda.is_available()]
        for device in here:
            yield _enlargement(f"{name} on {device}", model, scale, name, device)
        if not here:
            yield Finding("backends", name, "absent", "runs on CUDA, and there is no CUDA device that torch can use")


def _enlargement(name: str, model: str, scale: int, backend: str | None, device: str | None) -> Finding:
    from fractions import Fraction
    from time import perf_counter

    import torch

    from ..arrays import as_tensor
    from ..engine import Upscaler
    from ..errors import VsrError
    from ..execution import Execution
    from ..frames import Frame
    from ..kernels import enlarge

    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    luma: Tensor = (126 + 60 * torch.sin(x / 9) * torch.cos(y / 7)).round().to(torch.uint8)
    try:
        with Upscaler(model, scale, Execution(backend=backend, device=device, batch=1)) as upscaler:
            began = perf_counter()
            [large] = upscaler.upscale([Frame((luma.numpy(),), pts=0, time_base=Fraction(1, 25))])
            took = perf_counter() - began
            how = f"{upscaler.backend} on {upscaler.device}, {upscaler.precision}"
    except VsrError as error:
        return Finding(
            "backends", name, "broken", str(error), "vsr encode --backend eager works without any other backend"
        )
    expected = enlarge(luma[None, None].float(), scale)[0, 0]
    distance = (as_tensor(large.planes[0]).float() - expected).abs().mean().item()
    what = f"{model} ×{scale}, {how}"
    if not distance < _SMOOTH_DIFFERENCE:
        found = f"{what}: {distance:.2f} code values from bicubic; expected less than {_SMOOTH_DIFFERENCE:g}"
        return Finding("backends", name, "broken", found, reinstall())
    what += f": a smooth frame is right ({distance:.2f} code values from bicubic); {took:.1f} s with compiling"
    return Finding("backends", name, "ok", what)


def _engines() -> Iterator[Finding]:
    """Report which TensorRT library is used, and how many engine files are cached."""
    from ..backends.cache import OF_ENGINES, default_folder, entries
    from ..backends.tensorrt.flavor import find_flavor
    from ..errors import BackendError, InputError, UsageError

    try:
        flavor = find_flavor()
    except BackendError as error:  # says why an installed library does not load
        yield Finding("engines", "tensorrt", "absent", str(error), install("tensorrt"))
        return
    try:
        folder = default_folder()
        files = [file for file in entries(folder) if file.path.suffix in OF_ENGINES]
    except UsageError as error:
        yield Finding("engines", "tensorrt", "broken", error.message, "set VSR_CACHE_DIR to a folder")
        return
    except InputError as error:
        yield Finding("engines", "tensorrt", "broken", str(error), "make it readable, or remove it")
        return
    size = sum(file.size for file in files) / 1e6
    detail = f"by {flavor.name} {flavor.version}; {len(files)} files, {size:.1f} MB, in {folder}"
    yield Finding("engines", "tensorrt", "ok", detail)


_SCRIPT = """
import vapoursynth as vs
import vsr_plugin.vapoursynth as vsr
vsr.upscale(vs.core.std.BlankClip(width=48, height=32, length=2, format=vs.YUV420P8)).set_output()
"""


def _vapoursynth() -> Iterator[Finding]:
    """Run a script of two frames through vspipe, which must have been told where this Python is."""
    part = "vapoursynth"
    from ..bench.vapoursynth import find_vspipe

    if _import_error("vapoursynth"):
        return  # `_versions` has given the command that installs it
    vspipe = find_vspipe()
    if vspipe is None:
        remedy = install_package("--force-reinstall --no-deps vapoursynth")
        yield Finding(part, "vspipe", "absent", "not beside this Python, nor on the path", remedy)
        return
    yield Finding(part, "vspipe", "ok", vspipe)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.vpy"
        script.write_text(_SCRIPT, encoding="utf-8")
        done = subprocess.run([vspipe, script, "--"], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode == 0:
        yield Finding(part, "filter", "ok", "vspipe runs it")
        return
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()] or ["it says nothing"]
    if "VSScript" in done.stderr:
        yield Finding(part, "filter", "absent", "vspipe does not know this Python yet", "vapoursynth config")
    elif "No module named 'vsr_plugin'" in done.stderr:
        detail = "vspipe runs another Python, without vsr_plugin"
        yield Finding(part, "filter", "absent", detail, "vapoursynth config, with the Python that has vsr_plugin")
    else:
        yield Finding(part, "filter", "broken", f"vspipe: {lines[-1]}", install_package("-U vapoursynth"))


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape

    colors = {"ok": "green", "absent": "dim", "broken": "bold red"}
    console = Console(highlight=False, soft_wrap=True)  # users copy the commands: never cut or wrap them
    width = max(len(finding.name) for finding in findings)
    part = ""
    for finding in findings:
        place = "" if finding.part == part else finding.part
        state = f"[{colors[finding.state]}]{finding.state:6}[/]"
        console.print(f"{place:12}{escape(finding.name.ljust(width))}  {state}  {escape(finding.detail)}")
        if finding.remedy:
            console.print(f"{'':12}{'':{width}}  →  {escape(finding.remedy)}")
        part = finding.part
    broken = sum(finding.state == "broken" for finding in findings)
    console.print(f"{broken} broken: see the arrows" if broken else "All that is needed works.")
