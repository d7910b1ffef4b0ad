"""A second start finds what the first has compiled."""

import os
import subprocess
import sys

import pytest

from eqpot.core.cache import use_compilation_cache

PROGRAM = """
import sys
from eqpot.core import cache
cache.SECONDS = 0.0
{first}
folder = cache.use_compilation_cache({folder!r})
import jax, jax.numpy as jnp
assert jax.config.jax_compilation_cache_dir == str(folder)
print(float(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.arange(3.0))))
"""


@pytest.mark.parametrize("first", ["assert 'jax' not in sys.modules", "import jax"], ids=["before jax", "after jax"])
def test_programs_are_kept(first, tmp_path):
    """The same answer twice; the second process adds no program."""
    command = [sys.executable, "-c", PROGRAM.format(first=first, folder=str(tmp_path / "xla"))]
    answers, programs = [], []
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"} | {"JAX_PLATFORMS": "cpu"}
    for _ in range(2):
        made = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        answers.append(made.stdout)
        assert first == "import jax" or "cpu_aot_loader" not in made.stderr
        programs.append(sorted(p.name for p in (tmp_path / "xla").glob("*-cache")))
    assert answers[0] == answers[1] != ""
    assert programs[0] == programs[1] != []


def test_where_programs_are_kept(monkeypatch, tmp_path):
    import jax

    before = jax.config.jax_compilation_cache_dir
    try:
        monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert use_compilation_cache() == tmp_path / "eqpot" / "xla"
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "mine"))
        assert use_compilation_cache() == tmp_path / "mine"
        assert use_compilation_cache(tmp_path / "other") == tmp_path / "other"
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
