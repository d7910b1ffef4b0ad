"""One package behind a pipe: `python -P serve.py NAME` loads NAME.py beside it and answers JSON lines on stdin with JSON lines on stdout.

Runs in the package's own interpreter. NAME.py defines

    PACKAGE     name of the distribution, for its version
    FRAMEWORK   "jax" or "torch"
    MODELS      the models on offer: {"mace" | "nequip": settings}; "nequip, fast" is a variant of the kind "nequip"
    prepare(structure, model, copies) → evaluate, parameters, graph, number of edges

with `structure` a dict of arrays (numbers, positions, cell, pbc, cutoff), `copies` of it in one batch, and `evaluate(parameters, graph)`
→ energy of each structure, forces; `parameters` is a pytree for JAX and the module itself for torch. What is timed is made here, the same
for all packages of a framework: one call of `evaluate`, or the gradient of mean(energy²) + mean(forces²) with respect to all parameters.
`-P` keeps this folder off the module path, where NAME.py would hide the package that it wants to import.
"""

import json
import os
import runpy
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np


def jax_call(evaluate, parameters, graph, train: bool):
    """The function to time, and the number of parameters."""
    import jax
    import jax.numpy as jnp

    def loss(parameters, graph):
        energy, forces = evaluate(parameters, graph)
        return jnp.mean(energy**2) + jnp.mean(forces**2)

    function = jax.jit(jax.grad(loss) if train else evaluate)
    arguments = jax.device_put((parameters, graph))
    return lambda: jax.block_until_ready(function(*arguments)), sum(x.size for x in jax.tree.leaves(parameters))


def torch_call(evaluate, module, graph, train: bool):
    """The function to time, and the number of parameters."""
    import torch

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    weights = list(module.parameters())
    module.train(train).requires_grad_(train)

    def gradient():
        energy, forces = evaluate(module, graph)
        return torch.autograd.grad((energy**2).mean() + (forces**2).mean(), weights, allow_unused=True)

    return gradient if train else lambda: evaluate(module, graph), sum(x.numel() for x in weights)


def peak_mb() -> float:
    """Most memory that this process has held [MB]. Unlike ru_maxrss, Linux's VmHWM does not start from what the parent held."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


class Server:
    """The commands, each answered by a dict."""

    def __init__(self, name: str) -> None:
        self.worker = runpy.run_path(str(Path(__file__).with_name(f"{name}.py")))
        self.imported_mb = peak_mb()

    def hello(self) -> dict:
        """What this worker offers."""
        return {"package": self.worker["PACKAGE"], "version": version(self.worker["PACKAGE"]), "models": list(self.worker["MODELS"])}

    def prepare(self, structure: str, model: str, mode: str, copies: int) -> dict:
        """Build graph and model with random weights, and call once: for JAX, that compiles."""
        make_call = {"jax": jax_call, "torch": torch_call}[self.worker["FRAMEWORK"]]
        evaluate, parameters, graph, n_edges = self.worker["prepare"](dict(np.load(structure)), model, copies)
        self.call, n_parameters = make_call(evaluate, parameters, graph, mode == "train")
        began = time.perf_counter()
        self.call()
        return {"seconds_first_call": time.perf_counter() - began, "n_parameters": n_parameters, "n_edges": n_edges}

    def run(self, repeats: int) -> dict:
        """Time of each call."""
        wall, cpu = [], []
        for _ in range(repeats):
            began, cpu_began = time.perf_counter(), time.process_time()
            self.call()
            wall.append(1e3 * (time.perf_counter() - began))
            cpu.append(1e3 * (time.process_time() - cpu_began))
        return {"wall_ms": wall, "cpu_ms": cpu}

    def memory(self) -> dict:
        """Peak since the package was imported."""
        return {"peak_mb": peak_mb() - self.imported_mb}


def main() -> None:
    """Answer until told to quit."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the packages print goes to stderr
    server = Server(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        command = request.pop("command")
        if command == "quit":
            break
        try:
            answer = getattr(server, command)(**request)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
