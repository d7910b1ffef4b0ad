# %% [markdown]
# # From a file of structures to a running potential that knows its doubts
#
# 400 configurations of ethanol, labelled with GFN2-xTB, become an ensemble of four equivariant networks. We look at the data, fit, ask how large the
# errors are and whether the ensemble knows where they are, and run dynamics that carry the uncertainty of every atom along.
#
# This file is a script in percent format: it opens as a notebook in VS Code and, through jupytext, in Jupyter, and it runs as it is.

# %%
import builtins
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

import eqpot
from eqpot.core.elements import symbol
from eqpot.data import inspect
from eqpot.md import Progress
from eqpot.training import EpochReport
from eqpot.uncertainty import spearman, summarise

ETHANOL = Path("train", "data", "ethanol_gfn2.extxyz.xz")
HERE = Path(globals().get("__file__", Path.cwd() / "notebook")).resolve()
ROOT = next((p for p in (*HERE.parents, *Path(eqpot.__file__).resolve().parents) if (p / ETHANOL).exists()), None)
if ROOT is None:
    raise FileNotFoundError(f"{ETHANOL}: found in no folder above {HERE.parent}; open this notebook inside the repository")
SMOKE = os.environ.get("EQPOT_SMOKE") == "1"  # a short run that tests the code, not the physics
OUT = Path(os.environ.get("EQPOT_NOTEBOOK_OUT", ROOT / "runs" / "notebooks"))
OUT.mkdir(parents=True, exist_ok=True)


def finish(figure: plt.Figure, name: str) -> None:
    """Save a picture, and show it where someone is looking."""
    figure.savefig(OUT / f"{name}.png", dpi=150)
    if hasattr(builtins, "__IPYTHON__"):
        plt.show()
    plt.close(figure)


def plain(*axes: plt.matplotlib.axis.Axis) -> None:
    """Label logarithmic axes with 1, 2, 5, 10, …"""
    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def live(text: str, last: bool = False) -> None:
    """Write over the line before."""
    print(f"\r{text:<79}", end="\n" if last else "", flush=True)


# %% [markdown]
# ## The data
# `read` checks the form of every frame; `inspect` describes the set and names what looks suspicious. Four groups come from dynamics at 300 to 1000 K; the
# three isolated atoms fix the zero of the energy.

# %%
data = eqpot.read(ROOT / ETHANOL)
about = inspect(data)
print("frames:  ", ", ".join(f"{n} of {formula}" for formula, n in about.formulas.items()))
print("groups:  ", ", ".join(f"{name} ({n})" for name, n in about.groups.items()))
print(f"forces:   RMS component {about.statistics.force_rms:.2f} eV/Å, longest vector {about.statistics.force_max:.2f} eV/Å")
print("shortest:", ", ".join(f"{pair} {d:.2f} Å" for pair, d in about.statistics.shortest.items()))
print(f"findings: {len(about.findings)} suspicious entries, {about.n_duplicates} duplicates")

# %% [markdown]
# ## The fit
# Sixty frames are set aside and not looked at before the end; forty more (`valid`) choose the epoch that is kept. The four members are trained in one
# program; they differ in their initial parameters and in their weights on the frames.

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


def watch(report: EpochReport) -> None:
    """Keep the report of an epoch and show it."""
    curve.append(report)
    force, energy = (1e3 * report.valid[name]["mae"] for name in ("forces", "energy_per_atom"))
    text = f"epoch {report.epoch:3d}/{report.epochs}  forces {force:6.1f} meV/Å  energy {energy:6.2f} meV/atom  {report.seconds:4.0f} s"
    live(text, last=report.epoch == report.epochs)


potential = eqpot.fit(config, rest, on_epoch=watch)
print(f"{potential.n_members} members of {potential.n_parameters:,} parameters each; best epoch {potential.metadata['best_epoch']}")

# %%
figure, left = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
right = left.twinx()
epochs = [r.epoch for r in curve]
(one,) = left.semilogy(epochs, [1e3 * r.valid["forces"]["mae"] for r in curve], "C0-", label="forces")
(two,) = right.semilogy(epochs, [1e3 * r.valid["energy_per_atom"]["mae"] for r in curve], "C1--", label="energy")
left.set(xlabel="epoch", ylabel="force MAE [meV/Å]", title="Errors on the validation frames")
right.set_ylabel("energy MAE [meV/atom]")
plain(left.yaxis, right.yaxis)
left.legend(handles=[one, two], loc="upper right")
finish(figure, "01_1_learning")

