"""Sections of the report about the run itself: data, model, machine and time, configuration.

They are filled from `Potential.metadata`, which says of a fit:

| key | what |
|---|---|
| data | content hashes `train`, `valid`, `test`, `calibrate`, and `train_frames`, … |
| warnings | lines about the data |
| reference_energies | `source`, `message` |
| config, config_hash | the configuration as a mapping, and its SHA-256 |
| epochs, best_epoch, seconds, versions | of the run |
| run | a mapping of anything else about it; keys of `RUN` are shown under the names there, others under their own |
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from eqpot.potential import Potential
from eqpot.training import figures
from eqpot.training.page import Panel, duration, facts, folded, gallery, number, paragraph, table, words

RUN = {
    "device": "Device",
    "kernels": "Kernels",
    "batches": "Batches",
    "padding": "Padding",
    "compiles": "Compiled programs",
    "compile_seconds": "Time compiling",
    "steps": "Steps",
    "peak_memory_GB": "Largest memory",
}
"""Keys of `metadata["run"]` and how they are called; `padding` holds shares such as {"atoms": 0.08, "neighbour slots": 0.2}."""
ROLES = (("training", "train"), ("validation", "valid"), ("test", "test"), ("calibration", "calibrate"))


def references(potential: Potential) -> dict[str, dict[str, float]]:
    """Reference energies [eV] of the elements, for each level of theory ('' where there is one)."""
    heads = potential.heads or ("",)
    rows = np.reshape(potential.reference_energies, (len(heads), len(potential.elements)))
    return {head: dict(zip(potential.elements, map(float, row), strict=True)) for head, row in zip(heads, rows, strict=True)}


def remarks(potential: Potential | None) -> list[str]:
    """What looked odd about the data; the reference energies are mentioned where there is more to say than what they were made from."""
    known = potential.metadata if potential else {}
    message = str((known.get("reference_energies") or {}).get("message") or "")
    return [line for line in map(str, known.get("warnings") or ()) if line != message or "; " in message]


def data(potential: Potential) -> str:
    """Sets and their hashes, reference energies, and what looked odd."""
    known, reference = potential.metadata, potential.metadata.get("reference_energies") or {}
    sets = known.get("data") or {}
    rows = [(name, number(sets.get(f"{key}_frames")), str(sets[key])[:32]) for name, key in ROLES if key in sets]
    parts = [table(("set", "frames", "SHA-256 of the content"), rows, text=(0, 2), kind="narrow")] if rows else []
    lines = []
    for head, values in references(potential).items():
        atoms = ", ".join(f"{e} {number(v, 6)}" for e, v in values.items())
        lines.append(("Reference energies" + (f", {head}" if head else ""), f"{atoms} eV ({reference.get('source', 'of unknown source')})"))
    noted = remarks(potential)
    parts += [facts(lines), *(paragraph(line, "note") for line in noted)]
    if (message := str(reference.get("message") or "")) and message not in noted:
        parts.append(paragraph(message, "dim"))
    return "\n".join(parts)


def model(potential: Potential) -> str:
    """What was trained, and how."""
    known, architecture = potential.metadata, potential.spec.config.model_dump()
    config = known.get("config") or {}
    optimizer, training = dict(config.get("optimizer") or {}), config.get("training") or {}
    rows = [
        ("Architecture", f"{architecture.pop('kind', 'model')}: " + words({k: v for k, v in architecture.items() if k != "cutoff"})),
        ("Cutoff", f"{potential.cutoff:g} Å; {potential.receptive_field:g} Å over all layers"),
        ("Ensemble", f"{potential.n_members} × {number(potential.n_parameters)} parameters, {potential.dtype}"),
        ("Levels of theory", ", ".join(potential.heads)),
        ("Loss", words(config.get("loss") or {})),
        ("Second stage", words(config.get("stage_two") or {})),
        ("Optimizer", f"{optimizer.pop('name', 'Adam')}: {words(optimizer)}" if optimizer else ""),
        ("Training", words(training)),
        ("Configuration", f"seed {config.get('seed', '?')}, SHA-256 {str(known['config_hash'])[:32]}" if "config_hash" in known else ""),
    ]
    return facts([row for row in rows if row[1]])


def run(potential: Potential | None, history: list[Mapping[str, Any]]) -> str:
    """Time, machine, padding, compiles, versions."""
    known = potential.metadata if potential else {}
    rows = [("Epochs", f"{known['epochs']}; the best, {known.get('best_epoch', '?')}, was kept" if "epochs" in known else "")]
    rows += [("Training time", duration(float(known["seconds"])) if "seconds" in known else "")]
    rows += [(RUN.get(key) or key.replace("_", " ").capitalize(), _fact(key, value)) for key, value in (known.get("run") or {}).items()]
    rows += [("Versions", words(known.get("versions") or {}))]
    rows = [row for row in rows if row[1]]
    panels = _pace(history)
    return "\n".join([facts(rows) if rows else "", gallery(panels) if panels else ""]).strip()


def _fact(key: str, value: Any) -> str:
    """One value in words."""
    if key == "padding" and isinstance(value, Mapping):
        return ", ".join(f"{100 * float(share):.0f} % of {name}" for name, share in value.items())
    if key.endswith("_seconds") or key == "seconds":
        return duration(float(value))
    if isinstance(value, Mapping):
        return words(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, str | bool) else number(value) + (" GB" if key.endswith("_GB") else "")


def _pace(history: list[Mapping[str, Any]]) -> list[Panel]:
    """Learning rate and seconds of each epoch."""
    panels, epochs = [], [int(row["epoch"]) for row in history]
    if any("rate" in row for row in history):
        rate = np.array([row.get("rate", np.nan) for row in history], float)
        caption = f"The learning rate at the end of each epoch, from {number(rate[0])} to {number(rate[-1])}."
        panels.append(figures.curves("Learning rate", epochs, {"learning rate": rate}, "learning rate", None, caption))
    if any("seconds" in row for row in history):
        seconds = np.diff([row.get("seconds") or np.nan for row in history], prepend=0.0) / np.diff(epochs, prepend=0)
        usual = f"An epoch with its validation took {number(float(np.nanmedian(seconds)))} s (median)"
        caption = f"{usual}; the first, in which programs are compiled, took {number(float(seconds[0]))} s."
        panels.append(figures.curves("Time of an epoch", epochs, {"seconds": seconds}, "seconds", None, caption))
    return panels


def configuration(potential: Potential | None) -> str:
    """The configuration, to be opened."""
    config = (potential.metadata if potential else {}).get("config")
    return as_yaml(config) if config else ""


def as_yaml(config: Mapping[str, Any]) -> str:
    """A mapping as folded YAML."""
    return folded("All keys, as YAML", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
