"""stdout is the video's: who is kept off it, and who is not."""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import redirect_stdout

import pytest

from tests import PATIENCE
from vsr_plugin.vapoursynth.quiet import quiet_descriptor, quiet_python


class Inside:
    """A thread that prints, keeping quiet, and stays inside until it is let go."""

    def __init__(self) -> None:
        self._printed, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        with quiet_python():
            print("from inside")
            self._printed.set()
            assert self._go.wait(PATIENCE)

    def start(self) -> None:
        self._thread.start()
        assert self._printed.wait(PATIENCE)

    def leave(self) -> None:
        self._go.set()
        self._thread.join(20)


def test_only_the_thread_that_keeps_quiet_prints_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    before, inside = sys.stdout, Inside()
    inside.start()
    print("from outside")
    inside.leave()
    assert sys.stdout is before
    assert capsys.readouterr() == ("from outside\n", "from inside\n")


def test_a_redirection_that_begins_before_and_ends_within_is_undone() -> None:
    before, inside, text = sys.stdout, Inside(), io.StringIO()
    with redirect_stdout(text):
        inside.start()
        print("mine")
    inside.leave()
    assert sys.stdout is before
    assert text.getvalue() == "mine\n"


def test_a_redirection_that_begins_within_is_undone(capsys: pytest.CaptureFixture[str]) -> None:
    inside, text = Inside(), io.StringIO()
    inside.start()
    with redirect_stdout(text):
        inside.leave()
        print("mine")
    print("after")
    with quiet_python():
        print("quiet")
    assert text.getvalue() == "mine\n"
    said = capsys.readouterr()
    assert said.out == "after\n"
    assert said.err == "from inside\nquiet\n"


def test_two_scripts_that_load_at_once_give_the_descriptor_back(capfd: pytest.CaptureFixture[str]) -> None:
    first, second = quiet_descriptor(), quiet_descriptor()
    first.__enter__()
    second.__enter__()
    os.write(1, b"both\n")
    first.__exit__(None, None, None)
    os.write(1, b"one\n")
    second.__exit__(None, None, None)
    os.write(1, b"none\n")
    assert capfd.readouterr() == ("none\n", "both\none\n")
