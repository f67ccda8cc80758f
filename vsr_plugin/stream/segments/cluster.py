"""`Cluster`: makes the parts in other processes, on this machine, its GPUs or other machines, through Ray.

Ray decides where a worker runs, and restarts it if it is lost. Workers read the input and write the parts at the same
paths as here, in a folder that all machines share; or both are sent through Ray's object store.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import sys
import threading
import time
import warnings
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO, cast
from urllib.parse import urlsplit

from ...arguments import checked_arguments
from ...errors import BackendError, UsageError
from ...installation import install
from .dispatch import Handle, dispatch
from .manifest import versions
from .messages import Given
from .original import check_unchanged
from .ship import Shipped

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from ...engine import Upscaler
    from ...execution import Execution
    from .executor import Task
    from .parts import Part

log = logging.getLogger(__name__)

# Set before Ray is imported, unless the user has set them.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # sends no usage statistics
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # no warning about hiding GPUs from workers without one
    "GRPC_VERBOSITY": "ERROR",  # no line at every fork
    "RAY_DEDUP_LOGS": "0",  # otherwise, lines that were held back are printed at the end, by our thread
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # if several segments fail, one error is raised, and the others not printed
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # `uv run`: start workers as usual, not through uv in a copy of the folder
    "MALLOC_ARENA_MAX": "2",  # otherwise, glibc keeps memory of every codec's threads, and workers grow by a fifth
    "RAY_worker_niceness": "0",  # workers get the priority of the command, not a lower one than other programs
    "RAY_gcs_server_port_wait_time_s": "60",  # a busy machine may need more than 30 to start a server
}


@checked_arguments()
class Cluster:
    """An `Executor` whose workers are processes of Ray; a context manager.

    It can be used for several films: the workers keep the network. For a cluster that requires a token, set
    ``RAY_AUTH_MODE=token``; the token is read from ``RAY_AUTH_TOKEN`` or ``~/.ray/auth_token``.

    Args:
        workers: Number of workers; "gpus" for one on each GPU that Ray knows. By default, one on each GPU, or one on
            each machine if the network runs on the CPU.
        address: Address of a Ray cluster: "auto" for the one that this machine is part of, ``ray://HOST:10001`` for
            another. None for this machine alone.
        ship: Send the workers the pieces of the input that they read, and the parts back, through Ray's object store.
            By default, all machines read and write the same paths.

    Attributes:
        workers: Number of workers that are ready.

    Raises:
        UsageError: the number of workers is below 1, or neither a number nor an address is given.
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
        self._session: Path | None = None  # folder of Ray's logs and sockets, if it was started here
        self._upscaler: Upscaler | None = None  # the workers have copies of it
        self._handles: list[Handle] = []

    @property
    def workers(self) -> int:
        """Number of workers that are ready."""
        return max(1, sum(handle.starting is None for handle in self._handles))

    def close(self) -> None:
        """Stop the workers, and Ray if it was started here; may be called again."""
        with _quiet():
            self._stop_workers()
            if self._connected:
                import ray

                ray.shutdown()
                self._connected = False
            if self._session is not None:  # Ray's logs are no longer needed
                shutil.rmtree(self._session, ignore_errors=True)
                self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, task: Task) -> Generator[Part]:
        """See `Executor.run`.

        Raises:
            UsageError: there is no GPU though one was requested; the input cannot be sent.
            BackendError: there is no cluster at this address; a worker has other versions of FFmpeg's libraries; a
                segment was lost with its worker three times, or every worker was lost while it loaded the network.
            VsrError: the error with which a segment failed three times, or once if trying again would not help.
        """
        path = str(Path(task.film.path).absolute())
        if self._ship and not Path(path).is_file():
            raise UsageError(f"Expected a single file to send to the workers, got {task.film.path}", ship=None)
        with _quiet():
            self._connect()
            import ray

            try:
                self._start_workers(task.upscaler)
                file = Shipped(path) if self._ship else None
                check_unchanged(task.film, every_image=True)
                kept = ray.put(replace(task.film, path=path if file is None else file))  # type: ignore[arg-type]
                yield from dispatch(self._handles, replace(task, folder=task.folder.absolute()), kept, file)
            except BaseException:  # the workers may still be busy
                self._stop_workers()
                raise

    def _connect(self) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            return
        _check_port(self._address)
        local: dict[str, Any] = {} if self._address else {"include_dashboard": False}
        if not self._address and isinstance(self._asked, int):
            local["num_cpus"] = self._asked
        pauses = [0.0] if not self._address else [1.0, 2.0, 4.0, 8.0]  # before the next tries
        before = signal.getsignal(signal.SIGTERM)
        try:
            while True:
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")  # the error says the same
                        context = ray.init(
                            self._address or "local", log_to_driver=False, logging_level=logging.ERROR, **local
                        )
                    break
                except Exception as error:  # Ray raises plain exceptions
                    ray.shutdown()  # otherwise, Ray stays in the state of a client, and would not start here any more
                    # On a busy machine, its servers may fail to start, and succeed the next time. On a cluster, this
                    # is the server for our client: its process is forked among gRPC's threads, and may abort.
                    if not pauses or (self._address and not isinstance(error, ConnectionAbortedError)):
                        raise self._no_ray(error) from error
                    log.debug("Ray does not start, and is started again: %s", error)
                    time.sleep(pauses.pop(0))
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)  # Ray has replaced it
        self._connected = True
        if not self._address:
            self._session = Path(context.address_info["session_dir"])

    def _no_ray(self, error: Exception) -> BackendError:
        """Return a one-line error that Ray does not start, or is not found."""
        where = f"No Ray cluster at {self._address}"
        if self._address in (None, "auto"):
            where = f"Ray does not {'run' if self._address else 'start'} on this machine"
        lines = str(error).strip().splitlines() or [type(error).__name__]
        reason = lines[-1] if lines[0].endswith(":") else lines[0]  # a traceback follows the colon
        if missing := type(error).__name__ == "AuthenticationError":
            reason = "it asks for a token"
        needs = "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to what `ray get-auth-token` prints on its first machine"
        # Ray sends its token by itself to a cluster that it finds, but not to an address; a wrong one times out.
        asks = self._address not in (None, "auto")
        token = f"; {needs}" if missing else f"; if it asks for a token, {needs}" if asks else ""
        return BackendError(f"{where} ({reason}){token}")

    def _start_workers(self, upscaler: Upscaler) -> None:
        """Start the workers, unless they are running with this network."""
        import ray

        from ...device import cpu_count
        from .worker import Worker

        if upscaler is self._upscaler and self._handles:
            return
        self._stop_workers()
        on_gpu = upscaler.device.type == "cuda"
        resources = ray.cluster_resources()
        if self._asked == "gpus" and not on_gpu:
            raise UsageError(f"Expected a network on a GPU for workers on GPUs, got one on {upscaler.device}")
        if on_gpu and not resources.get("GPU"):
            raise UsageError("Expected one GPU or more that Ray knows of, got none", device="cpu")
        if isinstance(self._asked, int):
            count = self._asked
        elif on_gpu:
            count = max(1, int(resources["GPU"]))
        else:
            count = max(1, sum(node["Alive"] and bool(node["Resources"].get("CPU")) for node in ray.nodes()))
        if on_gpu and count > resources["GPU"]:
            log.warning("%d workers on %d GPUs: several share one", count, resources["GPU"])
        cores = resources.get("CPU", 1) if self._address else cpu_count()
        module, spec, scale, execution = upscaler.recipe
        network = ray.put((module, spec, scale, _for_workers(execution, upscaler, int(cores) // count or 1)))
        given = Given([network], upscaler.backend, versions(upscaler.backend))
        kind = ray.remote(
            num_cpus=1,
            num_gpus=_share(count, resources["GPU"]) if on_gpu else 0,
            max_restarts=-1,
            max_task_retries=-1,  # otherwise, calls to a worker that is restarting fail at once
            scheduling_strategy="SPREAD",
            concurrency_groups={"watch": 1, "wanted": 1},
        )(Worker)
        self._upscaler = upscaler
        self._handles = [Handle(kind, given) for _ in range(count)]

    def _stop_workers(self) -> None:
        """Stop the workers, even busy ones."""
        for handle in self._handles:
            handle.stop()
        self._handles, self._upscaler = [], None


def _check_port(address: str | None) -> None:
    """Raise at once if nothing listens at the address; Ray would try for a minute or more."""
    if not address or address in ("auto", "local"):
        return
    try:
        where = urlsplit(address if "://" in address else f"//{address}")
        port = where.port or (10001 if where.scheme == "ray" else 6379)  # Ray's own ports
        socket.create_connection((where.hostname, port), timeout=30).close()
    except (OSError, ValueError) as error:  # ValueError: invalid port number
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise BackendError(f"No Ray cluster at {address} ({reason})") from error


def _share(workers: int, gpus: float) -> float:
    """Return the share of a GPU that a worker requests, so that all workers fit and each is on one GPU."""
    return 1 / math.ceil(workers / gpus)


def _for_workers(execution: Execution, upscaler: Upscaler, threads: int) -> Execution:
    """Return how a worker runs the network: as here, but on its share of the machine."""
    return replace(
        execution,
        backend=upscaler.backend,
        device=upscaler.device.type,
        precision=upscaler.precision,
        threads=execution.threads or threads,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's remaining output off the terminal.

    Its lines on standard output, for example about a worker that ended, go to the log. A remote cluster's log of a
    failed task, with a traceback, is dropped: `ray.get` raises the same here.
    """
    remote = logging.getLogger("ray.util.client.logsclient")
    before, remote.disabled = remote.disabled, True
    try:
        if sys.stdout is None:
            yield
        else:
            with redirect_stdout(cast("TextIO", _WithoutRay(sys.stdout))):
                yield
    finally:
        remote.disabled = before


class _WithoutRay:
    """Standard output for all threads except Ray's."""

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
