"""The filter for VapourSynth: a clip in, a larger clip of the same format out.

    import vapoursynth as vs
    import vsr_plugin.vapoursynth as vsr

    clip = vsr.upscale(clip, model="espcn", scale=3)
    clip.set_output()

Planes go to the network as they are, in blocks of as many frames as it takes at once, and every frame keeps all its
properties. If vapoursynth-mlrt-ov is installed, VapourSynth loads another OpenVINO, and ours cannot be loaded: a line
says so, and plain torch runs the network.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ..installation import install

try:
    import vapoursynth as vs
except ImportError as error:
    message = f"vsr_plugin.vapoursynth needs VapourSynth 74 or newer: {install('vapoursynth')}"
    raise ImportError(message) from error

from ..backends import Device
from ..device import default_backend
from ..engine import Upscaler
from ..errors import VsrError
from ..execution import Execution
from ..models import CLEAN
from . import arguments
from .frames import blank, check_clip
from .graph import enlarged, sentence
from .quiet import quiet_descriptor
from .workers import Worker, open_worker

if TYPE_CHECKING:
    from collections.abc import Hashable
    from os import PathLike

    from ..backends import Precision
    from ..sizes import Fit

__all__ = ["upscale"]


def upscale(
    clip: vs.VideoNode,
    model: str = "espcn",
    scale: int | None = None,
    *,
    width: int | None = None,
    height: int | None = None,
    fit: Fit = "stretch",
    src_left: float = 0.0,
    src_top: float = 0.0,
    weights: str | PathLike[str] | None = None,
    tuned_for: str = CLEAN,
    backend: str | None = None,
    precision: Precision | None = None,
    device: str | int | None = None,
    num_streams: int | None = None,
    batch: int | Literal["latency"] | None = None,
    tile: int | Literal["auto", "off"] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    **others: Any,
) -> vs.VideoNode:
    """Enlarge a clip with a network.

    The network is compiled and tried here, so that errors are reported when the script is loaded. When the core is
    freed, or the last clip that needs the network is gone, it is kept for the next clip of the process that asks for
    it, because players reload a script for every seek; a clip that asks for another network frees it.

    Args:
        clip: Progressive, of constant size and format: GRAY, YUV or RGB in integers of 8 to 16 bits; GRAY, YUV444 or
            RGB in half or single precision, where a frame with NaN or infinity is an error. `_Matrix`,
            `_Range` and `_ChromaLocation` are read from every frame.
            Untagged YUV is BT.709 if at least 1280 wide or more than 576 high, else BT.601; untagged chroma sits left,
            and untagged samples have limited range, but RGB's full, as in VapourSynth's own filters (where
            ``vsr encode`` takes untagged gray for full). A frame requested out of order is computed alone, but
            VapourSynth fetches the frames after it, too. If a frame before this filter fails, the frames that
            fetch it fail with it: up to ``(num_streams + 1) * batch`` of them, because VapourSynth gives a filter
            all of its frames or none.
        model: A name that ``vsr models`` lists.
        scale: One that the model has; by default 2, or with ``width`` or ``height`` the first that reaches them, or two
            in turn.
        width: Width of the result, larger than the clip unless there is a ``scale``. The network's output is resampled
            once before it is rounded, by an antialiased bicubic, and chroma by itself.
        height: Height of the result. If only one of both is given, the other keeps the clip's shape.
        fit: What to do if ``width`` × ``height`` has another shape than the clip: "stretch" it, "cover" the size and
            cut off the excess, or keep it "inside", where one side may be smaller. The shape of pixels in `_SARNum`
            and `_SARDen` is adjusted, as by VapourSynth's resizers.
        src_left: Samples of the clip by which the result begins and ends later, as in VapourSynth's resizers.
        src_top: ″
        weights: A file of weights in place of the shipped ones.
        tuned_for: Which of the shipped weights: "clean", or "video" for clips that have been compressed.
        backend: What runs the network; by default the best for the device.
        precision: "float32", "float16", "bfloat16" or "int8"; by default the fastest that costs no more than 0.02 dB.
            Clips in single precision are computed in float32, those in half precision in float16 where the backend has
            it.
        device: "cpu", "cuda" or "cuda:1", or a number: of a CUDA device, or −1 for the CPU. By default, and for 0, the
            first CUDA device if there is one and the backend uses it, else the CPU.
        num_streams: Blocks that are computed side by side, each with a copy of the network; by default 2: on CUDA one
            is computed while another is copied, and on the CPU, with openvino, each has half of the cores.
        batch: Frames that the network takes at once; by default chosen for the device and the size of the clip.
            "latency" is for previews: one frame at a time on all cores, and nothing is fetched or computed ahead.
        tile: Side of a tile in input samples, 32 or more; "off" or 0 for whole frames; "auto", the default, for what
            fits.
        cache_dir: Where a backend that compiles keeps the result for the next time; other backends keep nothing.
            By default tensorrt keeps engines in the user's cache folder, and openvino the graphs of our networks.
        others: ``model_path``, ``device_index`` and ``batch_size`` are further names of ``weights``, ``device`` and
            ``batch``, as other filters have them.

    Returns:
        A clip of the same format, length, frame rate and properties, ``scale`` times as wide and high, or of ``width``
        × ``height``; `_Alpha` is enlarged with it.

    Raises:
        vapoursynth.Error: an argument is wrong, or the network does not run; the message says what to do.
    """
    try:
        check_clip(clip)
        named = arguments.resolve_aliases({"weights": weights, "device": device, "batch": batch}, others)
        asked = arguments.enlargement(model, scale, clip, (width, height), fit, (src_left, src_top))
        latency = named["batch"] == "latency"
        frames: int | None = 1 if latency else named["batch"]
        execution = Execution(
            backend=backend,
            precision=precision,
            batch=frames,
            tile="auto" if tile is None else tile or "off",
            cache_dir=cache_dir,  # type: ignore[arg-type] # a path of any kind, which Execution checks
        )
        path = arguments.weights(named["weights"])
        where = arguments.device(backend, named["device"])
        backend = backend or default_backend(Device(where))
        precision = arguments.precision(clip.format, backend, precision)
        count, threads = arguments.streams(where, backend, num_streams, latency=latency)
        execution = replace(execution, backend=backend, device=where, precision=precision, threads=threads)
        stamp = None if path is None else (path.resolve(), path.stat().st_mtime_ns, path.stat().st_size)
        with quiet_descriptor(), ExitStack() as opened:
            workers: list[Worker] = []
            for _ in range(count):
                if workers:  # later ones find less free memory, but all blocks have one size
                    frames = workers[0].batch
                frames = frames and min(frames, clip.num_frames)
                execution = replace(execution, batch=frames)
                kind = (model, asked, stamp, tuned_for, execution, clip.format.id, clip.width, clip.height)

                def make(kind: Hashable = kind, execution: Execution = execution) -> Worker:
                    upscaler = Upscaler(model, asked, execution, weights=path, tuned_for=tuned_for)
                    return Worker(upscaler, blank(clip), kind)

                workers.append(open_worker(kind, make))
                opened.callback(workers[-1].close)
            large = enlarged(clip, workers, workers[0].target, workers[0].batch, ahead=0 if latency else None)
            opened.pop_all()
    except VsrError as error:
        raise vs.Error(sentence(error)) from None
    return large
