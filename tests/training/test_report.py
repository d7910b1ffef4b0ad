"""The report is one file that needs nothing else, shows what is there and says what is missing."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from eqpot.core.errors import TrainingError
from eqpot.graph import Frame, Labels, Structure
from eqpot.training import evaluate
from eqpot.training.page import embedded, number, table
from eqpot.training.report import write_report


def evaluation(potential, stress=False, forces=True, energy=True):
    """Twelve frames whose labels are the predictions and some noise."""
    rng = np.random.default_rng(0)
    cell = 6 * np.eye(3)
    structures = [
        Structure([8, 1, 1], np.add(rng.normal(0, 0.1, (3, 3)), [[0, 0, 0], [1, 0, 0], [0, 1, 0]]), cell, stress) for _ in range(12)
    ]
    frames = []
    for k, (s, r) in enumerate(zip(structures, potential.predict(structures), strict=True)):
        labels = Labels(
            energy=r.energy + 0.01 * rng.normal() if energy else None,
            forces=r.forces + 0.1 * rng.normal(size=(3, 3)) if forces else None,
            stress=r.stress + 0.001 * np.eye(3) if stress else None,
        )
        frames.append(Frame(s, labels, f"<b>set</b>.extxyz:frame {k}", group=f"<T{k % 2}>"))
    return evaluate(potential, frames)


def row(epoch):
    """A row of log.jsonl."""
    errors = {
        "forces": {"mae": 0.1 / epoch, "rmse": 0.2 / epoch, "count": 9},
        "energy_per_atom": {"mae": 0.01 / epoch, "rmse": 0.02, "count": 1},
    }
    terms = {"energy": 0.1 / epoch, "forces": 0.2 / epoch}
    rest = {"best": True, "rate": 0.01, "seconds": epoch}
    return {"epoch": epoch, "epochs": 4, "loss": 1 / epoch, "terms": terms, "valid": errors, "valid_loss": 1 / epoch, **rest}


def run():
    """What the report needs of an `eqpot.md.Run`."""
    t, rng = np.arange(50) * 5.0, np.random.default_rng(0)
    noise = rng.normal(size=50)
    return SimpleNamespace(
        time_fs=t,
        temperature_K=300 + 20 * noise,
        potential_energy=-3 + 0.1 * noise,
        kinetic_energy=0.1 + 0 * t,
        total_energy=-2.9 + 0.1 * noise,
        conserved_energy=-2.9 + 1e-4 * noise,
        atom_std=np.abs(0.05 + 0.01 * rng.normal(size=(50, 3))),
        energy_std=0.01 + 0 * t,
        ns_per_day=12.3,
    )


def test_a_full_report_is_one_file_with_all_sections(potential, tmp_path):
    shown = evaluation(potential, stress=True)
    path = write_report(
        tmp_path / "report.html",
        title="Water <script>alert(1)</script>",
        potential=potential,
        history=[row(k) for k in range(1, 5)],
        evaluations={"test": shown},
        dynamics=run(),
    )
    html = path.read_text()
    headings = ("What was trained", "Learning", "Accuracy", "Uncertainty", "Worst structures", "Molecular dynamics", "Data", "Run")
    for heading in headings:
        assert f"<h2>{heading}</h2>" in html
    assert "<script>alert" not in html and "&lt;script&gt;" in html and "<b>set" not in html
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)|url\((?!["']?data:)|@import|https?://(?!www\.w3\.org)""", html)
    assert set(re.findall(r'href="#([^"]+)"', html)) == set(re.findall(r'section id="([^"]+)"', html))
    scene = json.loads(re.search(r'id="structures">(.*?)</script>', html)[1])
    assert len(scene["structures"]) == html.count('<canvas data-structure="') - 1  # the script's own comment shows one
    assert f"{1000 * shown.forces.mae:.3g}"[:3] in html and "GPa" in html and "&lt;T0&gt;" in html and "<T0>" not in html
    assert path.stat().st_size < 3e6 and not [p for p in tmp_path.iterdir() if p != path]


@pytest.mark.parametrize("kind", ["nothing", "single member", "energies only", "no history"])
def test_what_is_missing_is_left_out_and_said(potential, tmp_path, kind):
    path = tmp_path / "report.html"
    if kind == "nothing":
        write_report(path, title="Empty")
    elif kind == "single member":
        one = potential.member(0)
        write_report(path, title="One", potential=one, evaluations={"test": evaluation(one)})
        assert "single member has no spread" in path.read_text()
    elif kind == "energies only":
        write_report(path, title="E", potential=potential, evaluations={"test": evaluation(potential, forces=False)})
        assert "no labelled forces" in path.read_text()
    else:
        write_report(path, title="F", potential=potential, evaluations={"test": evaluation(potential, energy=False)})
    assert path.read_text().rstrip().endswith("</html>")


