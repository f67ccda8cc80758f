"""What the commands say while somebody waits."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from vsr_plugin.cli import terminal


class Written(io.StringIO):
    """Notices what is written."""

    def __init__(self) -> None:
        super().__init__()
        self._noticed = threading.Condition()

    def write(self, text: str) -> int:
        with self._noticed:
            done = super().write(text)
            self._noticed.notify_all()
        return done

    def wait_for(self, text: str) -> None:
        """Until this is written."""
        with self._noticed:
            assert self._noticed.wait_for(lambda: text in self.getvalue(), 20)


def _screen(file: io.StringIO) -> Console:
    return Console(file=file, force_terminal=True, width=80, _environ={"TERM": "xterm"})


def test_what_takes_long_is_one_line_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.01)
    monkeypatch.setattr(terminal, "console", Console(file=(log := Written()), soft_wrap=True))
    with terminal.waiting("loading [espcn]") as say:
        log.wait_for("espcn")
        say("compiling")
        log.wait_for("compiling …\n")
    assert log.getvalue() == "loading [espcn] …\ncompiling …\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.01 if quiet else 60.0)
    monkeypatch.setattr(terminal, "console", Console(file=(log := Written())))
    with terminal.waiting("loading", quiet=quiet):
        threading.Event().wait(0.1)
    assert log.getvalue() == ""


def test_a_terminal_shows_at_once_what_is_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "console", _screen(log := Written()))
    with terminal.waiting("loading [espcn]") as say:
        log.wait_for("loading [espcn]")
        say("compiling")
        log.wait_for("compiling")
    assert log.getvalue().endswith("\x1b[1A\x1b[2K")  # nothing of it is left
