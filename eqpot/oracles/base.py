"""What an oracle promises.

1. One answer per structure, in order: a `Frame` with labels or a `Failure` with the reason. A bad structure never
   raises and never costs the others their labels. What is wrong with the oracle itself (an unknown method, a
   program that is not installed) raises when the oracle is built; a full disk and its like (see `machine`) raise DataError.
2. A label depends on the structure and on `settings` alone: no state is carried from one structure to the next.
3. Forces are minus the gradient of the very energy that is given, and stress is its strain derivative.
4. No label leaves without having been screened: programs return finite nonsense for overlapping atoms.

A new oracle gives `name`, `settings` and `compute`; the rest is here, once, for all of them.
"""

import json
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from eqpot.core.elements import atomic_number
from eqpot.core.errors import ConfigError, EqpotError, StructureError
from eqpot.graph.neighbors import find_neighbors
from eqpot.graph.structure import Frame, Labels, Structure
from eqpot.oracles.machine import machine_fault

CHARGE = 0.2
"""How far the sum of the atoms' charges may be from the total charge [e]; programs share it out in many ways."""
LOG_CHARACTERS = 4000
"""How much of a program's output is kept with a failure."""


@dataclass(frozen=True, eq=False)
class Failure:
    """A structure that got no labels.

    Attributes:
        structure: the structure as it was asked, or None where the item was no structure at all.
        reason: one line for people.
        log: all that is known about it (traceback, program output).
    """

    structure: Structure | None
    reason: str
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a label must satisfy to be believed; `math.inf` (or 0 for the distance) switches a limit off.

    Attributes:
        min_distance: closest pair of atoms that is sent to the program [Å].
        max_force: largest force on any atom [eV/Å].
        max_net_force: |Σ F| divided by the number of atoms [eV/Å]; the energy does not depend on where the
            system is, so what remains is numerical noise (coarse grids leave 0.01 and more).
    """

    min_distance: float = 0.3
    max_force: float = 200.0
    max_net_force: float = 0.005

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value >= 0:
                raise ConfigError(f"limits.{name}: found {value}, expected a number of at least 0")


@dataclass(frozen=True, eq=False)
class Oracle(ABC):
    """Base of all oracles; see the module's text for what it promises.

    Attributes:
        limits: the screening of inputs and results.
    """

    limits: Limits = field(default_factory=Limits, kw_only=True)

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name of the method, such as 'GFN2-xTB'."""

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Everything that the labels depend on besides the structure, as JSON values: the provenance of a data set."""

    @property
    def aids(self) -> tuple[str, ...]:
        """Names of the settings (nested ones dotted) that help to converge and leave the potential energy surface as it is.

        All others make the level of theory: oracles that differ in one of them may not stand in for each other.
        """
        return ()

    @abstractmethod
    def compute(self, structure: Structure) -> Labels:
        """Labels of one checked structure, not yet screened. May raise anything; `label` turns it into a Failure."""

    @final
    def label(self, structures: Iterable[Any]) -> list[Frame | Failure]:
        """Label structures one by one.

        Args:
            structures: `eqpot.Structure` or `ase.Atoms`.

        Returns:
            One `Frame` or `Failure` per structure, in the order given.

        Raises:
            DataError: the machine is at fault, such as a full disk.
        """
        return [self._label_one(item) for item in structures]

    def _label_one(self, item: Any) -> Frame | Failure:
        structure = None
        try:
            structure = Structure.from_atoms(item)
            find_neighbors(structure, 0.0, self.limits.min_distance)  # checks the structure, then the distances
            labels = self.compute(structure)
        except Exception as error:
            if fault := machine_fault(error):
                raise fault from error
            reason = str(error) if isinstance(error, EqpotError) else f"{self.name}: {type(error).__name__}: {error}"
            return Failure(structure, " ".join(reason.split()), traceback.format_exc())
        reason = screen(labels, structure, self.limits)
        if reason:
            return Failure(structure, f"{self.name}: {reason}", repr(labels))
        return Frame(structure, labels, origin=self.name)


def screen(labels: Labels, structure: Structure, limits: Limits) -> str | None:
    """Why these labels of a structure cannot be believed, or None when nothing speaks against them."""
    try:
        labels.check(len(structure))
    except EqpotError as error:
        return str(error)
    if labels.energy is None:
        return "no energy was given"
    if labels.charges is not None and abs(labels.charges.sum() - structure.charge) > CHARGE:
        return f"charges of the atoms sum to {labels.charges.sum():.4g} e, but the structure has {structure.charge:g} e: computed with another charge?"
    if labels.forces is None:
        return None
    norms = np.linalg.norm(labels.forces, axis=1)
    if norms.max() > limits.max_force:
        return f"force on atom {norms.argmax()} is {norms.max():.4g} eV/Å, above the limit of {limits.max_force:g}"
    net = float(np.linalg.norm(labels.forces.sum(0))) / len(structure)
    if net > limits.max_net_force:
        return f"forces sum to {net:.4g} eV/Å per atom, above the limit of {limits.max_net_force:g}: not converged, or an external field"
    return None


@contextmanager
def noting(log: Callable[[], str]) -> Iterator[None]:
    """Adds the end of what a program wrote to whatever is raised inside, so that it stands in the log of the Failure."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the end of the program's output:\n{log()[-LOG_CHARACTERS:]}")
        raise


def require_moments(name: str, moments: Mapping[str, float], largest: float) -> None:
    """ConfigError unless these are magnetic moments by element, not all zero."""
    for element, value in moments.items():
        atomic_number(element)
        if not abs(value) <= largest:
            raise ConfigError(f"{name}.{element}: found {value}, expected a number from {-largest:g} to {largest:g}")
    if moments and not any(moments.values()):
        raise ConfigError(f"{name}: found 0 for all elements, which stays without magnetization; leave it out, or give one a value")


def require_positive(oracle: Oracle, *names: str) -> None:
    """ConfigError unless these fields are positive numbers."""
    for name in names:
        if not getattr(oracle, name) > 0:
            raise ConfigError(f"{name}: found {getattr(oracle, name)}, expected a positive number")


def require_molecule_or_crystal(structure: Structure, program: str, *, molecules: bool = True) -> None:
    """StructureError for periodicity that a program would silently take for another one."""
    periodic = structure.pbc
    if not periodic.all() and (periodic.any() or not molecules):
        knows = "molecules and fully periodic cells" if molecules else "fully periodic cells"
        raise StructureError(
            f"pbc is {periodic.tolist()}, but {program} knows only {knows}; "
            "give it a cell with vacuum and make it periodic in all directions"
        )


def json_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the settings with only JSON values in it.

    Raises:
        ConfigError: naming what cannot be written down, since provenance that cannot be stored is none.
    """
    try:
        return json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"parameters: {error}; expected only text, numbers, booleans, None, lists and mappings") from None
