"""Levels of theory by name, and the potential of one of them alone."""

import dataclasses

from eqpot.core.errors import EqpotError, did_you_mean
from eqpot.models import take_head
from eqpot.potential.spec import ModelSpec, Params


def head_index(heads: tuple[str, ...], name: str | None) -> int:
    """Index of a head; None and the empty name mean the first.

    Raises:
        EqpotError: when there is none of that name.
    """
    if not name:
        return 0
    if name not in heads:
        hint = did_you_mean(name, heads) if heads else "but this potential knows one level of theory only; leave the head out"
        raise EqpotError(f"head: found '{name}', {hint}")
    return heads.index(name)


def only_head(spec: ModelSpec, params: Params, references: tuple[float, ...], name: str) -> tuple[ModelSpec, Params, tuple[float, ...]]:
    """Specification, parameters and reference energies of one head; those of the others are left out.

    Raises:
        EqpotError: when there is none of that name.
    """
    index, n, norm = head_index(spec.config.heads, name), len(spec.elements), spec.normalization
    rows = slice(index * n, (index + 1) * n)  # head-major; no shift at all stays none
    single = dataclasses.replace(
        spec, config=spec.config.changed(heads=()), normalization=dataclasses.replace(norm, shift=norm.shift[rows])
    )
    return single, take_head(params, index, spec.config.n_heads), references[rows]
