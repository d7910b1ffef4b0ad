# %% [markdown]
# # From a file of structures to a trusted, running potential
#
# 400 configurations of ethanol, labelled with GFN2-xTB, become an ensemble of four equivariant networks. We look at the data, fit, ask how large the
# errors are and whether the ensemble knows where they are, and run dynamics with the uncertainty of every atom.
#
# The file is a script in percent format: it opens as a notebook in VS Code and, through jupytext, in Jupyter, and it runs as it is.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import eqpot
from eqpot.data import inspect
from eqpot.uncertainty import summarise

ROOT = Path(__file__).resolve().parents[1] if "__file__" in globals() else Path.cwd()
SMOKE = "EQPOT_SMOKE" in os.environ  # a short run, for tests
OUT = Path(os.environ.get("EQPOT_NOTEBOOK_OUT", ROOT / "runs" / "notebooks"))
OUT.mkdir(parents=True, exist_ok=True)


def keep(figure: plt.Figure, name: str) -> None:
    """Save a picture."""
    figure.savefig(OUT / f"{name}.png", dpi=150, bbox_inches="tight")


# %% [markdown]
# ## The data
# `read` checks every frame; `inspect` describes the set and would name suspicious entries.

# %%
data = eqpot.read(ROOT / "train" / "data" / "ethanol_gfn2.extxyz.xz")
about = inspect(data)
print(f"{len(data)} frames of {', '.join(about.formulas)}; groups {about.groups}")
print(f"RMS force component {about.statistics.force_rms:.2f} eV/Å; {len(about.findings)} suspicious entries")

# %% [markdown]
# ## The fit
# Four members are trained in one program; they differ by their seed and by their weights on the data.

# %%
rest, test = data.split(len(data) - 60, 60, seed=1)
config = {
    "seed": 1,
    "data": {"valid": 40},
    "model": {"hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 3, "radial_hidden": [32, 32]},
    "ensemble": {"members": 4},
    "loss": {"energy": 1000, "forces": 10},
    "training": {"epochs": 2 if SMOKE else 60, "batch_size": 8},
}
curve = []
potential = eqpot.fit(config, rest, on_epoch=curve.append)
print(f"{potential.n_members} members of {potential.n_parameters:,} parameters, {curve[-1].seconds:.0f} s")

# %%
figure, axes = plt.subplots(figsize=(5, 3.2))
axes.semilogy([r.epoch for r in curve], [1e3 * r.valid["forces"]["mae"] for r in curve])
axes.set(xlabel="epoch", ylabel="validation force MAE [meV/Å]", title="The forces are learned")
keep(figure, "01_learning")

# %% [markdown]
# ## How large are the errors, and does the ensemble know?
# On 60 frames that were held out: the spread of the members (σ) against the true error, atom by atom.

# %%
evaluation = eqpot.evaluate(potential, test)
error, sigma = evaluation.force_uncertainty()
scores = summarise(error, sigma)
print(f"energy MAE {1e3 * evaluation.energy_per_atom.mae:.2f} meV/atom, force MAE {1e3 * evaluation.forces.mae:.1f} meV/Å")
print(f"Spearman ρ between σ and error: {scores['spearman']:.2f}; errors are {scores['factor']:.2f} × what σ says")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
pairs = [(f.labels.forces, r.forces) for f, r in zip(evaluation.frames, evaluation.results, strict=True)]
true, predicted = (np.concatenate([p[k].ravel() for p in pairs]) for k in (0, 1))
left.plot(true, predicted, ".", markersize=3)
left.plot(left.get_xlim(), left.get_xlim(), "k-", linewidth=0.8)
left.set(xlabel="GFN2-xTB force [eV/Å]", ylabel="predicted force [eV/Å]", title="Force components")
right.loglog(1e3 * sigma, 1e3 * error, ".", markersize=3)
right.set(xlabel="σ of the atom's force [meV/Å]", ylabel="its error [meV/Å]", title=f"Spearman ρ = {scores['spearman']:.2f}")
figure.tight_layout()
keep(figure, "02_errors")

# %% [markdown]
# ## One structure
# Mean and spread, for an `ase.Atoms` or a `Structure`.

# %%
structure = test[0].structure
result = potential.predict(structure)
print(f"E = {result.energy:.4f} ± {result.energy_std:.4f} eV; least certain atom {int(result.atom_std.argmax())}, σ = {1e3 * result.atom_std.max():.0f} meV/Å")

# %% [markdown]
# ## Dynamics
# The mean of the members drives; their spread is recorded with every frame. First a thermostat, then constant energy.

# %%
steps = 40 if SMOKE else 2000
warm = eqpot.simulate(potential, structure, eqpot.NVT(temperature_K=300), steps, every=4)
free = eqpot.simulate(potential, warm.final, eqpot.NVE(timestep_fs=0.5), steps, every=4)
print(f"NVT: {warm.temperature_K.mean():.0f} K on average; NVE drift {free.drift():+.4f} meV/atom/ps; {free.ns_per_day:.0f} ns/day")

figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True)
top.plot(free.time_fs, 1e3 * (free.total_energy - free.total_energy[0]), label="total")
top.plot(free.time_fs, 1e3 * (free.potential_energy - free.potential_energy.mean()), label="potential", alpha=0.7)
top.set(ylabel="energy [meV]", title="Constant energy: the total stays, the potential does not")
top.legend(loc="upper right", ncols=2)
top.margins(y=0.35)
bottom.plot(free.time_fs, 1e3 * free.atom_std.max(1), label="least certain atom")
bottom.plot(free.time_fs, 1e3 * free.atom_std.mean(1), label="mean")
bottom.set(xlabel="time [fs]", ylabel="σ of force [meV/Å]", ylim=(0, 1.4e3 * free.atom_std.max()))
bottom.legend(loc="upper right", ncols=2)
figure.tight_layout()
keep(figure, "03_dynamics")

# %% [markdown]
# ## Keep it
# One file, with all that is needed to predict and nothing that runs code.

# %%
potential.save(OUT / "ethanol.safetensors")
again = eqpot.Potential.load(OUT / "ethanol.safetensors")
print("the loaded potential predicts the same energy:", again.predict(structure).energy == result.energy)
