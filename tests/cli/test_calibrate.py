"""`eqpot calibrate`: a new file beside the old one, the verdict of its own test, and no structures that were trained on."""

import json

import numpy as np
import pytest

from eqpot.cli.calibrate import CalibrationMethod
from eqpot.cli.calibrate import calibrate as calibrate_command
from eqpot.cli.console import console
from eqpot.cli.reporting import calibration_line, write_run_report
from eqpot.core.errors import DataError, EqpotError
from eqpot.data import Dataset, write
from eqpot.graph import Frame, Labels, Structure
from eqpot.potential import Potential
from eqpot.training import evaluate
from eqpot.training.report_uncertainty import before_calibration
from eqpot.uncertainty.calibrate import remember
from eqpot.uncertainty.scores import summarise

FACTOR = 3.0
"""By which σ is too small, everywhere."""


@pytest.fixture(scope="module")
def frames(potential):
    """Waters whose errors are Gaussian, and `FACTOR` times what σ says."""
    rng, corner = np.random.default_rng(0), np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    structures = [Structure([8, 1, 1], corner + rng.normal(0, 0.1, (3, 3))) for _ in range(60)]
    found = []
    for s, r in zip(structures, potential.predict(structures), strict=True):
        sigma = FACTOR * r.atom_std[:, None] / np.sqrt(3)
        found.append(
            Frame(s, Labels(energy=r.energy + FACTOR * r.energy_std * rng.normal(), forces=r.forces + sigma * rng.normal(size=(3, 3))))
        )
    return found


@pytest.fixture
def folder(frames, potential, tmp_path):
    """A potential of two members that was trained on the first frame of old.xyz, and frames that are new to it."""
    write(tmp_path / "new.xyz", frames[10:])
    write(tmp_path / "old.xyz", frames[:10])
    write(tmp_path / "wild.xyz", [_wild(k, f) for k, f in enumerate(frames[10:30])])
    remember(potential, Dataset(tuple(frames[:1]))).save(tmp_path / "two.safetensors")
    potential.member(0).save(tmp_path / "one.safetensors")
    return tmp_path


def _wild(k, frame):
    """Every fifth label is far off and the others are near: no function of σ tells them apart."""
    shift = 30.0 if k % 5 == 0 else 0.001
    return frame.replace(labels=Labels(forces=frame.labels.forces + shift))


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """The command in this process: what it prints."""
    monkeypatch.setattr(console, "_width", 200)

    def command(data="new.xyz", name="two.safetensors", **options):
        calibrate_command(folder / name, [str(folder / data)], **options)
        return capsys.readouterr().out

    return command


def test_the_new_file_lies_beside_the_old_one_and_is_calibrated(run, folder, frames, potential):
    before = (folder / "two.safetensors").read_bytes()
    text = run(method=CalibrationMethod.scale)
    made = Potential.load(folder / "two.calibrated.safetensors")
    raw, mended = (p.predict(frames[0].structure) for p in (potential, made))
    assert made.trust.calibration.calibrated and (folder / "two.safetensors").read_bytes() == before
    assert mended.forces_std == pytest.approx(FACTOR * raw.forces_std, rel=0.25)
    assert mended.energy_std == pytest.approx(FACTOR * raw.energy_std, rel=0.35)
    verdict = next(line for line in text.splitlines() if line.startswith("verdict"))
    assert verdict.split() == ["verdict", "calibrated"] and "scale" in text and "two.calibrated.safetensors" in text
    shown = next(line for line in text.splitlines() if line.startswith("forces")).split()
    assert shown[1] == "50" and float(shown[4]) == pytest.approx(90, abs=6)


def test_a_file_is_not_replaced_unless_asked(run, folder):
    (folder / "two.calibrated.safetensors").write_text("mine")
    with pytest.raises(EqpotError, match=r"two\.calibrated\.safetensors: exists; use --overwrite"):
        run()
    assert (folder / "two.calibrated.safetensors").read_text() == "mine"
    run(overwrite=True, index=":20")
    checks = Potential.load(folder / "two.calibrated.safetensors").trust.calibration.checks
    assert checks["forces"]["structures"] == 20


def test_json_holds_the_checks(run, folder):
    found = json.loads(run(as_json=True, output=folder / "mine.safetensors"))
    assert found["calibrated"] is True and found["fault"] == ""
    assert set(found["checks"]) == {"energy", "forces"} and set(found["checks"]["forces"]["coverage"]) == {"50", "68", "90", "95"}
    assert found["output"] == str(folder / "mine.safetensors") and (folder / "mine.safetensors").exists()


def test_a_test_that_failed_is_said(run, folder):
    text = run("wild.xyz")
    fault = Potential.load(folder / "two.calibrated.safetensors").trust.calibration.fault
    assert fault and f"NOT calibrated: {fault}" in text


def test_structures_trained_on_are_refused_and_nothing_is_written(run, folder):
    with pytest.raises(DataError, match=r"1 of 10 structures were trained on, the first is .*old\.xyz"):
        run("old.xyz")
    assert not (folder / "two.calibrated.safetensors").exists()


def test_the_domain_is_fitted_anew_when_asked(run, folder, frames):
    run()
    assert Potential.load(folder / "two.calibrated.safetensors").trust.domain is None
    run(overwrite=True, domain=[str(folder / "old.xyz")])
    made = Potential.load(folder / "two.calibrated.safetensors")
    stretched = np.add(frames[0].structure.positions, [[0, 0, 0], [0.8, 0, 0], [0, 0, 0]])
    assert made.predict(frames[1].structure).novelty.max() < 1.5
    assert made.predict(Structure([8, 1, 1], stretched)).known is False


def test_a_potential_without_sigma_is_refused_in_one_line(run, folder):
    with pytest.raises(DataError, match="no σ above zero") as refused:
        run(name="one.safetensors")
    assert "\n" not in str(refused.value) and not (folder / "one.calibrated.safetensors").exists()


def test_the_report_shows_sigma_before_beside_after(run, folder, frames, potential, tmp_path):
    run()
    mended = Potential.load(folder / "two.calibrated.safetensors")
    raw, after = evaluate(potential, frames), evaluate(mended, frames)
    before = before_calibration(after)
    assert before is not None and before["factor"] == pytest.approx(FACTOR, rel=0.1) and before_calibration(raw) is None
    expected = summarise(*raw.force_uncertainty())  # predicted anew, without the calibration
    assert [before[k] for k in ("factor", "spearman", "nll")] == pytest.approx(
        [expected[k] for k in ("factor", "spearman", "nll")], rel=1e-5
    )
    html = write_run_report(tmp_path / "report.html", "R", mended, None, {"test": after}).read_text()
    assert "yes: isotonic, on 50 structures" in html and f"Before calibration it was {100 * before['coverage_90']:.0f} %" in html
    html = write_run_report(tmp_path / "report.html", "R", potential, None, {"test": raw}).read_text()
    assert "no: it was given no structures" in html and "Before calibration" not in html


def test_a_fit_ends_with_whether_sigma_can_be_believed(run, folder, potential):
    file = folder / "two.safetensors"
    run()
    assert calibration_line(Potential.load(folder / "two.calibrated.safetensors"), file) == "calibrated on 50 structures"
    run("wild.xyz", overwrite=True)
    failed = calibration_line(Potential.load(folder / "two.calibrated.safetensors"), file)
    assert failed.startswith("not calibrated (") and "of 20)" in failed and f"eqpot calibrate {file}" in failed
    assert calibration_line(potential, file).startswith(f"not calibrated: eqpot calibrate {file}")
    assert "no σ" in calibration_line(potential.member(0), file)