# %% [markdown]
# ## How large are the errors, and does the ensemble know?
# Now the sixty frames. They come from the same trajectories as the training frames, so this measures interpolation. For each atom, σ is the spread of its
# force over the members, √(σ_x² + σ_y² + σ_z²), and the error is the length of the difference to the label. Spearman's ρ asks whether σ puts atoms into the
# order of their errors (1: perfectly, 0: not at all); the factor √⟨(error/σ)²⟩ asks whether its size is right. Part of ρ comes from knowing
# that hot frames and heavy atoms are hard; the values within one temperature and within one element are the stricter question.

# %%
evaluation = eqpot.evaluate(potential, test)
error, sigma = evaluation.force_uncertainty()
scores = summarise(error, sigma)
element = np.array([symbol(int(z)) for frame in test for z in frame.structure.numbers])
print(f"energy MAE {1e3 * evaluation.energy_per_atom.mae:.2f} meV/atom, force MAE {1e3 * evaluation.forces.mae:.1f} meV/Å")
for group, part in sorted(evaluation.by_group().items(), key=lambda item: int(item[0][1:])):
    rho = spearman(*part.force_uncertainty())
    print(f"  {group[1:]:>4s} K: force MAE {1e3 * part.forces.mae:5.1f} meV/Å, ρ {rho:.2f} ({len(part.frames)} frames)")
within = ", ".join(f"{e} {spearman(error[element == e], sigma[element == e]):.2f}" for e in about.elements)
print(f"Spearman ρ(σ, error) = {scores['spearman']:.2f} over {scores['count']} atoms; within one element: {within}")
print(f"size: errors are {scores['factor']:.2f} × what σ says, root mean square")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
pairs = evaluation.pairs("forces")
label = {"C": "C0", "H": "C7", "O": "C3"}
for name in about.elements:
    mine = element == name
    true, predicted = (np.concatenate([p[k] for p in pairs])[mine].ravel() for k in (2, 1))
    left.plot(true, predicted, ".", color=label[name], markersize=3, label=name)
    right.loglog(1e3 * sigma[mine], 1e3 * error[mine], ".", color=label[name], markersize=3, label=name)
span = np.array(left.get_xlim())
left.plot(span, span, "k-", linewidth=0.8)
left.set(xlabel="GFN2-xTB force component [eV/Å]", ylabel="predicted force component [eV/Å]", aspect="equal")
left.set(xticks=range(-6, 7, 2), yticks=range(-6, 7, 2))
left.set_title(f"Parity, MAE {1e3 * evaluation.forces.mae:.0f} meV/Å")
span = np.array([1e3 * sigma.min(), 1e3 * sigma.max()])
right.plot(span, span, "k-", linewidth=0.8, label="error = σ")
right.set(xlabel="σ of the atom's force [meV/Å]", ylabel="error of the atom's force [meV/Å]")
plain(right.xaxis, right.yaxis)
right.set_title(f"Does σ rank the errors? Spearman ρ = {scores['spearman']:.2f}")
for axes in (left, right):
    axes.legend(loc="upper left", markerscale=3)
finish(figure, "01_2_errors")

# %% [markdown]
# ## One structure
# `predict` takes an `ase.Atoms`, a `Structure`, or a sequence of either. Here is one frame of the 300 K group with the uncertainty of each of its atoms. The
# label lets us compare; in use, σ is all there is. A single σ from four members is itself uncertain by about a quarter.

# %%
frame = next(f for f in test if f.group == "T300")
result = potential.predict(frame.structure)
mistake = np.linalg.norm(result.forces - frame.labels.forces, axis=1)
names = [f"{symbol(int(z))}{k}" for k, z in enumerate(frame.structure.numbers)]
print(f"E = {result.energy:.4f} ± {result.energy_std:.4f} eV (label {frame.labels.energy:.4f} eV)")
for k, name in enumerate(names):
    length = np.linalg.norm(result.forces[k])
    print(f"  {name}  |F| = {length:5.2f} eV/Å   σ = {1e3 * result.atom_std[k]:4.0f} meV/Å   error {1e3 * mistake[k]:4.0f} meV/Å")

figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
place = np.arange(len(names))
axes.bar(place - 0.2, 1e3 * result.atom_std, 0.4, label="σ (predicted)")
axes.bar(place + 0.2, 1e3 * mistake, 0.4, label="error (true)")
axes.set(xlabel="atom", ylabel="force [meV/Å]", title="One frame at 300 K, atom by atom")
axes.set_xticks(place, names)
axes.set_ylim(0, 1.3e3 * max(result.atom_std.max(), mistake.max()))
axes.legend(loc="upper right", ncols=2)
finish(figure, "01_3_one_structure")

