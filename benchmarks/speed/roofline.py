"""What the device can do: its fastest product of matrices, and how fast it passes over memory.

A stage of F operations that must move B bytes can take no less than max(F / peak, B / bandwidth).
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.speed.clocks import seconds_of


@dataclass(frozen=True)
class Roof:
    """Limits of the device, best of several runs."""

    gemm_gflops: float
    bandwidth_gb_s: float

    def fraction(self, flops: float, bytes_moved: float, seconds: float) -> float:
        """Least possible time over time."""
        return max(flops / self.gemm_gflops, bytes_moved / self.bandwidth_gb_s) / 1e9 / seconds

    def __add__(self, other: "Roof") -> "Roof":
        """The better of two measurements."""
        return Roof(**{name: max(value, asdict(other)[name]) for name, value in asdict(self).items()})


def measured(quick: bool) -> Roof:
    """Measure: a product of square float32 matrices, and adding one to an array in place (each byte is read and written)."""
    cpu = jax.default_backend() == "cpu"
    size, megabytes = (512, 32) if quick else (2048, 256) if cpu else (8192, 4096)
    matrix = jnp.ones((size, size), jnp.float32)

    @jax.jit
    def product(x: Any) -> Any:
        return jnp.matmul(x, x, precision=jax.lax.Precision.HIGHEST)

    @partial(jax.jit, donate_argnums=0)
    def touch(x: Any) -> Any:
        return x + 1

    held = [jnp.ones(megabytes * 10**6 // 4, jnp.float32)]

    def sweep() -> Any:
        held[0] = touch(held[0])
        return held[0]

    seconds_of(lambda: product(matrix)), seconds_of(sweep)
    fastest = [min(seconds_of(call) for _ in range(3 if quick else 8)) for call in (lambda: product(matrix), sweep)]
    return Roof(2 * size**3 / fastest[0] / 1e9, 2 * held[0].nbytes / fastest[1] / 1e9)
