"""The public surface is a list, and it stays cheap to import."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import vsr_plugin


def test_the_list_is_what_the_docstring_documents() -> None:
    rows = re.findall(r"^\| (`.*?) \|", vsr_plugin.__doc__ or "", re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(documented) == sorted(vsr_plugin.__all__)
    assert dir(vsr_plugin) == sorted(vsr_plugin.__all__)


@pytest.mark.parametrize("name", vsr_plugin.__all__)
def test_a_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(vsr_plugin, name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        assert thing.__module__.startswith("vsr_plugin.")
        assert inspect.getdoc(thing)


@pytest.mark.parametrize("name", [name for name in vsr_plugin.__all__ if inspect.isclass(getattr(vsr_plugin, name))])
def test_every_public_method_is_documented(name: str) -> None:
    cls = getattr(vsr_plugin, name)
    methods = {key: member for key, member in vars(cls).items() if not key.startswith("_") and callable(member)}
    assert [key for key in methods if not inspect.getdoc(getattr(cls, key))] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'upscale_flie'"):
        _ = vsr_plugin.upscale_flie


def test_star_import_brings_what_the_list_says() -> None:
    space: dict[str, object] = {}
    exec("from vsr_plugin import *", space)
    assert space.keys() - {"__builtins__"} == set(vsr_plugin.__all__)


HEAVY = {"torch", "numpy", "av", "openvino", "cv2", "safetensors"}


@pytest.mark.parametrize(
    "code",
    [
        "import vsr_plugin",
        "import vsr_plugin; vsr_plugin.MODELS, vsr_plugin.VsrError",
        "import vsr_plugin.cli",
        "from vsr_plugin.cli import main; run(main, '--help')",
        "from vsr_plugin.cli import main; run(main, 'encode', '--help')",
        "from vsr_plugin.cli import main; run(main, 'bench', '--help')",
        "from vsr_plugin.cli import main_encode; run(main_encode, '--help')",
    ],
)
def test_nothing_heavy_is_imported_before_work_starts(code: str) -> None:
    program = f"""
import sys
def run(main, *words):
    sys.argv = ["vsr", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
{code}
print(*({HEAVY!r} & sys.modules.keys()), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == ""
