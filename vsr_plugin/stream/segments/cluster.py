"""`Cluster`: other processes make the parts, on this machine, on its GPUs or on other machines, through Ray.

Where a worker runs, and that it is started again when it is lost, is Ray's work. Workers read the input and write the
parts at the paths that they have here, on a folder that all machines share; or both travel through Ray's object store.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections import Counter, deque
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO, cast

from ...errors import BackendError, UsageError, VsrError
from ...installation import install
from .manifest import versions
from .parts import store_part
from .ship import ship

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ...engine import Upscaler
    from ...execution import Execution
    from . import Film, Segment
    from .parts import Part
    from .work import Step
    from .worker import Given, Made

log = logging.getLogger(__name__)

_TRIES = 3  # of a segment, before the job ends with its error
_IN_FLIGHT = 2  # segments that a worker has at a time: the next one waits where it is needed
_POLL = 0.02  # seconds between two looks whether something has ended
_STEP = 0.5  # seconds between two questions how far a worker is
_PATIENCE = 30.0  # seconds without any worker, before it is said


class Cluster:
    """An `Executor` whose workers are processes of Ray; a context manager.

    It may serve several films: the workers keep the network.

    Args:
        workers: How many; "gpus" for one on each GPU that Ray knows. By default that, or one for each machine where the
            network runs on the CPU.
        address: Of a Ray cluster: "auto" for the one that this machine is part of, ``ray://HOST:10001`` for another.
            None for this machine alone.
        ship: Send the input to the workers, and the parts back, through Ray's object store, which keeps a copy of the
            input. By default all machines read and write the same paths.

    Attributes:
        workers: How many of them are ready.

    Raises:
        UsageError: a number of workers below 1, or nothing that says where they are.
        BackendError: Ray is not installed.
    """

    def __init__(
        self,
        workers: int | Literal["gpus"] | None = None,
        address: str | None = None,
        *,
        ship: bool = False,
    ) -> None:
        if isinstance(workers, int) and workers < 1:
            raise UsageError(f"Expected 1 or more workers, got {workers}")
        if workers is None and address is None:
            raise UsageError("Expected a number of workers, or the address of a cluster, got none")
        if find_spec("ray") is None:
            raise BackendError(f"Workers need Ray, which is not installed: {install('cluster')}")
        self._asked = workers
        self._address = address
        self._ship = ship
        self._connected = False
        self._upscaler: Upscaler | None = None  # that the workers have a copy of
        self._handles: list[_Handle] = []

    @property
    def workers(self) -> int:
        """See above."""
        return max(1, sum(handle.starting is None for handle in self._handles))

    def close(self) -> None:
        """Stop the workers, and Ray if it was started here; harmless when called again."""
        with _quiet():
            self._stop_workers()
            if self._connected:
                import ray

                ray.shutdown()
                self._connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(
        self,
        film: Film,
        segments: Sequence[Segment],
        upscaler: Upscaler,
        folder: Path,
        on_step: Callable[[Step], None],
    ) -> Iterator[Part]:
        """As `Executor.run`.

        Raises:
            UsageError: no GPU where one was asked for; an input that cannot be sent.
            BackendError: no cluster at this address; a worker has other versions of FFmpeg's libraries; a segment was
                lost with its worker three times.
            VsrError: whatever a segment failed with three times.
        """
        import ray

        if film.path == "-":
            raise UsageError("Expected a file for workers to read, got standard input")
        with _quiet():
            self._connect()
            whole = False
            try:
                self._start_workers(upscaler)
                folder = folder.resolve()
                path = film.path if "://" in film.path else str(Path(film.path).resolve())
                source: Any = ship(path) if self._ship else path
                given = ray.put(replace(film, path=source))
                yield from self._dispatch(given, segments, folder, on_step)
                whole = True
            finally:
                if not whole:  # they still work on what nobody waits for
                    self._stop_workers()

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        local: dict[str, Any] = {} if self._address else {"include_dashboard": False}
        if not self._address and isinstance(self._asked, int):
            local["num_cpus"] = self._asked
        before = signal.getsignal(signal.SIGTERM)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unasked
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else a warning that it will be so
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what the error says, too
                ray.init(self._address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
        except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
            where = f"at {self._address}" if self._address else "on this machine"
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BackendError(f"No Ray cluster {where} ({reason})") from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # which Ray has set to its own
        self._connected = True

    def _start_workers(self, upscaler: Upscaler) -> None:
        """Start the workers, unless they are there with this network."""
        import ray

        from .worker import Given, Worker

        if upscaler is self._upscaler and self._handles:
            return
        self._stop_workers()
        on_gpu = upscaler.device.type == "cuda"
        resources = ray.cluster_resources()
        if self._asked == "gpus" and not on_gpu:
            raise UsageError(f"Expected a network on a GPU for workers on GPUs, got one on {upscaler.device}")
        if on_gpu and not resources.get("GPU"):
            raise UsageError("Expected one GPU or more that Ray knows of, got none", device="cpu")
        machines = sum(node["Alive"] and bool(node["Resources"].get("CPU")) for node in ray.nodes())
        count = self._asked if isinstance(self._asked, int) else int(resources["GPU"]) if on_gpu else machines
        if on_gpu and count > resources["GPU"]:
            log.warning("%d workers on %d GPUs: several share one", count, resources["GPU"])
        cores = resources.get("CPU", 1) if self._address else os.cpu_count() or 1
        module, spec, scale, execution = upscaler.recipe
        network = ray.put((module, spec, scale, _for_workers(execution, upscaler, int(cores) // count or 1)))
        given = Given(network=[network], versions=versions())
        kind = ray.remote(
            num_cpus=1,
            num_gpus=min(1, resources["GPU"] / count) if on_gpu else 0,
            max_restarts=-1,
            scheduling_strategy="SPREAD",
            concurrency_groups={"watch": 1},
        )(Worker)
        self._upscaler = upscaler
        self._handles = [_Handle(kind.remote(), given) for _ in range(count)]

    def _stop_workers(self) -> None:
        """Stop the workers, whatever they do."""
        if self._handles:
            import ray

            for handle in self._handles:
                with suppress(Exception):  # it, or the whole cluster, may be gone
                    ray.kill(handle.actor)
        self._handles, self._upscaler = [], None

    def _dispatch(
        self, film: Any, segments: Sequence[Segment], folder: Path, on_step: Callable[[Step], None]
    ) -> Iterator[Part]:
        """Give segments to the workers, and give on what a lost one has had."""
        import ray

        waiting = deque(segments)
        tries: Counter[int] = Counter()
        idle = time.monotonic()
        while waiting or any(handle.making for handle in self._handles):
            for handle in sorted(self._handles, key=lambda handle: len(handle.making)):
                # At the end, a second one would wait behind the first while others have nothing to do.
                most = _IN_FLIGHT if len(waiting) > len(self._handles) else 1
                if waiting and handle.starting is None and len(handle.making) < most:
                    handle.make([film], waiting.popleft(), None if self._ship else folder)
            refs = [ref for handle in self._handles for ref in handle.refs()]
            done, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
            if not done:  # Ctrl-C interrupts a sleep at once, and Ray's own waiting after a second
                time.sleep(_POLL)
            for handle in list(self._handles):
                for step in handle.steps():
                    on_step(step)
                for ref in [ref for ref in handle.refs() if ref in done]:
                    segment = handle.making.get(ref)
                    try:
                        made = ray.get(ref)
                    except ray.exceptions.RayTaskError as error:
                        handle.forget(ref)
                        _fail(error, segment, tries)
                        assert segment is not None
                        waiting.appendleft(segment)
                    except ray.exceptions.RayError as error:
                        if segment is None:
                            self._handles.remove(handle)
                        else:
                            waiting.extendleft(reversed(_lost(handle, tries, error)))
                        if not self._handles:
                            raise BackendError(f"No worker of Ray is left ({_line(error)})") from error
                        break
                    else:
                        handle.forget(ref)
                        if segment is not None:
                            yield _kept(made, folder)
            if any(handle.starting is None for handle in self._handles):
                idle = time.monotonic()
            elif time.monotonic() > idle + _PATIENCE:
                log.warning("Ray has started no worker yet: waiting until a CPU or GPU is free")
                idle = float("inf")


def _kept(made: Made, folder: Path) -> Part:
    """What a worker has made, on the disk here."""
    for level, line in made.said:
        log.log(level, "%s", line)
    if made.payload is not None:
        store_part(folder, made.part, made.payload)
    return made.part


def _lost(handle: _Handle, tries: Counter[int], error: Exception) -> list[Segment]:
    """What is to be made again, as a worker is gone: what it made, and what waited there."""
    first, *others = handle.lost()
    log.warning("A worker is lost: segment %d is made again", first.number)
    tries[first.number] += 1
    if tries[first.number] == _TRIES:
        raise BackendError(f"Segment {first.number} was lost with its worker {_TRIES} times") from error
    return [first, *others]


def _line(error: BaseException) -> str:
    """The last line of an error of others, which says most."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1].strip()}" if lines else type(error).__name__


