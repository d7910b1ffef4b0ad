"""What the README shows works as shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_python_example_of_the_readme(tmp_path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL))
    assert "eqpot.fit" in code and "simulate" in code
    (tmp_path / "train").symlink_to(ROOT / "train")
    code = code.replace('"epochs": 20', '"epochs": 2')  # shorter, otherwise as printed
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "±" in result.stdout and "largest σ" in result.stdout and (tmp_path / "ethanol.safetensors").exists()


@pytest.mark.parametrize("recipe", sorted((ROOT / "train" / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_recipes_are_valid_configurations(recipe):
    from eqpot.active import ActiveConfig
    from eqpot.core.config import build, load_yaml
    from eqpot.training import FitConfig

    kind = ActiveConfig if recipe.stem.startswith("active") else FitConfig
    assert build(kind, load_yaml(recipe)).name == recipe.stem
