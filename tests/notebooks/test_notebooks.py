"""Every notebook runs, in its short form, and makes its pictures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(notebook, tmp_path):
    environment = {**os.environ, "EQPOT_SMOKE": "1", "EQPOT_NOTEBOOK_OUT": str(tmp_path), "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, notebook], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "the same energy: True" in done.stdout and len(list(tmp_path.glob("*.png"))) == 3
