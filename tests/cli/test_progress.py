"""What the commands say while somebody waits."""

from __future__ import annotations

import io
import sys
import threading

import pytest
from rich.console import Console

from vsr_plugin.cli import progress, terminal
from vsr_plugin.stream import Progress
from vsr_plugin.stream.written import Written


class Noticed(io.StringIO):
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


def _show_on(monkeypatch: pytest.MonkeyPatch, console: Console) -> None:
    monkeypatch.setattr(terminal, "console", lambda: console)


def test_what_takes_long_is_one_line_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.01)
    _show_on(monkeypatch, Console(file=(log := Noticed()), soft_wrap=True))
    with progress.waiting("loading [espcn]") as wait:
        log.wait_for("espcn")
        wait.say("compiling")
        log.wait_for("compiling …\n")
        wait.update("step 3")
    assert log.getvalue() == "loading [espcn] …\ncompiling …\n"


@pytest.mark.parametrize("quiet", [True, False])
def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    monkeypatch.setattr(progress, "_PATIENCE", 0.01 if quiet else 60.0)
    _show_on(monkeypatch, Console(file=(log := Noticed())))
    with progress.waiting("loading", quiet=quiet):
        threading.Event().wait(0.1)
    assert log.getvalue() == ""


def test_a_terminal_shows_at_once_what_is_going_on(monkeypatch: pytest.MonkeyPatch) -> None:
    _show_on(monkeypatch, _screen(log := Noticed()))
    with progress.waiting("loading [espcn]") as wait:
        log.wait_for("loading [espcn]")
        wait.say("compiling")
        log.wait_for("compiling")
        wait.update("step 3")
        log.wait_for("step 3")
    assert log.getvalue().endswith("\x1b[1A\x1b[2K")  # nothing of it is left


def test_loading_torch_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    _show_on(monkeypatch, _screen(file))
    loaded: list[str] = []
    monkeypatch.setattr(progress, "import_module", lambda name: loaded.append(name))
    progress.load_torch()
    assert (loaded, file.getvalue()) == ([], "")
    monkeypatch.delitem(sys.modules, "torch")
    progress.load_torch()
    assert loaded == ["torch"]
    assert "loading torch" in file.getvalue()


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        # seconds, frames of 144,000, fps, packets of 10 kB
        (
            [(0, 1, 0, 0), (12, 300, 20.0, 260)],
            "a.mkv: about 2 h 0 min at 20.0 fps; about 1.4 GB of video, if",
        ),
        ([(0, 1, 0, 0), (5, 99, 20.0, 60)], "a.mkv: about 2 h 0 min at 20.0 fps; about 1.4 GB of video, if"),
        ([(0, 1, 0, 0), (5, 30, 2.0, 0), (13, 60, 2.0, 9)], "a.mkv: about 20 h 0 min at 2.0 fps\n"),
        ([(0, 1, 0, 0), (3, 3000, 1e3, 3000)], ""),  # not yet
        ([(0, 1, 0, 0), (12, 120_000, 1e4, 120_000)], ""),  # not long
    ],
)
def test_what_takes_long_is_estimated_once(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[float, int, float, int]], line: str
) -> None:
    _show_on(monkeypatch, Console(file=(log := io.StringIO()), soft_wrap=True))
    passed = [0.0]
    estimate = progress._Estimate("a.mkv", lambda: 100.0 + passed[0])
    for seconds, frames, fps, packets in [*steps, steps[-1]]:
        passed[0] = seconds
        estimate.show(Progress(Written(frames, size=10_000 * packets, encoded=packets), 144_000, fps=fps))
    assert log.getvalue().startswith(line)
    assert log.getvalue().count("\n") == bool(line)


@pytest.mark.parametrize(
    "name", ["short.mkv", "2 of 3: " + "a long name " * 9 + "part 2.mp4", "電影" * 40 + ".mkv", "[b]" * 20]
)
def test_a_long_name_leaves_room_for_the_bar(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _show_on(monkeypatch, _screen(log := Noticed()))
    with progress.progress(name, "loading", quiet=False) as show:
        show(Progress(Written(81_234, size=10**9, encoded=81_234), 172_800, fps=11.5))
        log.wait_for("81234/172800")
    line = next(line for line in log.getvalue().splitlines() if "81234/172800" in line)
    assert name[:5] in line
    assert name[-4:] in line
    assert "━━━" in line
    assert "11.5 fps" in line
    assert "1.0/~2.1 GB" in line
