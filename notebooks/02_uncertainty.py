# %% [markdown]
# # How far to trust a prediction
#
# A potential that is wrong does not look wrong: it returns forces for any structure. This notebook asks four small networks, trained on ethanol at 300
# K only, to say how large their errors are; checks what they say; repairs it; and then takes them to 1000 K, where they have never been, to see what
# still holds.
#
# Two words to keep apart. **σ** is how large an error the potential expects, in eV/Å. **Novelty** is how far the surroundings of an atom are from all
# that was trained on; it is one at the edge and has no unit. The first says *how wrong*, the second *whether to ask at all*.
#
# This file is a script in percent format: it opens as a notebook in VS Code and, through jupytext, in Jupyter, and it runs as it is.

# %%
import builtins
import os
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

import eqpot
from eqpot.core.elements import symbol
from eqpot.training import EpochReport, Evaluation
from eqpot.training.page import page, paragraph, replace_file
from eqpot.training.structures3d import Scene, scenes
from eqpot.uncertainty import auroc, ause, calibration_factor, coverage, risk_coverage, spearman

ETHANOL = Path("train", "data", "ethanol_gfn2.extxyz.xz")
HERE = Path(globals().get("__file__", Path.cwd() / "notebook")).resolve()
ROOT = next((p for p in (*HERE.parents, *Path(eqpot.__file__).resolve().parents) if (p / ETHANOL).exists()), None)
if ROOT is None:
    raise FileNotFoundError(f"{ETHANOL}: found in no folder above {HERE.parent}; open this notebook inside the repository")
SMOKE = os.environ.get("EQPOT_SMOKE") == "1"  # a short run that tests the code, not the physics
OUT = Path(os.environ.get("EQPOT_NOTEBOOK_OUT", ROOT / "runs" / "notebooks"))
OUT.mkdir(parents=True, exist_ok=True)
LEVELS = np.arange(1, 20) / 20


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


# %% [markdown]
# ## Four members, one temperature
# The hundred frames at 300 K are dealt into four piles. Only the first is trained on; the second chooses the epoch that is kept; the third is for the
# calibration; the fourth stays untouched and judges everything that follows. The members differ in their initial parameters and in their weights on the
# frames. Where the data determine the answer they agree; where the data leave it open they need not. Their spread is the σ.

# %%
data = eqpot.read(ROOT / ETHANOL)
at = {name: data[[k for k, frame in enumerate(data) if frame.group == name]] for name in data.groups}
train, valid, to_calibrate, fresh = at["T300"].split(36, 8, 28, 28, seed=2)
config = {
    "seed": 2,
    "model": {"hidden": "16x0e + 16x1o", "l_max": 2, "correlation": 3, "radial_hidden": [32, 32]}
    if not SMOKE
    else {"hidden": "4x0e + 4x1o", "l_max": 1, "correlation": 2, "n_layers": 1},
    "ensemble": {"members": 4},
    "loss": {"energy": 1000, "forces": 10},
    "training": {"epochs": 2 if SMOKE else 120, "batch_size": 6, "validate_every": 1 if SMOKE else 4},
}


def watch(report: EpochReport) -> None:
    """Show the report of an epoch over the one before."""
    text = f"epoch {report.epoch:3d}/{report.epochs}  forces {1e3 * report.valid['forces']['mae']:6.1f} meV/Å  {report.seconds:4.0f} s"
    print(f"\r{text:<79}", end="\n" if report.epoch == report.epochs else "", flush=True)


raw = eqpot.fit(config, at["IsolatedAtom"] + train, valid, on_epoch=watch)
print(f"trained on {len(train)} frames at 300 K; {len(to_calibrate)} to calibrate on, {len(fresh)} fresh ones to judge by")

# %% [markdown]
# ## σ as it is
# For each atom of the fresh frames, σ is the spread of its force over the members, √(σ_x² + σ_y² + σ_z²), and the error is the length of the difference
# to the label. Two questions, and they are independent of each other:
#
# - *Does σ rank the errors?* Spearman's ρ: 1 perfectly, 0 not at all. A perfect σ does not reach 1, because an error is one draw from its distribution.
# - *Does σ have their size?* The factor √⟨(error/σ)²⟩: above one, σ is too small.
#
# Four members are few. They share the data, the architecture and hence some of their mistakes; what they get wrong together, their spread cannot show.

