"""Where the time of an energy and force call goes: each stage of the model as a program of its own, on the inputs that it has inside.

    geometry      spherical harmonics and radial basis of the edges
    convolution   radial network, and the sum over neighbours
    product       from the sum to an atom's new features
    rest          embedding, linear layers, self-connections, readouts, sum

Every stage is timed forward, and forward with the pullback to its inputs, as for forces. The whole call is timed beside them; the sum of the stages
need not equal it, and the difference is reported. On a CPU all of it, the limits of the device included, is that of one core.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.speed.cases import host_of, spec_of
from benchmarks.speed.clocks import in_fresh_process, seconds_of, take_turns
from benchmarks.speed.roofline import Roof, measured
from benchmarks.speed.structures import structure
from eqpot.graph import Graph, collate
from eqpot.graph.batching import capacity_of
from eqpot.models import build_model
from eqpot.nn import Edges, choose_backend, convolve, update
from eqpot.potential import ModelSpec, predict

SHOWN = ("exact", "fast")
STAGES = ("geometry", "convolution", "product", "rest")
SECONDS = 8.0
"""For the timing of a model's stages."""

Stage = tuple[Callable[..., Any], Any, Any]
"""(function of fixed and differentiated arguments, the former, the latter)."""


def stages(spec: ModelSpec, graph: Graph) -> dict[str, Stage]:
    """The functions of a model's stages, with their inputs in this graph."""
    model = build_model(spec.config, spec.elements, spec.normalization, 0, spec.backend)
    definition, parameters = nnx.split(model)
    geometry = jax.jit(lambda p, g: nnx.merge(definition, p).describe(g))(parameters, graph)
    states = jax.jit(partial(_inside, definition))(parameters, graph, geometry)
    expected = jax.jit(lambda p, g, x: nnx.merge(definition, p)(g, x))(parameters, graph, geometry).energy

    def describe(fixed: Any, positions: Any) -> Any:
        parameters, graph = fixed
        return nnx.merge(definition, parameters).describe(graph.replace(positions=positions))

    def convolution(fixed: Any, inputs: Any) -> Any:
        (parameters, graph), (geometry, features) = fixed, inputs
        edges = Edges(graph.neighbors, graph.receivers, geometry.harmonics, geometry.radial_basis)
        layers = nnx.merge(definition, parameters).layers
        return [convolve(layer.convolution, x, edges, layer.backend) for layer, x in zip(layers, features, strict=True)]

    def product(fixed: Any, inputs: Any) -> Any:
        parameters, graph = fixed
        layers = nnx.merge(definition, parameters).layers
        return [update(layer.update, *x, graph.species, layer.backend) for layer, x in zip(layers, inputs, strict=True)]

    def rest(fixed: Any, inputs: Any) -> Any:
        (parameters, graph), (bound, features) = fixed, inputs
        return _rest(nnx.merge(definition, parameters), graph, bound, features)

    shared = (parameters, graph)
    energy = jax.jit(rest)(shared, (geometry.bound, states["features"]))[0]
    np.testing.assert_allclose(energy, expected, rtol=1e-4, atol=1e-4)  # what is timed is the model
    return {
        "geometry": (describe, shared, graph.positions),
        "convolution": (convolution, shared, (geometry, states["linear"])),
        "product": (product, shared, list(zip(states["messages"], states["kept"], strict=True))),
        "rest": (rest, shared, (geometry.bound, states["features"])),
    }


def _inside(definition: Any, parameters: Any, graph: Graph, geometry: Any) -> dict[str, list]:
    """What goes in and comes out of each layer's parts."""
    model, found = nnx.merge(definition, parameters), {name: [] for name in ("linear", "messages", "kept", "features")}
    edges = Edges(graph.neighbors, graph.receivers, geometry.harmonics, geometry.radial_basis)
    features = model.embedding((jnp.ones((len(graph.species), 1, 1), geometry.bound.dtype),), graph.species)
    for t, layer in enumerate(model.layers):
        found["kept"].append(model.self_connections[t - 1](features, graph.species) if t else ())
        found["linear"].append(layer.linear(features))
        found["messages"].append(convolve(layer.convolution, found["linear"][-1], edges, layer.backend))
        features = update(layer.update, found["messages"][-1], found["kept"][-1], graph.species, layer.backend)
        found["features"].append(features)
    return found


def _rest(model: Any, graph: Graph, bound: Any, features: list) -> tuple[Any, list]:
    """The energies of atoms, and what the layers need besides convolution and product, from the features after each layer."""
    before = [model.embedding((jnp.ones((len(graph.species), 1, 1), bound.dtype),), graph.species), *features[:-1]]
    linear = [layer.linear(x) for layer, x in zip(model.layers, before, strict=True)]
    kept = [connect(x, graph.species) for connect, x in zip(model.self_connections, before[1:], strict=True)]
    energy = sum(readout(x[0][:, 0])[:, 0] for readout, x in zip(model.readouts, features, strict=True))
    shift = jnp.asarray(model.shift, bound.dtype)[graph.species]
    energy = jnp.where(graph.atom_mask, energy * model.normalization.scale + shift * bound, 0)
    return energy, [linear, kept]


