"""``vsr models`` and ``vsr models convert``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from vsr_plugin.cli.models import models
from vsr_plugin.errors import OutputError, UsageError, WeightsError
from vsr_plugin.models import MODELS, build_model, load_model, manifest
from vsr_plugin.models.listing import models_markdown


def app() -> typer.Typer:
    app = typer.Typer()
    app.add_typer(models)
    app.command("other")(lambda: None)
    return app


def listed(*words: str) -> list[str]:
    """Lines of the table without its header."""
    return CliRunner().invoke(app(), ["models", *words], catch_exceptions=False).stdout.splitlines()[1:]


def test_json_lists_every_model_and_scale_with_what_was_measured() -> None:
    rows = json.loads(CliRunner().invoke(app(), ["models", "--json"], catch_exceptions=False).stdout)
    every = {(spec.name, scale) for spec in MODELS.values() for scale in spec.scales}
    assert {(row["model"], row["scale"]) for row in rows} == every
    assert len(rows) == len(every)
    for row in rows:
        shipped = manifest().get(f"{row['model']}_x{row['scale']}")
        assert row["set5"] == (shipped and shipped["set5"])
        assert (row["weights"] is None) == (row["quality"] is None) == (shipped is None)
    by_key = {(row["model"], row["scale"]): row for row in rows}
    assert by_key["espcn", 3]["parameters"] == 22_729
    assert by_key["espcn", 3]["speed"] == "real time at 720p"
    assert by_key["edsr-baseline", 3]["quality"] == "best"


def test_a_model_without_weights_that_is_asked_for_is_named() -> None:
    result = CliRunner().invoke(app(), ["models", "drcn"], catch_exceptions=False)
    assert result.stderr == "--all lists 3 more without weights: drcn ×2, drcn ×3, drcn ×4.\n"


def test_the_table_has_what_can_be_used_and_with_all_the_rest_behind_it() -> None:
    usable, every = listed(), listed("--all")
    assert len(usable) == sum("tuned_for" not in row for row in manifest().values())
    assert [line.split()[:2] for line in every[: len(usable)]] == [line.split()[:2] for line in usable]
    assert len(every) == sum(len(spec.scales) for spec in MODELS.values())
    assert all("no weights" in line for line in every[len(usable) :])
    assert max(map(len, every)) <= 80


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("fsrcnn", "-x", "2"), [["fsrcnn-s", "×2"], ["fsrcnn", "×2"]]),
        (("-x", "8"), [["lapsrn", "×8"]]),
        (("-x", "3", "EDSR"), [["edsr-baseline", "×3"]]),
        (("srresnet", "espcn", "-x", "2"), [["espcn*", "×2"], ["srresnet", "×2"]]),
        (("vdsr",), [["vdsr", "×2"], ["vdsr", "×3"], ["vdsr", "×4"]]),
        (("drcn",), []),
    ],
)
def test_scale_and_names_choose_rows(words: tuple[str, ...], expected: list[list[str]]) -> None:
    assert [line.split()[:2] for line in listed(*words)] == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("espnc",), "Did you mean 'espcn'"),
        (("espcn", "-x", "8"), r"Expected a scale that espcn has \(2, 3, 4\), got 8"),
    ],
)
def test_what_is_not_there_is_said(words: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(app(), ["models", *words])
    assert isinstance(result.exception, UsageError)
    assert re.search(message, str(result.exception))


def test_the_list_needs_no_torch() -> None:
    code = (
        "import sys; from vsr_plugin.cli import main; sys.argv = ['vsr', 'models', '--all']\n"
        "try: main()\nexcept SystemExit: pass\nassert not {'torch', 'numpy', 'av'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "espcn" in done.stdout


def test_markdown_is_what_the_readme_shows() -> None:
    out = CliRunner().invoke(app(), ["models", "--markdown"], catch_exceptions=False).stdout
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert out in readme
    for name, spec in MODELS.items():
        missing = [scale for scale in spec.scales if spec.weights(scale) is None]
        assert (f"`vsr train {name} " in out) == bool(missing)


def test_markdown_says_what_is_below_its_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"fsrcnn_x2": 37.13, "fsrcnn_x3": 33.104, "espcn_x2": 36.9, "espcn_x3": 33.13}
    rows = {key: {"set5": {"psnr": psnr}} for key, psnr in figures.items()}
    monkeypatch.setattr("vsr_plugin.models.listing.manifest", lambda: rows)
    text = models_markdown()
    espcn, fsrcnn = "Shi, CVPR 2016", "Dong, ECCV 2016 (56, 12, 4)"
    assert f"| `fsrcnn` | {fsrcnn} | 37.13 (37.00, +0.13) | 33.10 (33.16, −0.06) |" in text
    assert f"| `espcn` | {espcn} | 36.90 | 33.13 (33.13, ±0.00) |" in text
    assert "Below their papers on Set5: `fsrcnn` ×3. `vsr train MODEL -x SCALE --from shipped" in text
    assert f"| `espcn` | {espcn} | ×4 30.90 | `vsr train espcn -x 4 --data FOLDER` |" in text


def test_markdown_has_set14_and_what_was_trained_on_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"set5": {"psnr": 36.9}, "set14": {"psnr": 32.57}}
    seen = [{"command": "vsr train", "steps": 1, "seen": ["Set5's `woman`"]}, {"command": "vsr train", "steps": 2}]
    rows = {
        "espcn_x2": row | {"training": seen},
        "espcn_x3": {"set5": {"psnr": 33.0}},
        "fsrcnn_x2": row,
        "srcnn_x2": {},
    }
    monkeypatch.setattr("vsr_plugin.models.listing.manifest", lambda: rows)
    set5, set14, *rest = models_markdown().split("\n\n")
    assert "| – | no weights yet |" in next(line for line in set5.splitlines() if "`srcnn`" in line)  # not measured
    assert set14.startswith("| Set14 | paper | ×2 | ×3 |")
    assert "| `espcn` | Shi, CVPR 2016 | 32.57 | – |" in set14
    assert "Set5's `woman` was among the training images of `espcn`." in rest


def test_convert_makes_weights_that_load(tmp_path: Path) -> None:
    own = build_model(MODELS["espcn"], 3).state_dict()
    filters = {f"f{i}": own[f"conv{i}.weight"].permute(2, 3, 1, 0).numpy() for i in (1, 2, 3)}
    biases = {f"b{i}": own[f"conv{i}.bias"].numpy() for i in (1, 2, 3)}
    np.savez(tmp_path / "theirs.npz", **filters, **biases)
    source, target = str(tmp_path / "theirs.npz"), tmp_path / "ours.safetensors"
    words = ["models", "convert", source, str(target), "--model", "espcn", "-x", "3"]
    result = CliRunner().invoke(app(), words, catch_exceptions=False)
    assert result.stdout == f"{target}\n"
    assert result.stderr.startswith("These weights were trained on full-range luma")
    loaded = load_model("espcn", 3, target).state_dict()
    assert all(torch.equal(loaded[name], own[name]) for name in own)
    (tmp_path / "other").touch()
    assert target.stat().st_mode == (tmp_path / "other").stat().st_mode  # as the umask has it
    again = CliRunner().invoke(app(), words)
    assert isinstance(again.exception, OutputError)
    assert "exists: use overwrite=True" in str(again.exception)
    CliRunner().invoke(app(), [*words, "-y"], catch_exceptions=False)
    elsewhere = CliRunner().invoke(app(), [*words[:3], str(tmp_path / "ours.pth"), *words[4:]])
    assert isinstance(elsewhere.exception, UsageError)
    wrong = CliRunner().invoke(app(), [*words[:-1], "2", "-y"])
    assert isinstance(wrong.exception, WeightsError)


def test_names_lists_what_an_npz_must_hold() -> None:
    lines = CliRunner().invoke(app(), ["models", "names", "vdsr"], catch_exceptions=False).stdout.splitlines()
    assert lines[:2] == ["layers.0.weight  (64, 1, 3, 3)", "layers.0.bias  (64,)"]
    out = CliRunner().invoke(app(), ["models", "names", "srresnet", "-x", "4"], catch_exceptions=False).stdout
    assert "tail.weight  (3, 64, 9, 9)\n" in out
    assert "num_batches_tracked" not in out


def test_convert_takes_options_of_the_network(tmp_path: Path) -> None:
    source, target = str(tmp_path / "a.pth"), tmp_path / "b.safetensors"
    torch.save(build_model(MODELS["fsrcnn"], 2).state_dict(), source)
    words = ["models", "convert", source, str(target), "--model", "fsrcnn", "-x", "2"]
    CliRunner().invoke(app(), [*words, "--option", "edges=repeat"], catch_exceptions=False)
    assert load_model("fsrcnn", 2, target).features[0].padding_mode == "replicate"  # type: ignore[index, union-attr]
    for option, error in (("edges", UsageError), ("edges=3", WeightsError), ("size=3", WeightsError)):
        assert isinstance(CliRunner().invoke(app(), [*words, "-y", "--option", option]).exception, error)