# %%
COLORS = {"C": "C0", "H": "C7", "O": "C3"}


def describe(name: str, evaluation: Evaluation) -> None:
    """One line about ranking and size."""
    error, sigma = evaluation.force_uncertainty()
    scores = f"ρ {spearman(error, sigma):.2f}, AUSE {ause(error, sigma):.2f}; errors are {calibration_factor(error, sigma):.2f} × σ (RMS)"
    print(f"{name:<34s} force MAE {1e3 * evaluation.forces.mae:5.1f} meV/Å; {scores}")


before = eqpot.evaluate(raw, fresh)
describe("fresh frames at 300 K, raw σ", before)
element = np.array([symbol(int(z)) for frame in fresh for z in frame.structure.numbers])
error, sigma = before.force_uncertainty()
within = ", ".join(f"{e} {spearman(error[element == e], sigma[element == e]):.2f}" for e in COLORS)
print(f"ρ within one element, the stricter question: {within}")

# %% [markdown]
# ## Calibration
# `eqpot.calibrate` compares σ with errors on frames that were held out and learns a growing function σ → σ' for each element. It refuses frames that
# were trained on. Then it tests itself on structures that it left out, and says so if it failed. A growing function keeps the order of the atoms of an
# element, so ρ changes little: calibration repairs the size of σ, not what it knows.

# %%
potential = eqpot.calibrate(raw, to_calibrate)
calibration = potential.trust.calibration
verdict = "it stood its own test" if calibration.calibrated else f"not calibrated: {calibration.fault}"
print(f"{calibration.method} calibration on {len(to_calibrate)} frames: {verdict}")
after = eqpot.evaluate(potential, fresh)
describe("fresh frames at 300 K, calibrated", after)


def cloud(axes: plt.Axes, evaluation: Evaluation, title: str) -> None:
    """Error against σ, atom by atom."""
    error, sigma = (1e3 * v for v in evaluation.force_uncertainty())
    for name, color in COLORS.items():
        axes.loglog(sigma[element == name], error[element == name], ".", color=color, markersize=4, label=name)
    span = np.array([sigma.min(), sigma.max()])
    axes.plot(span, span, "k-", linewidth=0.8, label="error = σ")
    axes.set(xlabel="σ of the atom's force [meV/Å]", title=title)
    plain(axes.xaxis, axes.yaxis)


figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained")
cloud(left, before, "Raw σ")
cloud(right, after, "Calibrated σ")
left.set_ylabel("error of the atom's force [meV/Å]")
left.legend(loc="lower right", markerscale=2)
finish(figure, "02_1_error_against_sigma")

# %% [markdown]
# ## Reliability
# A ball around the predicted force that should hold half of the errors: does it? And the same for every share from 5 to 95 %. On the diagonal σ can be
# taken literally; below it σ is too small. The balls are those of a Gaussian of width σ. Errors have heavier tails than that, so even a calibrated
# curve bends.


# %%
def reliability(axes: plt.Axes, curves: dict[str, tuple[Evaluation, str]], title: str) -> None:
    """Share of force errors found inside of the region that should hold each share."""
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=1)
    for name, (evaluation, style) in curves.items():
        axes.plot(100 * LEVELS, 100 * coverage(*evaluation.force_uncertainty(), LEVELS), style, markersize=3.5, label=name)
    axes.set(
        xlabel="errors expected inside [%]", ylabel="errors found inside [%]", xlim=(0, 100), ylim=(0, 100), aspect="equal", title=title
    )
    axes.legend(loc="upper left")


figure, axes = plt.subplots(figsize=(4.6, 4.6), layout="constrained")
reliability(axes, {"raw σ": (before, "C0s--"), "calibrated": (after, "C1o-")}, "Fresh frames at 300 K")
finish(figure, "02_2_reliability")