def pulled_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function's value, and slopes pulled back to its inputs."""

    def both(fixed: Any, inputs: Any, slopes: Any) -> Any:
        value, pull_back = jax.vjp(lambda x: function(fixed, x), inputs)
        return value, pull_back(slopes)

    return both


def programs(spec: ModelSpec, graph: Graph) -> dict[tuple[str, str], tuple[Any, tuple]]:
    """Compiled programs and their arguments: {(stage, "forward" | "with derivative")}; "whole call" is one of the stages."""
    functions: dict[tuple[str, str], tuple[Callable, tuple]] = {}
    with jax.default_matmul_precision("float32"):
        for name, (function, fixed, inputs) in stages(spec, graph).items():
            slopes = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), jax.eval_shape(function, fixed, inputs))
            functions[name, "forward"] = function, (fixed, inputs)
            functions[name, "with derivative"] = pulled_back(function), (fixed, inputs, slopes)
        params = jax.device_put(spec.init(0))
        functions["whole call", "forward"] = lambda p, g: spec.evaluate(p, g, spec.describe(g)).energy, (params, graph)
        functions["whole call", "with derivative"] = partial(predict, spec), (params, graph)
        return {name: (jax.jit(function).lower(*arguments).compile(), arguments) for name, (function, arguments) in functions.items()}


def flops_of(compiled: Any) -> float:
    """XLA's count of additions and multiplications."""
    cost = compiled.cost_analysis()
    return float((cost[0] if isinstance(cost, list) else cost)["flops"])


def row_of(name: str, compiled: Any, flops: float, milliseconds: float, roof: Roof) -> dict[str, Any]:
    """A stage against the limits of the device; bytes are those of the arguments it uses and of its results, each counted once."""
    plan = compiled.memory_analysis()
    moved = plan.argument_size_in_bytes + plan.output_size_in_bytes
    rates = {"gflops": flops / milliseconds / 1e6, "fraction_of_roof": roof.fraction(flops, moved, milliseconds / 1e3)}
    return {"stage": name, "ms": milliseconds, "flops": flops, "bytes": moved, "flops_per_byte": flops / moved, **rates}


def measure(model: str, name: str, seconds: float, quick: bool) -> dict[str, Any]:
    """All stages of one model, in this process; the limits of the device are measured before and after."""
    atoms, roof = structure(name), measured(quick)
    host = host_of(atoms)
    graph = jax.device_put(collate([host], capacity_of([host], exact=True)))
    spec, dense = spec_of(model, atoms, host), spec_of(model, atoms, host, "dense")
    ready = programs(spec, graph)
    flops = {key: flops_of(compiled) for key, (compiled, _) in (ready if choose_backend() == "dense" else programs(dense, graph)).items()}
    calls = {key: partial(compiled, *arguments) for key, (compiled, arguments) in ready.items()}
    for call in calls.values():
        seconds_of(call), seconds_of(call)
    times = {key: value["wall_ms"] for key, value in take_turns(calls, seconds).items()}
    roof += measured(quick)
    found: dict[str, Any] = {"model": model, "structure": name, "atoms": len(atoms), "backend": choose_backend(), "roof": vars(roof)}
    for kind in ("forward", "with derivative"):
        rows = [row_of(stage, ready[stage, kind][0], flops[stage, kind], times[stage, kind], roof) for stage in (*STAGES, "whole call")]
        found[kind] = {"stages": rows, "sum_over_whole": sum(row["ms"] for row in rows[:-1]) / rows[-1]["ms"]}
    return found


def table(quick: bool) -> list[dict[str, Any]]:
    """Each model in a fresh process."""
    rows = []
    for model in SHOWN[: 1 if quick else None]:
        rows.append(row := in_fresh_process(measure, model, "si64" if quick else "si216", 1.0 if quick else SECONDS, quick, one_core=True))
        roof = row["roof"]
        print(f"\n{model}, {row['structure']}: {roof['gemm_gflops']:.0f} GFLOP/s, {roof['bandwidth_gb_s']:.0f} GB/s")
        for kind in ("forward", "with derivative"):
            print(f"  {kind:18s} {'ms':>8s} {'Mflop':>8s} {'GFLOP/s':>8s} {'flop/byte':>9s} {'of the roof':>11s}")
            for at in row[kind]["stages"]:
                counts = f"{at['flops'] / 1e6:8.1f} {at['gflops']:8.1f} {at['flops_per_byte']:9.1f}"
                print(f"  {at['stage']:18s} {at['ms']:8.2f} {counts} {100 * at['fraction_of_roof']:9.0f} %")
            print(f"  {'sum / whole call':18s} {row[kind]['sum_over_whole']:8.2f}", flush=True)
    return rows
