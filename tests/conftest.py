"""What several tests need."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# Without a GPU, Triton's kernels are interpreted; that is decided when triton is imported, so nobody may have done so.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Ray reads this when it is imported, which some tests do before `Cluster` has set it.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

# The tensors of tests are small: on shared cores, threads would wait for each other longer than they work, here and in
# the processes that tests start.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# Graphs of networks are kept between starts. Each worker of pytest has a folder of its own, empty at first.
CACHE = os.environ["VSR_CACHE_DIR"] = tempfile.mkdtemp(prefix="vsr-cache-")

# Whoever is started in the background is deaf to Ctrl-C, and so are all whom it starts: some tests need ears.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of pictures, clips and reference weights beside the checkout."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no {path.name} folder beside the checkout: {path}")
    return path


@pytest.fixture(autouse=True)
def logs_and_signals_as_before() -> Iterator[None]:
    """What a command of one test sets up to speak and listen with, no other test hears."""
    handlers_before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    loggers = [logging.getLogger(name) for name in ("vsr_plugin", "libav")]
    before = [(logger, logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    for number, handler in handlers_before.items():
        signal.signal(number, handler)
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers


@pytest.fixture
def in_time() -> Iterator[None]:
    """A job that hangs fails, after minutes."""

    def stop(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(600)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
