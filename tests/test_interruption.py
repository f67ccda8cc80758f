"""Ctrl-C at the worst moment: it is not lost, and leaves no lock behind."""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from vsr_plugin.interruption import interrupt, interrupting

SEND = partial(signal.raise_signal, signal.SIGINT)  # called from C: the frame that is interrupted is its caller's


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, interrupt)
    yield
    signal.signal(signal.SIGINT, before)


def wait() -> None:
    """Sleep where only a real signal ends it."""
    began = time.monotonic()
    try:
        time.sleep(30)
    except KeyboardInterrupt:
        assert time.monotonic() - began < 25, "it came when the sleep was over"
        raise
    pytest.fail("the signal was lost")


def test_a_lock_that_was_just_taken_is_given_back() -> None:
    """Else every other thread would wait for it for ever, and the program for them."""
    lock = threading.Lock()
    condition = threading.Condition(lock)
    lock.acquire()
    condition._lock = SimpleNamespace(__enter__=SEND, __exit__=lambda *_: lock.release())  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt), condition:
        wait()
    assert not lock.locked()


def test_a_lock_that_is_about_to_be_given_back_is() -> None:
    condition = threading.Condition()
    condition._lock = SimpleNamespace(__exit__=signal.raise_signal)  # type: ignore[attr-defined]
    given_back = []

    def leave() -> None:
        condition.__exit__(signal.SIGINT)  # type: ignore[call-arg, arg-type]
        given_back.append(True)
        wait()

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert given_back


def test_what_waits_for_a_condition_is_interrupted_at_once() -> None:
    """It may never come true."""

    def wait_for(condition: threading.Condition) -> None:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        condition.wait(20)
        pytest.fail("the signal was lost")

    condition = threading.Condition()
    with pytest.raises(KeyboardInterrupt), condition:
        wait_for(condition)
    assert condition.acquire(blocking=False)


class Freed:
    def __del__(self) -> None:
        SEND()


class Kept:
    pass


@pytest.mark.parametrize("how", ["__del__", "finalize"])
def test_it_is_not_lost_where_python_drops_what_is_raised(how: str) -> None:
    def free() -> None:
        there: Any = Freed() if how == "__del__" else Kept()
        if how == "finalize":
            weakref.finalize(there, SEND)
        del there
        wait()

    with pytest.raises(KeyboardInterrupt):
        free()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("handler", [interrupt, signal.default_int_handler])
def test_what_must_not_be_left_at_any_line_is_asked_to_stop(name: str, handler: Any) -> None:
    number = getattr(signal, name)
    before = signal.signal(number, handler)
    asked = []
    try:
        with interrupting(lambda: asked.append(1)):
            signal.raise_signal(number)
            signal.raise_signal(number)
        assert asked == [1, 1]
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda *_: None])
def test_signals_that_are_ignored_or_anothers_stay_so(handler: Any) -> None:
    signal.signal(signal.SIGINT, handler)
    with interrupting(lambda: pytest.fail("nobody asked for it")):
        assert signal.getsignal(signal.SIGINT) is handler
        signal.raise_signal(signal.SIGINT)
