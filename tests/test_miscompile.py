"""Known answers that a broken compiler gets wrong.

jaxlib 0.10.2 compiled a vmapped 3×3 matrix–vector product followed by a sum into wrong numbers on x86 CPUs, silently
(jax-ml/jax issue 39103): from 16,385 rows on in float64 and 32,769 in float32. That is the transformation from
fractional to Cartesian coordinates followed by a squared length, the heart of every periodic distance.
"""

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

ROWS = 40_000
USUAL = {"xla_cpu_use_fusion_emitters": True}
"""As users' programs are compiled; the tests' own are not."""


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_squared_lengths_of_fractional_vectors(dtype, tolerance):
    rng = np.random.default_rng(0)
    cell = 4 * np.eye(3) + rng.normal(size=(3, 3))
    fractional = rng.uniform(-0.5, 0.5, size=(ROWS, 3))

    def square(vector, matrix):
        return jnp.sum((matrix @ vector) ** 2)

    with jax.enable_x64(dtype == "float64"):
        rows, matrix = jnp.asarray(fractional, dtype), jnp.asarray(cell.T, dtype)
        with jax.default_matmul_precision("highest"):
            found = np.asarray(jax.jit(jax.vmap(square, in_axes=(0, None)), compiler_options=USUAL)(rows, matrix))
    assert found.dtype == dtype
    expected = np.sum((fractional @ cell) ** 2, axis=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * expected.max())


def test_the_broken_release_is_not_installed():
    assert jaxlib.__version__ != "0.10.2", "this release returns wrong numbers; install another: pip install 'jax!=0.10.2' 'jaxlib!=0.10.2'"
