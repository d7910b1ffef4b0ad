"""The formulas of short-range repulsion, against themselves written down once more in NumPy, and what must hold of any repulsion."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.core.elements import atomic_number
from eqpot.core.errors import ConfigError
from eqpot.physics import covalent_sums, inverse_power, pair_radii, universal_screening, zbl, zbl_pairs, zbl_switched

ELEMENTS = ("H", "C", "N", "O", "Si", "Cu")
NUMBERS = [atomic_number(e) for e in ELEMENTS]
PAIRS = list(itertools.combinations_with_replacement(range(len(ELEMENTS)), 2))


def formula(r, a, b):
    """ZBL as it stands in the book; r may be complex."""
    x = r * (a**0.23 + b**0.23) / 0.4685
    phi = 0.18175 * np.exp(-3.1998 * x) + 0.50986 * np.exp(-0.94229 * x) + 0.28022 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.20162 * x)
    return 14.399645 * a * b / r * phi


def derivatives(r, a, b):
    """Value, slope and curvature of the formula, by a complex step and a difference of complex steps."""
    slope = lambda x: np.imag(formula(x + 1e-30j, a, b)) / 1e-30  # noqa: E731
    return formula(r, a, b), slope(r), (slope(r + 1e-5) - slope(r - 1e-5)) / 2e-5


def entry(i, j, inner=None, outer=None):
    """Constants of one pair of elements as float64 arrays."""
    table = zbl_pairs(NUMBERS, *pair_radii(NUMBERS, inner=inner, outer=outer))
    return jax.tree.map(lambda values: jnp.asarray(values[i, j]), table)


def all_pairs():
    """Constants of all pairs of the elements, one after the other."""
    first, second = np.array(PAIRS).T
    return jax.tree.map(lambda values: jnp.asarray(values)[first, second], zbl_pairs(NUMBERS, *pair_radii(NUMBERS)))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def test_screening_is_complete_at_no_distance_and_decays():
    x = jnp.linspace(0.0, 30.0, 200)
    phi = universal_screening(x)
    np.testing.assert_allclose(phi[0], 1.0, atol=1e-5)  # the weights of the book add to 1.00000
    assert (jnp.diff(phi) < 0).all() and phi[-1] < 1e-4


@pytest.mark.parametrize(("i", "j"), PAIRS)
def test_zbl_is_the_formula_of_the_book(i, j):
    r = np.linspace(0.05, 3.0, 60)
    np.testing.assert_allclose(zbl(jnp.asarray(r), entry(i, j)), formula(r, NUMBERS[i], NUMBERS[j]), rtol=1e-12)


def test_silicon_as_worked_by_hand():
    """At 1 Å: a = 0.4685/(2·14^0.23) = 0.12767 Å, φ(7.833) = 0.0058065 + 0.011937 + 0.0003176, V = 14.39965·196·0.018061 = 50.974 eV."""
    i = ELEMENTS.index("Si")
    np.testing.assert_allclose(zbl(jnp.asarray(1.0), entry(i, i)), 50.974, rtol=1e-4)


@pytest.mark.parametrize(("i", "j"), PAIRS)
def test_switching_is_the_polynomial_that_ends_all_three_derivatives(i, j):
    """A, B, C from three linear equations solved here: −E = A/3 t³ + B/4 t⁴ + C, −E′ = At² + Bt³, −E″ = 2At + 3Bt² at t = r₂ − r₁."""
    inner, outer, a, b = 0.6, 1.4, NUMBERS[i], NUMBERS[j]
    t = outer - inner
    matrix = [[t**3 / 3, t**4 / 4, 1], [t**2, t**3, 0], [2 * t, 3 * t**2, 0]]
    cubic, quartic, constant = np.linalg.solve(matrix, -np.array(derivatives(outer, a, b)))
    r = np.linspace(0.1, 1.39, 50)
    s = np.maximum(r - inner, 0)
    expected = formula(r, a, b) + cubic / 3 * s**3 + quartic / 4 * s**4 + constant
    found = zbl_switched(jnp.asarray(r), entry(i, j, inner, outer))
    np.testing.assert_allclose(found, expected, atol=1e-6 * abs(constant))


def chain(energy, n):
    """The n-th derivative of an energy of several pairs, each by its own distance."""
    for _ in range(n):
        energy = jax.grad(lambda r, f=energy: jnp.sum(f(r)))
    return jax.jit(energy)


@pytest.mark.parametrize("edge", ["inner", "outer"])
def test_energy_force_and_slope_are_continuous(edge):
    pairs, h = all_pairs(), 1e-7
    r = getattr(pairs, edge)
    for n in range(3):
        f = chain(lambda r: zbl_switched(r, pairs), n)
        left, right = f(r - h), f(r + h)
        assert (abs(left - right) < 1e-5 * abs(f(pairs.inner))).all()
        assert edge == "inner" or (right == 0).all()
    third = chain(lambda r: zbl_switched(r, pairs), 3)
    assert (abs(third(r - h) - third(r + h)) > 0.1).all()  # else nothing was switched here


def test_the_wall_ends_as_smoothly():
    outer, h = all_pairs().outer, 1e-7
    for n in range(3):
        f = chain(lambda r: inverse_power(r, outer), n)
        assert (abs(f(outer - h)) < 1e-4 * abs(f(outer / 2))).all() and (f(outer + h) == 0).all()


@pytest.mark.parametrize("kind", ["zbl", "inverse power"])
def test_repulsion_grows_from_the_cutoff_inwards(kind):
    pairs = all_pairs()
    energy = lambda r: zbl_switched(r, pairs) if kind == "zbl" else inverse_power(r, pairs.outer)  # noqa: E731
    r = 0.3 + (pairs.outer - 0.3) * jnp.linspace(0, 0.995, 300)[:, None]
    values, slopes = jax.vmap(energy)(r), jax.vmap(chain(energy, 1))(r)
    assert (values > 0).all() and (jnp.diff(values, axis=0) < 0).all() and (slopes < 0).all() and (jnp.diff(slopes, axis=0) > 0).all()


def test_below_the_inner_radius_the_force_is_that_of_zbl_alone():
    pairs = entry(1, 3)
    r = jnp.linspace(0.1, 0.99, 30) * pairs.inner
    switched, plain = (chain(lambda r, f=f: f(r, pairs), 1)(r) for f in (zbl_switched, zbl))
    np.testing.assert_allclose(switched, plain, rtol=1e-12)


@pytest.mark.parametrize(
    ("bond", "length"),
    [
        ("H-H", 0.741),
        ("C-H", 1.06),
        ("N-N", 1.098),
        ("C-O", 1.128),
        ("C-C", 1.203),
        ("O-H", 0.958),
        ("O-O", 1.208),
        ("C-N", 1.153),
        ("Cu-Cu", 2.22),
    ],
)
def test_the_shortest_bonds_are_not_reached(bond, length):
    """H₂, C₂H₂ (both bonds), N₂, CO, H₂O, O₂, HCN and Cu₂ at their equilibrium lengths [Å]."""
    numbers = [atomic_number(e) for e in bond.split("-")]
    assert pair_radii(numbers)[1][0, 1] < 0.98 * length


@pytest.mark.parametrize("number", [1, 8, 29, 82])
def test_single_precision_down_to_a_twentieth_of_an_angstrom(number):
    inner, outer = pair_radii([number])
    table = zbl_pairs([number], inner, outer)
    r = np.geomspace(0.05, 3.0, 100)
    exact = np.asarray(zbl_switched(jnp.asarray(r), jax.tree.map(lambda v: jnp.full(100, v[0, 0]), table)))
    single = jax.tree.map(lambda v: jnp.full(100, v[0, 0], jnp.float32), table)
    found = zbl_switched(jnp.asarray(r, jnp.float32), single)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, exact, rtol=3e-5, atol=1e-6 * float(abs(table.constant[0, 0])))
    for energy in (lambda r: zbl_switched(r, single), lambda r: inverse_power(r, single.outer)):
        for n in (1, 2):
            assert jnp.isfinite(chain(energy, n)(jnp.asarray(r, jnp.float32))).all()


def test_inverse_power_is_a_twelfth_power_under_an_envelope():
    r, outer = np.array([0.1, 0.5, 0.9]), 1.0
    envelope = 1 - 21 * r**5 + 35 * r**6 - 15 * r**7
    np.testing.assert_allclose(inverse_power(jnp.asarray(r), jnp.full(3, outer)), envelope / r**12, rtol=1e-10)
    assert (inverse_power(jnp.array([1.0, 1.5]), jnp.ones(2)) == 0).all()


def test_radii_have_defaults_and_exceptions():
    inner, outer = pair_radii([1, 6, 55])
    np.testing.assert_allclose(outer[0, 1], 0.75 * (0.31 + 0.76))
    assert outer[2, 2] == 3.0  # caesium would repel up to 3.66 Å
    np.testing.assert_allclose(inner, outer / 2)
    inner, outer = pair_radii([1, 6, 55], outer=2.0, pairs={(6, 1): (0.2, 0.9)})
    assert (outer[0, 1], outer[1, 0], inner[0, 1], outer[0, 0]) == (0.9, 0.9, 0.2, 2.0)
    np.testing.assert_array_equal(outer, outer.T)


def test_radii_that_cannot_be():
    with pytest.raises(ConfigError, match=r"H-H: found an inner radius of 0\.5 Å and an outer one of 0\.465 Å, expected inner below outer"):
        pair_radii([1, 6], inner=0.5)
    with pytest.raises(ConfigError, match="H-Bk: no covalent radius is known for one of them; give inner and outer radius"):
        pair_radii([1, 97])
    pair_radii([1, 97], outer=1.5)
    assert np.isnan(covalent_sums([96, 97])).tolist() == [[False, True], [True, True]]
