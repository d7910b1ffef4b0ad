"""Every notebook runs, in its short form and from any folder, makes the pictures it promises, and is in the list."""

import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
LIMIT_S = 600


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_in_percent_format_and_listed(notebook):
    assert notebook.read_text(encoding="utf-8").startswith("# %% [markdown]\n# # ")
    assert f"`{notebook.name}`" in (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(notebook, tmp_path):
    pictures = tmp_path / "pictures"
    settings = {"EQPOT_SMOKE": "1", "EQPOT_NOTEBOOK_OUT": str(pictures), "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, str(notebook)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **settings}, capture_output=True, encoding="utf-8", timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert "nan" not in done.stdout.lower()
    promised = set(re.findall(r'^finish\(figure, "(\w+)"\)', notebook.read_text(encoding="utf-8"), re.MULTILINE))
    assert promised and {p.stem for p in pictures.glob("*.png")} == promised
    for name in promised:
        pixels = matplotlib.image.imread(pictures / f"{name}.png")
        assert pixels[..., :3].std() > 0.05, f"{name}.png is blank"
