"""Figures about σ draw the numbers that they speak of, and say in words what is seen."""

import re

import numpy as np
import pytest

from eqpot.training import figures_uncertainty as figures
from eqpot.uncertainty.scores import ause, ence, risk_coverage, summarise


@pytest.fixture
def drawn(monkeypatch):
    """Axes of the figure that was drawn last."""
    axes, close = [], figures.panel

    def kept(title, figure, *rest):
        axes[:] = figure.axes
        return close(title, figure, *rest)

    monkeypatch.setattr(figures, "panel", kept)
    return axes


@pytest.fixture
def forces():
    """Errors and σ [eV/Å] of calibrated Gaussian forces."""
    rng = np.random.default_rng(0)
    sigma = np.exp(rng.normal(-3, 0.6, 4000))
    return np.linalg.norm(rng.normal(size=(4000, 3)) * sigma[:, None] / np.sqrt(3), axis=1), sigma


def line(axes, name):
    """Points of the line with this label."""
    return next(part for part in axes.lines if part.get_label().startswith(name)).get_xydata()


def test_bins_of_calibrated_errors_lie_on_the_diagonal(drawn, forces):
    panel = figures.error_in_bins(*forces)
    x, y = line(drawn[0], "bins").T
    assert len(x) == 10 and y == pytest.approx(x, rel=0.1)
    assert f"ENCE {ence(*forces):.2f}" in panel.caption
    assert "2.0 times σ where σ is smallest" in figures.error_in_bins(2 * forces[0], forces[1]).caption


def test_calibration_moves_the_curve_from_before_to_the_diagonal(drawn, forces):
    error, sigma = forces
    levels, after = (np.array(v) for v in summarise(error, sigma)["coverage"])
    before = np.array(summarise(error, sigma / 2)["coverage"][1])
    panel = figures.reliability(levels, after, 1.0, before)
    assert line(drawn[0], "after calibration")[:, 1] == pytest.approx(100 * levels, abs=3)
    assert (line(drawn[0], "before")[:, 1] < 100 * levels - 1).all()
    assert "well calibrated" in panel.caption and f"Before calibration it was {100 * before[17]:.0f} %" in panel.caption
    alone = figures.reliability(levels, before, 2.0)
    assert "over-confident" in alone.caption and "efore calibration" not in alone.caption and "before" not in alone.svg


def test_a_heavy_tail_is_called_so_and_not_only_under_confident(forces):
    rng = np.random.default_rng(1)
    error = forces[0] * np.sqrt(3 / rng.chisquare(3, 4000)) / 1.5
    assert "heavy tail" in figures.reliability(*(np.array(v) for v in summarise(error, forces[1])["coverage"]), None).caption
    assert "heavy tail" not in figures.reliability(*(np.array(v) for v in summarise(forces[0] / 2, forces[1])["coverage"]), None).caption


def test_what_is_kept_runs_between_the_oracle_and_the_random_choice(drawn, forces):
    panel = figures.kept_by_sigma(*forces)
    mine, oracle = line(drawn[0], "ordered by σ"), line(drawn[0], "ordered by the error")
    assert (oracle[:, 1] <= mine[:, 1] + 1e-9).all() and mine[-1, 1] == pytest.approx(1000 * forces[0].mean())
    half = 1000 * risk_coverage(*forces).by_sigma[1999]
    assert f"{half:.1f} meV" in panel.caption
    assert f"AUSE {ause(*forces):.2f}" in [t.get_text() for t in drawn[0].get_legend().get_texts()][1]


@pytest.mark.parametrize("dimensions", [1, 3])
def test_the_expected_density_is_that_of_calibrated_errors(drawn, dimensions):
    error = np.linalg.norm(np.random.default_rng(2).normal(size=(100_000, dimensions)), axis=1) / np.sqrt(dimensions)
    panel = figures.errors_in_sigmas(error, np.ones(100_000), dimensions)
    grid, density = line(drawn[0], "calibrated").T
    assert np.trapezoid(density, grid) == pytest.approx(np.mean(error < grid[-1]), abs=0.01)
    heights, edges, _ = drawn[0].patches[0].get_data()
    assert np.interp((edges[1:] + edges[:-1]) / 2, grid, density) == pytest.approx(heights, abs=0.05)
    found, expected = re.match(r"([\d.]+) % .* has ([\d.]+) %", panel.caption).groups()
    assert float(found) == pytest.approx(float(expected), rel=0.15)


def test_sigma_is_counted_by_element_and_a_constant_one_is_remarked_on(drawn, forces):
    error, sigma = forces
    names = np.where(np.arange(4000) % 4 == 0, "C", "H")
    panel = figures.sigma_histogram(error, sigma, names)
    heights = {c[0].get_label(): sum(p.get_height() for p in c) for c in drawn[0].containers}
    assert heights == {"H": 3000, "C": 1000}
    assert f"{1000 * np.sqrt(np.mean(sigma**2)):.1f} meV" in panel.caption and "hardly varies" not in panel.caption
    assert "hardly varies" in figures.sigma_histogram(error, np.full(4000, 0.1)).caption


def test_many_elements_share_a_colour_and_no_atom_is_lost(drawn, forces):
    names = np.random.default_rng(3).choice(["H", "C", "N", "O", "F", "P", "S", "Cl", "Br"], 4000)
    figures.sigma_histogram(*forces, names)
    heights = {c[0].get_label(): sum(p.get_height() for p in c) for c in drawn[0].containers}
    assert len(heights) == 7 and "other" in heights and sum(heights.values()) == 4000


@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.filterwarnings("error:divide", "error:invalid")
def test_few_points_are_drawn_or_said_to_be_too_few(count):
    error, sigma = np.full(count, 0.1), np.full(count, 0.2)
    for draw in (figures.error_in_bins, figures.kept_by_sigma, figures.errors_in_sigmas, figures.sigma_histogram):
        panel = draw(error, sigma)
        assert "<svg" in panel.svg and panel.caption.endswith(".") and "nan" not in panel.caption
        assert count or re.search("too few|no σ|no errors", panel.caption)
