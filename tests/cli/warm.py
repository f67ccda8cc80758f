"""Commands in processes of their own that have loaded torch already, so that they start in no time."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Self
from unittest import mock

import torch

from vsr_plugin.cli import main, main_encode

_PROGRAMS = {"vsr": main, "vsr-encode": main_encode}
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "pydantic",  # which typer loads when it reads the arguments
        "safetensors.torch",
        "tests.cli.warm",
        "vsr_plugin.backends.eager",
        "vsr_plugin.cli.run",
        "vsr_plugin.cli.segments",
        "vsr_plugin.stream.segments.job",
    ]
)


class Command:
    """A command that has started; a context manager that kills it if it still runs.

    Args:
        words: ``vsr-encode`` or ``vsr``, and its arguments.
        folder: Where it runs.
        stdin: What it reads from standard input.
        prepare: Called there before the command.
    """

    def __init__(
        self,
        *words: str,
        folder: Path,
        stdin: Path | None = None,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        with ExitStack() as cleanup:
            self._said = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="vsr-tests-")))
            # The process would run the file of the main module, and that of pytest's own workers is no file.
            empty = {"__main__": ModuleType("__main__")}
            cleanup.enter_context(mock.patch.dict(sys.modules, empty))
            arguments = (words, folder, dict(os.environ), self._said, stdin, prepare)
            self._process = _CONTEXT.Process(target=_run, args=arguments)
            self._process.start()
            self._cleanup = cleanup.pop_all()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def code(self) -> int | None:
        """Its exit code, −9 if it was killed; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = 300) -> int | None:
        """Wait so long at most; its exit code, or None if it still runs."""
        self._process.join(seconds)
        return self.code

    def send(self, number: int) -> None:
        """Send a signal to it and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    @property
    def stdout(self) -> str:
        """What it has printed on standard output."""
        return (self._said / "out").read_text()

    @property
    def stderr(self) -> str:
        """What it has said on standard error."""
        return (self._said / "err").read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.code is None:
            self.send(signal.SIGKILL)
        self._process.join()
        self._cleanup.close()


def _run(
    words: tuple[str, ...],
    folder: Path,
    environment: dict[str, str],
    said: Path,
    stdin: Path | None,
    prepare: Callable[[], object] | None,
) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
    if stdin is not None:
        sys.stdin = stdin.open()
    torch.set_num_threads(1)
    sys.argv = list(words)
    if prepare is not None:
        prepare()
    _PROGRAMS[words[0]]()