# %% [markdown]
# ## Dynamics at 300 K
# One picosecond from that frame: the mean of the members drives, their spread is recorded with every frame. The dashed line is the σ below which 95 % of
# the atoms in held-out frames at 300 K lie; dynamics that visit what the training set covers are above it about 5 % of the time. The temperature of nine
# atoms is a rough number: with 3·9 − 3 = 24 degrees of freedom it fluctuates by 300 K·√(2/24) ≈ 87 K, and it breathes with the thermostat (about √2·π·50 fs
# ≈ 220 fs), so the mean over one picosecond rests on a handful of breaths.

# %%
steps = 40 if SMOKE else 2000


def follow(progress: Progress) -> None:
    """Show where a run stands, now and then."""
    if progress.step % 40 == 0:
        text = f"{progress.time_fs:5.0f} fs  {progress.temperature_K:4.0f} K  largest σ {1e3 * progress.max_atom_std:4.0f} meV/Å"
        live(text, last=progress.step == progress.n_steps)


warm = eqpot.simulate(potential, frame.structure, eqpot.NVT(temperature_K=300), steps, every=4, progress=follow)
limit = np.quantile(evaluation.by_group()["T300"].force_uncertainty()[1], 0.95)
mean, spread = warm.temperature_K.mean(), warm.temperature_K.std()
print(f"NVT: {mean:.0f} K on average, ± {spread:.0f} K from frame to frame; {warm.ns_per_day:.0f} ns/day")
print(f"σ above {1e3 * limit:.0f} meV/Å for {100 * np.mean(warm.atom_std > limit):.1f} % of atoms and frames")

figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, layout="constrained")
top.plot(warm.time_fs, warm.temperature_K, linewidth=0.8)
top.axhline(300, color="k", linestyle="--", linewidth=0.8, label="thermostat")
top.set(ylabel="temperature [K]", ylim=(0, 1.35 * warm.temperature_K.max()), title="300 K: temperature and doubt")
bottom.plot(warm.time_fs, 1e3 * warm.atom_std.max(1), linewidth=0.8, label="least certain atom")
bottom.plot(warm.time_fs, 1e3 * warm.atom_std.mean(1), linewidth=0.8, label="mean over atoms")
bottom.axhline(1e3 * limit, color="k", linestyle="--", linewidth=0.8, label="95 % of held-out, 300 K")
bottom.set(xlabel="time [fs]", ylabel="σ of force [meV/Å]", ylim=(0, 1.4e3 * max(limit, warm.atom_std.max())))
top.legend(loc="upper right")
bottom.legend(loc="upper right", ncols=3)
finish(figure, "01_4_dynamics")

# %% [markdown]
# ## Constant energy
# Forces are derivatives of one energy, so without a thermostat the total energy must stay. What is left are the errors of the finite timestep (0.5 fs), which
# come and go with the vibrations; a slope would mean that something is wrong. The drift is fitted over the whole run; over 1 ps, fluctuations limit how small
# a drift can be seen.

# %%
free = eqpot.simulate(potential, warm.final, eqpot.NVE(timestep_fs=0.5), steps, every=4, progress=follow)
wobble, swing = 1e3 * free.total_energy.std(), 1e3 * free.potential_energy.std()
print(f"NVE: total energy fluctuates by {wobble:.2f} meV, potential energy by {swing:.0f} meV")
print(f"drift of the total energy {1e3 * free.drift():+.1f} µeV/atom/ps")

figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 4.6), sharex=True, layout="constrained")
top.plot(free.time_fs, 1e3 * (free.potential_energy - free.potential_energy[0]), "C1", linewidth=0.8, label="potential")
top.plot(free.time_fs, 1e3 * (free.kinetic_energy - free.kinetic_energy[0]), "C2", linewidth=0.8, label="kinetic")
top.plot(free.time_fs, 1e3 * (free.total_energy - free.total_energy[0]), "C0", label="total")
top.set(ylabel="change of energy [meV]", title="Constant energy: two parts exchange, their sum stays")
top.margins(y=0.35)
top.legend(loc="upper right", ncols=3)
bottom.plot(free.time_fs, 1e3 * (free.total_energy - free.total_energy[0]), "C0", linewidth=0.8)
bottom.set(xlabel="time [fs]", ylabel="change of total [meV]")
finish(figure, "01_5_constant_energy")

# %% [markdown]
# ## Keep it
# One safetensors file holds all that is needed to predict, with its own description, and nothing that runs code.

# %%
path = potential.save(OUT / "ethanol.safetensors")
again = eqpot.Potential.load(path)
same = again.predict(frame.structure)
if same.energy != result.energy or (same.atom_std != result.atom_std).any():
    raise RuntimeError(f"{path}: the loaded potential predicts {same.energy} eV, expected {result.energy} eV")
print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB, {again.n_members} members; the predictions agree bit for bit")
