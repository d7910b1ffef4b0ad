"""The compiled passes of a prediction, and which structures share one."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from eqpot.graph import Graph, Host
from eqpot.potential.derivatives import Prediction, predict_members
from eqpot.potential.spec import ModelSpec, Params
from eqpot.potential.trust import Judge, Judgement, pass_judgement

ATOMS_PER_BATCH = 256
"""Structures are predicted together until a batch holds this many atoms."""


def grouped(hosts: Sequence[Host]) -> list[list[int]]:
    """Indices grouped by size, each group with at most `ATOMS_PER_BATCH` atoms or one structure."""
    batches: list[list[int]] = []
    atoms = 0
    for k in sorted(range(len(hosts)), key=lambda k: (len(hosts[k]), k)):
        if not batches or atoms + len(hosts[k]) > ATOMS_PER_BATCH:
            batches.append([])
            atoms = 0
        batches[-1].append(k)
        atoms += len(hosts[k])
    return batches


@partial(jax.jit, static_argnames=("spec", "stress"))
def judged_prediction(spec: ModelSpec, params: Params, judge: Judge, graph: Graph, stress: bool) -> tuple[Prediction, Judgement]:
    """The prediction of all members, without descriptors, and what is to be thought of it."""
    prediction = predict_members(spec, params, graph, stress)
    judgement = pass_judgement(judge, spec, params, graph, prediction.features)
    return dataclasses.replace(prediction, features=prediction.features[..., :0]), judgement


@partial(jax.jit, static_argnames="spec")
def features_of(spec: ModelSpec, params: Params, graph: Graph) -> Any:
    """The descriptors of one member."""
    return spec.evaluate(params, graph, spec.describe(graph)).features