def test_what_the_run_left_behind_is_shown(potential, tmp_path):
    run = {
        "device": "cpu × 1",
        "compiles": 3,
        "compile_seconds": 180,
        "padding": {"atoms": 0.08, "neighbour slots": 0.25},
        "queue": "long & dark",
    }
    config = {"seed": 7, "loss": {"energy": 1.0, "forms": {"forces": "norm"}, "huber": None}, "optimizer": {"name": "muon", "ema": 0.99}}
    metadata = {
        "data": {"train": "a" * 64, "train_frames": 1234},
        "reference_energies": {"source": "isolated atoms", "message": "reference energies from isolated atoms: H, O"},
        "warnings": ["reference energies from isolated atoms: H, O", "frame 3: <i>suspicious</i>", "two"],
        "config": config,
        "config_hash": "c" * 64,
        "epochs": 9,
        "best_epoch": 8,
        "seconds": 7200,
        "run": run,
    }
    html = write_report(tmp_path / "r.html", title="R", potential=replace(potential, metadata=metadata)).read_text()
    for text in (
        "2 remarks about the training data",
        "&lt;i&gt;suspicious",
        "1\u202f234",
        "a" * 32,
        "c" * 32,
        "8 % of atoms, 25 % of neighbour slots",
    ):
        assert text in html
    for text in (
        "Compiled programs",
        "3 min",
        "2 h 0 min",
        "long &amp; dark",
        "9; the best, 8, was kept",
        "muon: ema 0.99",
        "forms (forces norm)",
        "seed: 7",
    ):
        assert text in html
    assert "<i>suspicious" not in html


def test_a_history_with_holes_is_drawn(tmp_path):
    """Terms that are negative, missing or not finite, epochs without validation, and noise that is learned."""
    holes = [
        {"epoch": 2, "loss": float("nan"), "terms": {"energy": None, "forces": 0.1}, "valid": {}, "noise": {"energy": 0.02}, "best": False},
        {
            "epoch": 4,
            "loss": 1.0,
            "terms": {"energy": -0.3, "forces": float("inf")},
            "valid": {"charges": {"mae": 0.1}},
            "noise": {},
            "best": True,
        },
    ]
    html = write_report(tmp_path / "r.html", title="H", history=holes).read_text()
    assert all(title in html for title in ("Training loss", "Validation error", "Learned noise")) and "went from not finite to 1.00" in html
    assert (
        "Learning"
        in write_report(tmp_path / "s.html", title="H", history=[{"epoch": 1, "loss": 0.0, "terms": {}, "valid": {}}]).read_text()
    )


def test_levels_of_theory_have_their_own_reference_energies(make_potential, tmp_path):
    """A constant between two levels is no error of the parity plot: each is counted from its own atoms."""
    from eqpot.training.report_accuracy import _energies

    two = make_potential(tiny=True, heads=("low", "high"))
    shifts = dict(zip(two.heads, (0.0, 100.0), strict=True))
    references = tuple(e + shifts[h] for h in two.heads for e in (-10.0, -20.0, -30.0))
    potential = replace(two, reference_energies=references)
    structure = Structure([8, 1, 1], [[0, 0, 0.1], [0, 0.8, -0.5], [0, -0.8, -0.5]])
    frames = [Frame(structure, Labels(energy=potential.predict(structure, head=h).energy), head=h) for h in two.heads]
    shown = evaluate(potential, frames)
    assert shown.energy_per_atom.mae < 1e-6 and set(shown.by_head()) == {"low", "high"}
    predicted, reference = _energies(shown, potential)
    assert np.ptp(reference) < 1e4 and predicted == pytest.approx(reference, abs=1e-2)  # 100 eV of either atom would show as 1e5 meV
    html = write_report(tmp_path / "h.html", title="H", potential=potential, evaluations={"test": shown}).read_text()
    assert "Errors by level of theory" in html and "Reference energies, high" in html


def test_text_in_embedded_data_cannot_end_it():
    html = embedded("x", {"a": "</script><!--"})
    assert html.count("<") == 2 and json.loads(html[html.index(">") + 1 : html.rindex("<")]) == {"a": "</script><!--"}


def test_bars_are_as_long_as_their_numbers():
    html = table(("name", "value"), [("a", number(10.0)), ("b", number(-2.5)), ("c", "–")], bars=(1,))
    assert re.findall(r"--share:([\d.]+)", html) == ["1.00", "0.25", "0.00"]


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrainingError, match="report"):
        write_report(tmp_path / "file" / "report.html", title="x")