# %% [markdown]
# ## Intervals
# `result.interval(0.9)` gives ranges that hold the truth nine times out of ten, whatever the shape of the tails: their widths are quantiles of the
# errors on calibration frames, in units of σ' (split-conformal prediction). The promise has two conditions in small print: it is an average over
# frames, and the frames must be drawn like those of the calibration. Atoms of a frame err together, so these frames are nearer to as many trials than
# to 27 times as many: a few per cent off is what chance does.


# %%
def held(evaluation: Evaluation, level: float = 0.9) -> dict[str, float]:
    """Shares of labels inside of the intervals."""
    pairs = [(frame.labels, result.interval(level), result) for frame, result in zip(evaluation.frames, evaluation.results, strict=True)]
    components = [((box.forces[0] <= y.forces) & (y.forces <= box.forces[1])).ravel() for y, box, _ in pairs]
    vectors = [np.linalg.norm(r.forces - y.forces, axis=1) <= box.force_radius for y, box, r in pairs]
    energies = [box.energy[0] <= y.energy <= box.energy[1] for y, box, _ in pairs]
    return {
        "force components": np.concatenate(components).mean(),
        "force vectors": np.concatenate(vectors).mean(),
        "energies": np.mean(energies),
    }


def tell(name: str, evaluation: Evaluation) -> None:
    """One line about what the 90 % intervals hold."""
    print(f"90 % intervals, {name:<46s} " + ", ".join(f"{100 * v:5.1f} % of {k}" for k, v in held(evaluation).items()))


tell("fresh frames at 300 K:", after)

# %% [markdown]
# ## Out of the domain: 1000 K
# The same molecule, hotter: longer bonds, wider angles. Little in the training data is like that, and the calibration has not seen it either. σ notices
# something by itself, since members that have to extrapolate part ways; whether it grows as much as the errors do is what the factor and the intervals
# say.
#
# Three numbers could give an alarm: σ, the novelty of the surroundings of an atom, and `doubt`, which joins the two. The AUROC is the chance that a hot
# frame scores higher than a fresh one at 300 K: ½ is blind, 1 tells every one of them apart. No alarm is free of false ones: the edge of the domain
# leaves out 1 % of the atoms trained on, so of frames of nine atoms about one in eleven should have an atom outside, and more where few frames were
# there to learn from.

# %%
hot_to_calibrate, hot_fresh, _ = at["T1000"].split(28, 56, 16, seed=2)
hot = eqpot.evaluate(potential, hot_fresh)
describe("fresh frames at 300 K", after)
describe("frames at 1000 K", hot)
tell("fresh frames at 300 K:", after)
tell("frames at 1000 K:", hot)

ALARMS = {
    "largest σ of the frame [meV/Å]": lambda r: 1e3 * r.atom_std.max(),
    "largest novelty of the frame": lambda r: r.novelty.max(),
    "doubt about the frame": lambda r: r.structure_doubt,
}


