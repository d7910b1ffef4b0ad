"""Plane-wave density-functional theory through GPAW, in process: the projector augmented-wave method without a program beside Python.

Install: `pip install gpaw gpaw-data`; its C code is compiled, for which libxc and a BLAS must be there (apt install libxc-dev libopenblas-dev).
"""

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from eqpot.core.errors import ConfigError, DataError
from eqpot.graph.structure import Labels, Structure
from eqpot.oracles.ase import gamma_centred_grid, labels_from_calculator
from eqpot.oracles.base import Oracle, json_settings, noting, require_molecule_or_crystal, require_moments, require_positive

OURS = {"mode", "xc", "kpts", "txt", "symmetry", "charge", "occupations", "convergence", "maxiter"}
"""Keywords of GPAW that the oracle sets itself."""
AIDS = ("mixer", "eigensolver", "basis", "random")
"""Keywords of GPAW for the way to self-consistency; with plane waves the basis is only the first guess."""


@dataclass(frozen=True, eq=False)
class GPAWOracle(Oracle):
    """Energy, forces and stress with plane waves, with the structure's total charge (compensated by a uniform background).

    The energy is the free energy of the smeared occupations, from which the forces derive.
    J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024).

    Attributes:
        functional: as GPAW names it, such as 'PBE', 'LDA', 'RPBE'.
        cutoff: of the plane waves [eV]; it is for you to converge it, the stress needs more than the forces.
        kpoint_density: points per reciprocal length [Å], along each direction at least density·2π/a; the grid has the Γ point.
        smearing_width: of the Fermi–Dirac occupations [eV].
        convergence: of energy [eV per electron], density and states (GPAW's key), such as {"energy": 1e-6}.
        max_iterations: of the self-consistency.
        magnetic_moments: of elements, from which spins are polarised, such as {"Fe": 2.3} [Bohr magnetons]; without any they are not.
        keywords: others of GPAW, such as {"mixer": {"beta": 0.02}, "hund": false}.
    """

    functional: str = "PBE"
    _: KW_ONLY
    cutoff: float = 500.0
    kpoint_density: float = 4.0
    smearing_width: float = 0.1
    convergence: Mapping[str, float] = field(default_factory=lambda: {"energy": 1e-6, "density": 1e-6})
    max_iterations: int = 333
    magnetic_moments: Mapping[str, float] = field(default_factory=dict)
    keywords: Mapping[str, Any] = field(default_factory=dict)
    setups: str = field(init=False)

    def __post_init__(self) -> None:
        require_positive(self, "cutoff", "kpoint_density", "smearing_width", "max_iterations")
        if taken := sorted(OURS & self.keywords.keys()):
            raise ConfigError(f"keywords: found '{taken[0]}', which the oracle sets itself; use its own keys")
        require_moments("magnetic_moments", self.magnetic_moments, 10.0)
        if self.keywords.get("spinpol") and not (self.magnetic_moments or self.keywords.get("hund")):
            raise ConfigError(
                "keywords: found spinpol, which starts without magnetization and stays there; say where it is: magnetic_moments: {Fe: 2.3}"
            )
        object.__setattr__(self, "keywords", json_settings(self.keywords))
        object.__setattr__(self, "setups", checksum(setup_name(self.functional)))
        try:
            self._calculator((1, 1, 1), 0.0, None)
        except Exception as error:
            raise ConfigError(
                f"GPAW cannot be built with these keywords: {type(error).__name__}: {' '.join(str(error).split())}"
            ) from error

    @property
    def name(self) -> str:
        return f"{self.functional}, GPAW"

    @property
    def settings(self) -> dict[str, Any]:
        names = ("functional", "cutoff", "kpoint_density", "smearing_width", "max_iterations", "keywords")
        head = {
            "oracle": "gpaw",
            "version": version("gpaw"),
            "ase": version("ase"),
            "setups": {"name": setup_name(self.functional), "sha256": self.setups},
        }
        spin = {"magnetic_moments": dict(self.magnetic_moments)} if self.magnetic_moments else {}
        return head | {n: getattr(self, n) for n in names} | {"convergence": dict(self.convergence)} | spin

    @property
    def aids(self) -> tuple[str, ...]:
        return ("convergence", "max_iterations", *(f"keywords.{key}" for key in AIDS))

    def compute(self, structure: Structure) -> Labels:
        require_molecule_or_crystal(structure, "this oracle", molecules=False)
        grid = gamma_centred_grid(structure, self.kpoint_density)
        with tempfile.TemporaryDirectory(prefix="eqpot-gpaw-") as folder:
            output = Path(folder) / "gpaw.txt"
            with noting(lambda: output.read_text(errors="replace") if output.exists() else ""):
                try:
                    return labels_from_calculator(structure, self._calculator(grid, structure.charge, str(output)), self.magnetic_moments)
                except _gpaw("gpaw").KohnShamConvergenceError as error:
                    raise DataError(
                        f"{self.name}: not converged after {self.max_iterations} iterations; try a mixer of small beta"
                    ) from error

    def _calculator(self, grid: tuple[int, int, int], charge: float, output: str | None) -> Any:
        return _gpaw("gpaw").GPAW(
            mode={"name": "pw", "ecut": self.cutoff},
            xc=self.functional,
            kpts={"size": grid, "gamma": True},
            occupations={"name": "fermi-dirac", "width": self.smearing_width},
            convergence=dict(self.convergence),
            maxiter=self.max_iterations,
            symmetry={"point_group": False},  # otherwise that of the atoms as they stand is imposed
            charge=charge,
            txt=output,
            **self.keywords,
        )


def setup_name(functional: str) -> str:
    """Which atomic setups GPAW takes for a functional.

    Raises:
        ConfigError: no such functional, or no GPAW.
    """
    try:
        return _gpaw("gpaw.xc").XC(functional).get_setup_name()
    except (NameError, ValueError, KeyError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"functional: '{functional}' is not known to GPAW ({error}); use one of its names, such as PBE") from None


@cache
def checksum(name: str) -> str:
    """SHA-256 over names and contents of all atomic setups of this name, each where GPAW finds it first.

    Raises:
        ConfigError: there are none.
    """
    paths = [Path(path) for path in _gpaw("gpaw").setup_paths]
    files = {file.name: file for folder in reversed(paths) for file in sorted(folder.glob(f"*.{name}*"))}
    if not files:
        raise ConfigError(f"GPAW finds no atomic setups for {name}; install them with: pip install gpaw-data")
    contents = {key: hashlib.sha256(files[key].read_bytes()).hexdigest() for key in sorted(files)}
    return hashlib.sha256(str(contents).encode()).hexdigest()


def _gpaw(module: str) -> Any:
    """GPAW, imported when the first oracle is built."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"the oracle needs gpaw, which cannot be imported ({error}); install it with: pip install gpaw gpaw-data"
        ) from error
