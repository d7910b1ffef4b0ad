"""Descriptors against values of DScribe, kept in descriptors_reference.json; `make_descriptors_reference.py` makes them anew.

DScribe has no smooth cutoff in its SOAP, and Behler's cosine in its symmetry functions, so it is the sums over neighbours that are compared.
"""

import json
from itertools import product
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eqpot.basis import angular_functions, directions, element_pairs
from eqpot.basis.soap import density_coefficients, density_functions, density_harmonics, density_table, power_spectrum
from eqpot.basis.symmetry_functions import legendre_table

KNOWN = json.loads(Path(__file__).with_name("descriptors_reference.json").read_text())
ENVIRONMENTS = tuple(KNOWN["environments"])
TAIL = 1e-3
"""DScribe counts neighbours beyond the cutoff up to where a Gaussian there has fallen to this."""


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def neighbors(known, atom, reach):
    """Vectors, distances and elements (by place) of all atoms within reach, the atom itself among them."""
    positions, cell = np.array(known["positions"]), known["cell"]
    images = [np.array(s) @ np.array(cell) for s in product(range(-4, 5), repeat=3)] if cell else [np.zeros(3)]
    vectors = np.concatenate([positions - positions[atom] + image for image in images])
    places = np.tile([known["elements"].index(z) for z in known["numbers"]], len(images))
    distance = np.linalg.norm(vectors, axis=1)
    near = distance <= reach
    return vectors[near], distance[near], np.eye(len(known["elements"]))[places[near]]


def relative(found, expected):
    """Largest difference, relative to each value; values below 1e-4 of the largest count as that."""
    return np.max(np.abs(found - expected) / np.maximum(np.abs(expected), 1e-4 * np.abs(expected).max()))


def soap(known, atom):
    """The power spectrum in DScribe's order, which counts the atom itself as a neighbour at distance zero."""
    settings = known["r_cut"], known["sigma"], known["n_max"], known["l_max"]
    reach = known["r_cut"] + known["sigma"] * np.sqrt(-2 * np.log(TAIL))
    vectors, distance, element = neighbors(known, atom, reach)
    units = np.where(distance[:, None] > 0, vectors / np.maximum(distance, 1e-9)[:, None], [0, 0, 1.0])
    table, degree = density_table(*settings, reach), known["l_max"]

    @jax.jit
    def spectrum_of(distance, units, element):
        radial, harmonics = density_functions(distance, table, reach), density_harmonics(units, degree)
        return power_spectrum(density_coefficients(radial[None], harmonics[None], element[None]))[0]

    spectrum = spectrum_of(*map(jnp.asarray, (distance, units, element)))
    parts, n = [], known["n_max"]
    for a, b in zip(*element_pairs(element.shape[1]), strict=True):
        block = np.asarray(spectrum)[:, a * n : (a + 1) * n, b * n : (b + 1) * n]
        first, second = np.triu_indices(n) if a == b else (x.ravel() for x in np.indices((n, n)))
        parts.append(block[:, first, second].ravel())
    return np.concatenate(parts)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_power_spectrum(name):
    known = KNOWN["environments"][name]
    for atom, expected in zip(known["atoms"], np.array(known["soap"]), strict=True):
        assert relative(soap(known, atom), expected) < 1e-6


def symmetry_functions(known, atom):
    """G² [Z, …] and G⁵ [pairs, η, (ζ, λ)] with Behler's cosine cutoff, from our sums over neighbours."""
    vectors, distance, element = neighbors(known, atom, 4.5)
    other = distance > 0
    vectors, distance, element = vectors[other], distance[other], element[other]
    ending = (np.cos(np.pi * distance / 4.5) + 1) / 2
    eta, centers, powers = np.array(KNOWN["eta"]), np.array(KNOWN["centers"]), tuple(KNOWN["powers"])
    gaussians = np.exp(-eta[:, None] * (distance[:, None, None] - centers) ** 2) * ending[:, None, None]
    weights = np.exp(-eta * distance[:, None] ** 2) * ending[:, None]
    harmonics = directions(jnp.asarray(vectors / distance[:, None]), max(powers))
    moments = jnp.einsum("ms,mz,mb->szb", harmonics, jnp.asarray(element), jnp.asarray(weights))[None]
    squares = jnp.asarray(np.einsum("mz,mb->zb", element, weights**2))[None]
    return np.einsum("mz,mec->zec", element, gaussians), np.asarray(angular_functions(moments, squares, powers))[0]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_symmetry_functions(name):
    """DScribe's order is f_c and G² of each element, then G⁴ and G⁵ of each pair of elements, which may be named in another order."""
    known = KNOWN["environments"][name]
    assert legendre_table(tuple(KNOWN["powers"])).shape[1] == 2 * len(KNOWN["powers"])
    Z, n_radial, n_angular = len(known["elements"]), len(KNOWN["eta"]) * len(KNOWN["centers"]), 2 * len(KNOWN["eta"]) * len(KNOWN["powers"])
    for atom, values in zip(known["atoms"], np.array(known["acsf"]), strict=True):
        radial, angular = symmetry_functions(known, atom)
        head, tail = np.split(values, [Z * (1 + n_radial)])
        assert relative(radial.reshape(Z, -1), head.reshape(Z, -1)[:, 1:]) < 1e-6
        by_pair = tail.reshape(Z * (Z + 1) // 2, 2 * n_angular)[:, n_angular:]
        pairs = list(zip(*element_pairs(Z), strict=True))
        order = [pairs.index((b, a)) for a in range(Z) for b in range(a + 1)]
        assert relative(angular.reshape(len(pairs), -1)[order], by_pair) < 1e-6
