"""`eqpot novelty`: what is least like the training structures comes first, on the screen, as JSON and in a file that ASE reads."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read as read_ase

from eqpot.cli.console import console
from eqpot.cli.novelty import novelty as novelty_command
from eqpot.core.errors import EqpotError
from eqpot.data import read, write
from eqpot.graph import Frame, Labels, Structure
from eqpot.potential import Potential
from eqpot.uncertainty import fit_domain

STRETCHED = 5
"""Index of the structure whose first hydrogen was pulled away."""


@pytest.fixture(scope="module")
def frames():
    """Waters that are alike, but for one; labelled with charges alone, which nothing here looks at."""
    rng, corner = np.random.default_rng(0), np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    places = [corner + rng.normal(0, 0.05, (3, 3)) for _ in range(40)]
    places[STRETCHED][1, 0] += 0.7
    return [Frame(Structure([8, 1, 1], xyz), Labels(charges=np.zeros(3))) for xyz in places]


@pytest.fixture(scope="module")
def folder(frames, potential, tmp_path_factory):
    """A potential that knows the last thirty frames, the same without a domain, and the first ten frames."""
    folder = tmp_path_factory.mktemp("novelty")
    write(folder / "data.xyz", frames[:10])
    fit_domain(potential, frames[10:]).save(folder / "knows.safetensors")
    potential.save(folder / "bare.safetensors")
    return folder


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """The command in this process: what it prints."""
    monkeypatch.setattr(console, "_width", 200)

    def command(name="knows.safetensors", **options):
        novelty_command(folder / name, [str(folder / "data.xyz")], **options)
        return capsys.readouterr().out

    return command


def test_the_stretched_one_comes_first(run):
    lines = run(show=3).splitlines()
    first = next(k for k, line in enumerate(lines) if "data.xyz" in line)
    assert f"frame {STRETCHED}" in lines[first] and sum("data.xyz" in line for line in lines) == 3
    assert float(lines[first].split()[-3]) > 2  # its largest novelty
    assert "edge at 99 % of the atoms trained on" in "\n".join(lines)


def test_json_ranks_all_by_doubt(run):
    found = json.loads(run(as_json=True))
    ranking = found["ranking"]
    assert found["structures"] == len(ranking) == 10
    assert [r["doubt"] for r in ranking] == sorted((r["doubt"] for r in ranking), reverse=True)
    assert ranking[0]["atom"] in ("O0", "H1") and ranking[0]["structure"].endswith(f"frame {STRETCHED}")
    assert found["outside"] == sum(r["largest_novelty"] > 1 for r in ranking) < 10


def test_the_file_has_the_scores_of_each_atom(run, frames, tmp_path):
    target = tmp_path / "ranked.extxyz"
    ranking = json.loads(run(output=target, as_json=True))["ranking"]
    images = read_ase(target, ":")
    assert [a.info["origin"] for a in images] == [r["structure"] for r in ranking]
    assert images[0].positions == pytest.approx(frames[STRETCHED].structure.positions, abs=1e-6)
    for atoms, row in zip(images, ranking, strict=True):
        assert atoms.arrays["novelty"].max() == pytest.approx(row["largest_novelty"], rel=1e-4)
        assert atoms.arrays["atom_std"].max() == pytest.approx(row["largest_std"], rel=1e-4)
        assert np.sqrt(np.mean(atoms.arrays["doubt"] ** 2)) == pytest.approx(row["doubt"], rel=1e-4)


def test_label_names_of_the_training_are_not_asked_for(run, folder):
    """A pool has no labels, and so none under the names of the training either."""
    model = Potential.load(folder / "knows.safetensors")
    data = {"keys": {"energy": "E_dft"}, "units": {"energy": "eV"}}
    replace(model, metadata={**model.metadata, "config": {"data": data}}).save(folder / "named.safetensors")
    assert "Most doubtful" in run("named.safetensors")


def test_labels_stay_with_the_structures(run, tmp_path):
    target = tmp_path / "ranked.extxyz"
    run(output=target)
    assert all(f.labels.charges is not None for f in read(target))


def test_a_file_is_not_replaced_unless_asked(run, tmp_path):
    target = tmp_path / "ranked.extxyz"
    target.write_text("mine")
    with pytest.raises(EqpotError, match=r"ranked\.extxyz: exists; use --overwrite"):
        run(output=target)
    assert target.read_text() == "mine"
    assert str(target) in run(output=target, overwrite=True) and len(read_ase(target, ":")) == 10


def test_without_a_domain_it_is_one_line(run):
    with pytest.raises(EqpotError, match=r"bare\.safetensors: does not know what it was trained on.*--domain") as refused:
        run(name="bare.safetensors")
    assert "\n" not in str(refused.value)
