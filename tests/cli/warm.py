"""Commands in processes of their own that have loaded torch already, so that they start in no time."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Self
from unittest import mock

import torch

from vsr_plugin.cli import main, main_encode

_STREAMS = ("stdin", "stdout", "stderr")
_PROGRAMS = {"vsr": main, "vsr-encode": main_encode}
CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(
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
        streams: By number, the files that are its standard streams; None closes one. By default standard input is
            that of the tests, and `stdout` and `stderr` tell what is written to the others.
        prepare: Called there before the command.
    """

    def __init__(
        self,
        *words: str,
        folder: Path,
        streams: Mapping[int, Path | None] = MappingProxyType({}),
        prepare: Callable[[], object] | None = None,
    ) -> None:
        with ExitStack() as cleanup:
            self._said = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="vsr-tests-")))
            # The process would run the file of the main module, and that of pytest's own workers is no file.
            empty = {"__main__": ModuleType("__main__")}
            cleanup.enter_context(mock.patch.dict(sys.modules, empty))
            arguments = (words, folder, dict(os.environ), self._said, dict(streams), prepare)
            self._process = CONTEXT.Process(target=_run, args=arguments)
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
        return self.output.decode()

    @property
    def output(self) -> bytes:
        """The same, if it is no text."""
        return (self._said / "out").read_bytes()

    @property
    def stderr(self) -> str:
        """What it has said on standard error."""
        said = self._said / "err"
        return said.read_text() if said.exists() else ""  # it may not have started yet

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
    streams: dict[int, Path | None],
    prepare: Callable[[], object] | None,
) -> None:
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in {1: said / "out", 2: said / "err", **streams}.items():
        if file is None:
            os.close(number)
            setattr(sys, _STREAMS[number], None)  # as Python does when it starts
            continue
        opened = os.open(file, os.O_NOCTTY | (os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT))
        os.dup2(opened, number)
        os.close(opened)
        if number == 0:
            sys.stdin = open(0, closefd=False)  # noqa: SIM115 - multiprocessing has closed what was there
    torch.set_num_threads(1)
    sys.argv = list(words)
    if prepare is not None:
        prepare()
    _PROGRAMS[words[0]]()
