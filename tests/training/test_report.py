"""The report is one file that needs nothing else, shows what is there and says what is missing."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from eqpot.core.errors import TrainingError
from eqpot.graph import Frame, Labels, Structure
from eqpot.training import evaluate
from eqpot.training.report import write_report
from eqpot.uncertainty import summarise


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
        frames.append(Frame(s, labels, f"<b>set</b>.extxyz:frame {k}", group=f"T{k % 2}"))
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
    scores = summarise(*shown.force_uncertainty())
    path = write_report(
        tmp_path / "report.html",
        title="Water <script>alert(1)</script>",
        potential=potential,
        history=[row(k) for k in range(1, 5)],
        evaluations={"test": shown},
        scores=scores,
        dynamics=run(),
    )
    html = path.read_text()
    for heading in ("What was trained", "Learning", "Accuracy", "Uncertainty", "Worst structures", "Molecular dynamics"):
        assert f">{heading}<" in html
    assert "<script>alert" not in html and "&lt;script&gt;" in html and "<b>set" not in html
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|#)|url\((?!["']?data:)|@import""", html)
    assert f"{1000 * shown.forces.mae:.3g}"[:3] in html and "GPa" in html and "T0" in html
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


def test_a_report_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(TrainingError, match="report"):
        write_report(tmp_path / "file" / "report.html", title="x")