def alarms(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Each alarm for each frame."""
    return {name: np.array([rule(r) for r in evaluation.results]) for name, rule in ALARMS.items()}


cold_alarms, hot_alarms = alarms(after), alarms(hot)
for name in ALARMS:
    print(f"{name:<32s} AUROC {auroc(cold_alarms[name], hot_alarms[name]):.2f}")
for name, found in (("300 K", cold_alarms), ("1000 K", hot_alarms)):
    outside = np.mean(found["largest novelty of the frame"] > 1)
    print(f"frames at {name:<6s} with an atom outside of the domain: {100 * outside:.0f} %")

figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for axes, name in zip(panels, ALARMS, strict=True):
    both = np.concatenate([cold_alarms[name], hot_alarms[name]])
    edges = np.geomspace(0.95 * both.min(), 1.05 * both.max(), 22)
    for found, label, color in ((cold_alarms, "300 K", "C0"), (hot_alarms, "1000 K", "C3")):
        weights = np.full(len(found[name]), 100 / len(found[name]))
        axes.hist(found[name], bins=edges, weights=weights, alpha=0.6, color=color, label=label)
    if "σ" not in name:
        axes.axvline(1, color="k", linestyle="--", linewidth=0.8, label="edge of the domain")
    axes.set(xscale="log", xlabel=name, title=f"AUROC {auroc(cold_alarms[name], hot_alarms[name]):.2f}")
    plain(axes.xaxis)
panels[0].set_ylabel("frames [%]")
panels[1].legend(loc="upper right")
finish(figure, "02_3_alarms")

# %% [markdown]
# ## Calibrating there
# If 1000 K is where the potential will be used, calibrate it there: on some hot frames, judged by others. The members are the same and err as before;
# what changes is what they admit. Sent back to 300 K, this calibration need not hold. A calibration belongs to a kind of structures, like every
# statistic; where you cannot get labels of that kind, novelty is the only warning.

# %%
recalibrated = eqpot.calibrate(raw, hot_to_calibrate)
hot_after, cold_after = eqpot.evaluate(recalibrated, hot_fresh), eqpot.evaluate(recalibrated, fresh)
describe("1000 K, calibrated at 300 K", hot)
describe("1000 K, calibrated at 1000 K", hot_after)
tell("1000 K, calibrated at 300 K:", hot)
tell("1000 K, calibrated at 1000 K:", hot_after)
tell("300 K, calibrated at 1000 K:", cold_after)

figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 4.5), layout="constrained")
reliability(left, {"calibrated at 300 K": (after, "C0o-"), "calibrated at 1000 K": (cold_after, "C3s--")}, "Fresh frames at 300 K")
reliability(right, {"calibrated at 300 K": (hot, "C0s--"), "calibrated at 1000 K": (hot_after, "C3o-")}, "Frames at 1000 K")
finish(figure, "02_4_other_temperature")

# %% [markdown]
# ## What σ is worth in practice
# Suppose that a reference calculation can be afforded for some atoms and not for all. Giving up those of the largest σ first, how does the mean error
# of the rest fall? Perfect knowledge of the errors gives the lower curve, no knowledge the flat line; AUSE is the area between the two orders, in units
# of the mean error.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
for axes, evaluation, title in zip(panels, (after, hot_after), ("Fresh frames at 300 K", "Frames at 1000 K"), strict=True):
    error, sigma = evaluation.force_uncertainty()
    curve = risk_coverage(error, sigma)
    axes.axhline(1e3 * curve.random, color="0.6", linestyle="--", label="at random")
    axes.plot(100 * curve.shares, 1e3 * curve.by_sigma, "C1", label=f"by σ, AUSE {ause(error, sigma):.2f}")
    axes.plot(100 * curve.shares, 1e3 * curve.oracle, "C2", label="by the error itself")
    axes.set(xlabel="atoms kept, lowest σ first [%]", ylabel="mean error of the kept [meV/Å]", title=title, xlim=(0, 100))
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right")
    half = (len(error) - 1) // 2
    numbers = (1e3 * v for v in (curve.by_sigma[half], curve.random, curve.oracle[half]))
    print(f"{title}: " + "half kept {:.1f}, all {:.1f}, best possible half {:.1f} meV/Å".format(*numbers))
finish(figure, "02_5_risk_coverage")

# %% [markdown]
# ## Stretching a bond
# Temperature moves everything a little. Now one thing a lot: the hydrogen of the O–H bond is pulled away while all else stays. There are no labels
# here, as there will be none in use, so watch what the potential says of itself. The shaded range is what it has seen. One thing is known: to break an
# O–H bond takes more than four electronvolts.
#
# Inside of the range the four members are one line. Just outside σ and novelty rise steeply, before the energy looks strange to the
# eye: this is the alarm that they are for. Far out, neither number is a distance any more. Where the members cross, σ is small by accident; where all
# of them bend down together, far below the true curve, they share their mistake and σ misses it. Novelty is measured in the network's own descriptors,
# which stop to change as the hydrogen fades from sight. So read both as "known" against "not known", and never rank two things that are both far
# outside.

# %%
calm = min(train, key=lambda frame: frame.labels.energy).structure
numbers, positions = calm.numbers, calm.positions
oxygen = int(np.flatnonzero(numbers == 8)[0])


def bond(structure: eqpot.Structure) -> tuple[int, float]:
    """The hydrogen nearest to the oxygen, and how far it is [Å]."""
    hydrogens = np.flatnonzero(structure.numbers == 1)
    apart = np.linalg.norm(structure.positions[hydrogens] - structure.positions[oxygen], axis=1)
    return int(hydrogens[apart.argmin()]), float(apart.min())


hydrogen, length = bond(calm)
seen = [bond(frame.structure)[1] for frame in train]
direction = (positions[hydrogen] - positions[oxygen]) / length
lengths = np.linspace(0.75, 2.0, 56)
path = []
for r in lengths:
    moved = positions.copy()
    moved[hydrogen] = positions[oxygen] + r * direction
    path.append(replace(calm, positions=moved))
pulled = potential.predict(path)
energy, energy_std = np.array([r.energy for r in pulled]), np.array([r.energy_std for r in pulled])
sigma, novelty = (np.array([getattr(r, name)[[oxygen, hydrogen]] for r in pulled]) for name in ("atom_std", "novelty"))
for r in (0.95, 1.1, 1.3, 1.6, 2.0):
    k = int(np.argmin(np.abs(lengths - r)))
    text = f"σ of H {1e3 * sigma[k, 1]:6.0f} meV/Å   novelty of O {novelty[k, 0]:5.1f}, of H {novelty[k, 1]:5.1f}"
    print(f"O–H {lengths[k]:.2f} Å   energy ± {1e3 * energy_std[k]:6.1f} meV   {text}")

figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(6.4, 7), sharex=True, layout="constrained")
lowest = energy.min()
top.plot(lengths, np.array([r.member_energies for r in pulled]) - lowest, color="C0", linewidth=0.6, alpha=0.7)
top.plot(lengths, energy - lowest, "C0", label="mean, and the four members")
top.fill_between(lengths, energy - energy_std - lowest, energy + energy_std - lowest, color="C0", alpha=0.2, linewidth=0, label="± σ")
top.set(ylabel="energy [eV]", title="Pulling the hydrogen off the oxygen")
for k, (name, color) in enumerate((("O", "C3"), ("H", "C7"))):
    middle.semilogy(lengths, 1e3 * sigma[:, k], color=color, label=name)
    bottom.semilogy(lengths, novelty[:, k], color=color, label=name)
middle.set_ylabel("σ of force [meV/Å]")
bottom.set(xlabel="O–H distance [Å]", ylabel="novelty")
bottom.axhline(1, color="k", linestyle="--", linewidth=0.8, label="edge of the domain")
plain(bottom.yaxis)
for axes in (top, middle, bottom):
    axes.axvspan(min(seen), max(seen), color="C2", alpha=0.15, linewidth=0, label="seen in training")
handles = [*top.get_legend_handles_labels()[0][:2], *bottom.get_legend_handles_labels()[0]]
figure.legend(handles=handles, loc="outside lower center", ncols=3)
finish(figure, "02_6_stretched_bond")

# %% [markdown]
# ## Two kinds of doubt
# *Epistemic* doubt is lack of knowledge: another member, trained on other data, would have answered differently. More data make it smaller. *Aleatoric*
# doubt is in the labels themselves: a calculation that did not converge, a sampling error, a measurement. More of the same data do not make it smaller.
#
# The labels here come from a deterministic calculation, precise to the last digit that matters: repeat it, and the same numbers come out. So all of σ
# is epistemic, and none of the noise that `loss: {noise: …}` can learn was asked for. With noisy labels both parts are in the `Result`: `forces_spread`
# is the epistemic one, `forces_noise` the aleatoric one, and `forces_std` both together, calibrated. What neither of them knows is the error of the
# labels against nature: this potential can become certain of GFN2-xTB, never of ethanol.

# %%
one = after.results[0]
print(f"noise of labels: {'none learned' if one.forces_noise is None else one.forces_noise}")
print(f"first fresh frame, RMS over components: spread {1e3 * np.sqrt((one.forces_spread**2).mean()):.1f} meV/Å, "
      f"calibrated σ {1e3 * np.sqrt((one.forces_std**2).mean()):.1f} meV/Å")  # fmt: skip

# %% [markdown]
# ## One member instead of four
# Four members cost four times as much as one, to train and, once structures are large, to run; for a molecule as small as this one, most of the time is
# overhead. A single member can also have a σ: `fit_last_layer` asks how firmly the training data hold the weights of its last layer (rigidity). Without
# `forces` it gives one number per atom for almost nothing; with it the spread of the forces of sixteen readouts, which costs a backward pass each.
# Either is calibrated like the ensemble and judged on the same frames. After that a σ of the right size is no merit; ρ is. The member here is the first
# of the four, so its forces are also less accurate than the mean of all. Fitting takes a second or less; the first time, most of it is compilation.


# %%
def seconds(model: eqpot.Potential) -> float:
    """Time to predict the fresh frames, the fastest of three; the programs are compiled before."""
    hosts = model.prepare_frames(fresh)
    model.predict_hosts(hosts)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        model.predict_hosts(hosts)
        times.append(time.perf_counter() - began)
    return min(times)


KINDS = {"four members": raw, "one, rigidity": None, "one, rigidity with forces": None}
rows = []
for name in KINDS:
    began = time.perf_counter()
    bare = KINDS[name] or eqpot.fit_last_layer(raw.member(0), at["IsolatedAtom"] + train, forces="forces" in name)
    fitted = time.perf_counter() - began
    model = eqpot.calibrate(bare, to_calibrate)
    cold, warm = (spearman(*eqpot.evaluate(model, frames).force_uncertainty()) for frames in (fresh, hot_fresh))
    rows.append((name, cold, warm, 1e3 * seconds(model)))
    extra = f"; fitted in {fitted:.1f} s" if KINDS[name] is None else ""
    print(f"{name:<26s} ρ {cold:.2f} at 300 K, {warm:.2f} at 1000 K; {rows[-1][3]:.0f} ms for {len(fresh)} frames{extra}")

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
place = np.arange(len(rows))
left.barh(place - 0.2, [r[1] for r in rows], 0.4, color="C0", label="300 K")
left.barh(place + 0.2, [r[2] for r in rows], 0.4, color="C3", label="1000 K")
left.axvline(0, color="k", linewidth=0.8)
left.set(xlabel="Spearman ρ of σ and error", title="What it knows", yticks=place, yticklabels=[r[0] for r in rows])
left.invert_yaxis()
left.legend(loc="best")
right.barh(place, [r[3] for r in rows], 0.5, color="C7")
right.set(xlabel=f"time to predict {len(fresh)} frames [ms]", title="What it costs", yticks=place, yticklabels=[])
right.invert_yaxis()
finish(figure, "02_7_one_member")

# %% [markdown]
# ## A molecule that shows its doubts
# The frame at 1000 K with the largest σ, as a page to be opened in a browser and turned with the mouse. On the left atoms are coloured by σ, calibrated
# at 1000 K; on the right by the error that was truly made, on the same scale.

# %%
worst = max(range(len(hot_fresh)), key=lambda k: hot_after.results[k].atom_std.max())
frame, result = hot_fresh[worst], hot_after.results[worst]
mistake = np.linalg.norm(result.forces - frame.labels.forces, axis=1)
for k, name in enumerate(result.symbols):
    text = f"σ {1e3 * result.atom_std[k]:5.0f} meV/Å   error {1e3 * mistake[k]:5.0f} meV/Å   novelty {result.novelty[k]:4.1f}"
    print(f"  {name}{k}  {text}")
views = [
    Scene(frame.structure, "coloured by σ", "an ethanol molecule coloured by sigma", result.atom_std),
    Scene(frame.structure, "coloured by the true error", "the same molecule coloured by the force error", mistake),
]
legend = scenes(views).replace("force error of an atom", "σ (left) and error (right) of the force on an atom")
scene = OUT / "02_molecule.html"
replace_file(
    scene,
    page("Ethanol at 1000 K", ["<h1>Ethanol at 1000 K</h1>", paragraph(f"The least certain frame: {Path(frame.origin).name}."), legend]),
)
print(f"open {scene}")