def _fail(error: Any, segment: Segment | None, tries: Counter[int]) -> None:
    """Count what a worker has failed with; raise it if it cannot work, or has tried often enough."""
    cause = error.cause
    if segment is not None:
        tries[segment.number] += 1
        if tries[segment.number] < _TRIES and not isinstance(cause, UsageError):
            return
    if isinstance(cause, VsrError):
        raise cause from error
    what = "A worker cannot start" if segment is None else f"Segment {segment.number} failed {_TRIES} times"
    raise BackendError(f"{what} ({_line(cause or error)})") from error


def _for_workers(execution: Execution, upscaler: Upscaler, threads: int) -> Execution:
    """How a worker runs the network: as here, on its own share of the machine."""
    return replace(
        execution,
        backend=upscaler.backend,
        device=upscaler.device.type,
        precision=upscaler.precision,
        threads=execution.threads or threads,
    )


@dataclass(eq=False)
class _Handle:
    """One worker, as it is known here.

    Attributes:
        actor: Ray's.
        given: What it needs for the network; as long as it is here, Ray keeps it.
        starting: What tells that it has loaded the network; None when it has.
        making: What it makes, and then what waits there.
        watching: What tells how far it is, if it was asked.
        asked: When that was, on the clock of `time.monotonic`.
    """

    actor: Any
    given: Given
    starting: Any = None
    making: dict[Any, Segment] = field(default_factory=dict)
    watching: Any = None
    asked: float = 0.0

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.starting = self.actor.ready.options(max_task_retries=-1).remote(self.given)

    def make(self, film: Any, segment: Segment, folder: Path | None) -> None:
        """Let it make a part."""
        self.making[self.actor.make.remote(self.given, film, segment, folder)] = segment

    def refs(self) -> list[Any]:
        """All that may end."""
        return [*self.making, *([] if self.starting is None else [self.starting])]

    def forget(self, ref: Any) -> None:
        """That has ended."""
        if ref == self.starting:
            self.starting = None
        self.making.pop(ref, None)

    def lost(self) -> list[Segment]:
        """It is gone with these; if it comes again, it will say that it is ready."""
        segments = list(self.making.values())
        self.making.clear()
        self.watching = None
        self._start()
        return segments

    def steps(self) -> Iterator[Step]:
        """How far it is; asked now, answered at a later call."""
        import ray

        if self.watching is not None and ray.wait([self.watching], timeout=0)[0]:
            with suppress(ray.exceptions.RayError):
                step = ray.get(self.watching)
                if step is not None and any(step.number == segment.number for segment in self.making.values()):
                    yield step
            self.watching = None
        if self.watching is None and self.making and time.monotonic() > self.asked + _STEP:
            self.asked = time.monotonic()
            self.watching = self.actor.step.options(concurrency_group="watch").remote()


@contextmanager
def _quiet() -> Iterator[None]:
    """Send to the log what Ray, told to be quiet, still prints on standard output: that a worker ended, and why."""
    if sys.stdout is None:
        yield
        return
    with redirect_stdout(cast("TextIO", _WithoutRay(sys.stdout))):
        yield


class _WithoutRay:
    """Standard output, for all threads but those of Ray."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            if text.strip():
                log.debug("Ray: %s", text.strip())
            return len(text)
        return self._file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
