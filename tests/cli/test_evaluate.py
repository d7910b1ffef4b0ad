"""`eqpot evaluate --uncertainty`: a table of scores for people, JSON for machines, one clear line where there is no σ."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from eqpot.cli.console import console
from eqpot.cli.evaluate import evaluate as evaluate_command
from eqpot.core.errors import DataError, EqpotError
from eqpot.data import read, write
from eqpot.graph import Frame, Labels, Structure
from eqpot.potential import Potential
from eqpot.training import evaluate
from eqpot.uncertainty.scores import summarise


@pytest.fixture(scope="module")
def files(potential, tmp_path_factory):
    """A potential of two members, its first member alone, labelled frames, and the same without labels that have a σ."""
    folder, rng = tmp_path_factory.mktemp("evaluate"), np.random.default_rng(0)
    corner = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    structures = [Structure([8, 1, 1], corner + rng.normal(0, 0.1, (3, 3)), 6 * np.eye(3), True) for _ in range(8)]
    results = potential.predict(structures)
    frames = [
        Frame(s, Labels(energy=r.energy + 0.03 * rng.normal(), forces=r.forces + 0.1 * rng.normal(size=(3, 3)), stress=r.stress))
        for s, r in zip(structures, results, strict=True)
    ]
    write(folder / "data.xyz", frames)
    write(folder / "charges.xyz", [Frame(s, Labels(charges=np.zeros(3))) for s in structures])
    potential.save(folder / "two.safetensors")
    potential.member(0).save(folder / "one.safetensors")
    return folder


@pytest.fixture
def run(files, capsys, monkeypatch):
    """The command in this process: what it prints for a potential, with these options."""
    monkeypatch.setattr(console, "_width", 200)

    def command(name, data="data.xyz", **options):
        evaluate_command(files / name, [str(files / data)], **options)
        return capsys.readouterr().out

    return command


def test_the_flag_is_there_and_a_missing_sigma_is_one_line(files):
    command = [sys.executable, "-m", "eqpot.cli.main", "evaluate", files / "one.safetensors", files / "data.xyz", "--uncertainty"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600)
    (line,) = [line for line in found.stderr.splitlines() if line.startswith("eqpot: ")]
    assert found.returncode == 1 and "one.safetensors: predicts no σ" in line and "ensemble.members" in line and not found.stdout


def test_the_table_has_every_quantity_and_element(run):
    text = run("two.safetensors", uncertainty=True)
    for part in ("force, meV/Å", "energy, meV/atom", "stress, GPa", "inside 95 %", "ENCE", "AUSE", "CRPS", "by element"):
        assert part in text, part
    line = next(line for line in text.splitlines() if line.startswith("values"))
    assert line.split() == ["values", "8", "24", "48"]
    assert text.split("by element")[-1].splitlines()[2].split()[:2] == ["H", "16"]


def test_json_holds_the_scores_with_ranges_in_ev(run, files, potential):
    scores = json.loads(run("two.safetensors", uncertainty=True, as_json=True))["uncertainty"]
    expected = summarise(*evaluate(potential, read([str(files / "data.xyz")])).force_uncertainty())
    assert set(scores) == {"forces", "energy_per_atom", "stress"}
    assert scores["forces"]["nll"] == pytest.approx(expected["nll"], rel=1e-4)
    low, high = scores["forces"]["ranges"]["crps"]
    assert low < scores["forces"]["crps"] < high and set(scores["forces"]["elements"]) == {"H", "O"}


def test_the_table_speaks_of_mev_where_json_speaks_of_ev(run):
    scores = json.loads(run("two.safetensors", uncertainty=True, as_json=True))["uncertainty"]["forces"]
    lines = run("two.safetensors", uncertainty=True).splitlines()
    rmse, nll = (next(x for x in lines if x.startswith(start)) for start in ("RMS error ", "NLL"))
    assert f"{1000 * scores['rmse']:.3g}" in rmse and f"{scores['nll'] + np.log(1000):.2f}" in nll


def test_without_the_flag_two_lines_are_enough(run):
    text = run("two.safetensors")
    assert "Force uncertainty" in text and "Spearman" in text and "ENCE" not in text
    assert set(json.loads(run("two.safetensors", as_json=True))["uncertainty"]) == {"forces"}


def test_one_member_is_silent_without_the_flag(run):
    assert "ncertainty" not in run("one.safetensors")
    assert json.loads(run("one.safetensors", as_json=True))["uncertainty"] is None


def test_a_level_of_theory_can_be_named(files, run):
    """Two heads with other reference energies: frames that name none are compared with the one that is asked for."""
    two = files / "two.safetensors"
    base = Potential.load(two)
    norm = dataclasses.replace(base.spec.normalization, shift=2 * base.spec.normalization.shift)
    spec = dataclasses.replace(base.spec, config=base.spec.config.changed(heads=("low", "high")), normalization=norm)
    references = (*base.reference_energies, *(e - 3.0 for e in base.reference_energies))
    both = Potential(spec, spec.init_members([0, 1]), references)
    both.save(files / "heads.safetensors")
    low, high = (json.loads(run("heads.safetensors", head=head, as_json=True))["energy"]["mae"] for head in (None, "high"))
    assert abs(high - low) == pytest.approx(9.0, abs=1.0)
    with pytest.raises(EqpotError, match="head: found 'middle'"):
        run("heads.safetensors", head="middle")
    with pytest.raises(EqpotError, match="knows one level of theory only"):
        run("two.safetensors", head="low")


def test_units_of_other_files_are_never_guessed(files, run):
    """A potential of files in kcal/mol: whoever evaluates it says what these files are in, and gets the errors in eV."""
    model = Potential.load(files / "two.safetensors")
    data = {"units": {"energy": "kcal/mol", "length": "Angstrom", "stress": None}, "keys": {"energy": "E_kcal", "forces": None}}
    dataclasses.replace(model, metadata={**model.metadata, "config": {"data": data}}).save(files / "kcal.safetensors")
    frames = read([str(files / "data.xyz")])
    write(files / "kcal.xyz", [f.replace(labels=Labels(f.labels.energy * 23.0605, f.labels.forces * 23.0605)) for f in frames])
    (files / "kcal.xyz").write_text((files / "kcal.xyz").read_text().replace(" energy=", " E_kcal="))
    with pytest.raises(DataError, match="--unit energy=kcal/mol' if they are alike, '--unit energy=eV' if not"):
        run("kcal.safetensors", "kcal.xyz")
    found = json.loads(run("kcal.safetensors", "kcal.xyz", unit=["energy=kcal/mol"], as_json=True))
    plain = json.loads(run("two.safetensors", as_json=True))
    for name in ("energy", "forces"):
        assert found[name]["mae"] == pytest.approx(plain[name]["mae"], rel=1e-3)
    again = json.loads(run("kcal.safetensors", "data.xyz", unit=["energy=eV"], key=["energy=energy"], as_json=True))
    assert again["energy"]["mae"] == plain["energy"]["mae"]
    with pytest.raises(DataError, match=r"found no key 'E_kcal' for energy .* --key names others"):
        run("kcal.safetensors", "data.xyz", unit=["energy=eV"])


def test_structures_without_labels_are_an_error(files, run):
    write(files / "bare.xyz", [f.replace(labels=Labels()) for f in read([str(files / "data.xyz")])])
    with pytest.raises(DataError, match=r"bare\.xyz: found no labels to compare with"):
        run("two.safetensors", "bare.xyz")


def test_json_is_json_for_one_frame(run):
    """Rank correlations of one structure are no numbers; JSON has none for that but null."""

    def refuse(word):
        raise AssertionError(word)

    json.loads(run("two.safetensors", uncertainty=True, as_json=True, index="0"), parse_constant=refuse)


def test_labels_without_a_sigma_are_not_enough(run):
    with pytest.raises(DataError, match="no labelled energies, forces or stress"):
        run("two.safetensors", data="charges.xyz", uncertainty=True)
