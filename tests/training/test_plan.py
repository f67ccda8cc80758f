"""From one command to its runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vsr_plugin.errors import UsageError
from vsr_plugin.training.plan import SHIPPED, plan_runs
from vsr_plugin.training.settings import Settings

COMMON = Settings("", (), (Path("images"),), Path("runs"))


def test_each_scale_is_a_run_and_starts_from_the_first() -> None:
    runs = plan_runs(["edsr-baseline"], [], COMMON, named=True)
    assert [(run.model, run.scales, run.out.name) for run in runs] == [
        ("edsr-baseline", (2,), "edsr-baseline_x2"),
        ("edsr-baseline", (3,), "edsr-baseline_x3"),
        ("edsr-baseline", (4,), "edsr-baseline_x4"),
    ]
    assert [run.start for run in runs] == [None, runs[0].best, runs[0].best]


def test_weights_that_serve_all_scales_are_one_run() -> None:
    (run,) = plan_runs(["vdsr"], [], COMMON, named=True)
    assert (run.scales, run.out) == ((2, 3, 4), Path("runs/vdsr"))
    assert plan_runs(["vdsr"], [2, 4], COMMON, named=True)[0].scales == (2, 4)


def test_minutes_are_shared_out() -> None:
    runs = plan_runs(["vdsr", "lapsrn"], [4], replace(COMMON, minutes=60.0), named=False)
    assert [(run.model, run.minutes, run.out) for run in runs] == [
        ("vdsr", 30.0, Path("runs/vdsr")),
        ("lapsrn", 30.0, Path("runs/lapsrn_x4")),
    ]


def test_a_single_run_lies_where_it_is_wanted() -> None:
    assert plan_runs(["espcn"], [3], COMMON, named=False)[0].out == Path("runs")
    assert plan_runs(["espcn"], [3], COMMON, named=True)[0].out == Path("runs/espcn_x3")


def test_runs_start_from_what_is_shipped() -> None:
    runs = plan_runs(["espcn"], [2, 3], replace(COMMON, start=SHIPPED), named=True)
    assert [run.start and run.start.name for run in runs] == ["espcn_x2.safetensors", "espcn_x3.safetensors"]
    assert all(run.start and run.start.is_file() for run in runs)
    with pytest.raises(UsageError, match="Expected shipped weights of edsr ×2 to start from"):
        plan_runs(["edsr"], [], replace(COMMON, start=SHIPPED), named=True)


def test_the_papers_recipes_of_the_first_networks_start_anew() -> None:
    runs = plan_runs(["espcn"], [2, 3], replace(COMMON, recipe="paper"), named=True)
    assert [run.start for run in runs] == [None, None]


def test_what_cannot_be_trained_is_known_before_anything_is() -> None:
    with pytest.raises(UsageError, match="Unknown model 'espnc'"):
        plan_runs(["espcn", "espnc"], [], COMMON, named=True)
    with pytest.raises(UsageError, match="'lapsrn' has no scale 3"):
        plan_runs(["espcn", "lapsrn"], [3], COMMON, named=True)


def test_srgan_follows_its_srresnet() -> None:
    runs = plan_runs(["srgan"], [4], COMMON, named=True)
    assert [run.out.name for run in runs] == ["srresnet_x4", "srgan_x4"]
    assert runs[1].start == runs[0].best
    start = Path("mine.safetensors")
    (run,) = plan_runs(["srgan"], [4], replace(COMMON, start=start), named=True)
    assert run.start == start


def test_no_run_is_planned_twice() -> None:
    assert len(plan_runs(["espcn", "espcn"], [3, 3], COMMON, named=True)) == 1
