"""Density-functional (and Hartree–Fock) calculations of molecules through PySCF, in process, with nothing but `pip install pyscf`.

Forces include the response of the integration grid (except for the nonlocal correlation of functionals such as wb97m-v), so they are the gradient of
the very energy at any grid, and sum to zero. Elements for which the
basis set comes with effective core potentials get them: a def2 basis alone has no core orbitals for iodine.
"""

import io
from dataclasses import KW_ONLY, dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError, DataError, StructureError
from eqpot.graph.structure import Labels, Structure
from eqpot.oracles.base import Oracle, noting, require_positive


@dataclass(frozen=True, eq=False)
class PySCFOracle(Oracle):
    """Energy, forces and dipole of a molecule with the structure's total charge, by Kohn–Sham theory in Gaussian basis sets.

    Singlets are restricted, all others unrestricted. P. Sun et al., J. Chem. Phys. 153, 024109 (2020).

    Attributes:
        functional: as PySCF names it: 'pbe', 'b3lyp', 'r2scan', 'wb97m-v', 'hf'; with dispersion 'pbe-d3bj', 'b3lyp-d4' (these
            need the package pyscf-dispersion).
        basis: one of PySCF's basis sets, such as 'def2-svp' or 'def2-tzvpd'.
        multiplicity: 2S + 1; None means the lowest that the number of electrons allows. Give it for radicals
            and for atoms: a triplet is not found by itself.
        density_fitting: Coulomb and exchange integrals by density fitting: faster, about 1 meV off.
        grid_level: of the integration grid, 0 to 9.
        convergence: of the energy [eV].
        max_iterations: of the self-consistency.
        level_shift: of the empty orbitals [eV]; 5 to 10 helps where the gap is small.
        second_order: Newton's method, for what does not converge otherwise.
    """

    functional: str = "pbe"
    basis: str = "def2-svp"
    _: KW_ONLY
    multiplicity: int | None = None
    density_fitting: bool = True
    grid_level: int = 3
    convergence: float = 1e-8
    max_iterations: int = 100
    level_shift: float = 0.0
    second_order: bool = False

    def __post_init__(self) -> None:
        if self.multiplicity is not None and self.multiplicity < 1:
            raise ConfigError(f"multiplicity: found {self.multiplicity}, expected 2S + 1, which is at least 1")
        if not 0 <= self.grid_level <= 9:
            raise ConfigError(f"grid_level: found {self.grid_level}, expected 0 to 9")
        if not self.level_shift >= 0:
            raise ConfigError(f"level_shift: found {self.level_shift}, expected at least 0")
        require_positive(self, "convergence", "max_iterations")
        self._require_known()

    @property
    def name(self) -> str:
        return f"{self.functional}/{self.basis}"

    @property
    def settings(self) -> dict[str, Any]:
        names = ("functional", "basis", "multiplicity", "density_fitting", "grid_level", *self.aids)
        programs = {"version": version("pyscf")} | ({"dispersion": version("pyscf-dispersion")} if self._dispersion() else {})
        return {"oracle": "pyscf", **programs} | {n: getattr(self, n) for n in names}

    @property
    def aids(self) -> tuple[str, ...]:
        return ("convergence", "max_iterations", "level_shift", "second_order")

    def compute(self, structure: Structure) -> Labels:
        from ase.units import Bohr, Debye, Hartree

        log = io.StringIO()
        with noting(log.getvalue):
            field = self._field(structure, log)
            energy = field.kernel()
            if not field.converged:
                raise DataError(
                    f"{self.name}: not converged after {self.max_iterations} iterations; try level_shift, or second_order: true"
                )
            gradient = field.nuc_grad_method()
            gradient.grid_response = self._grid_response(field)
            forces = -np.array(gradient.kernel(), np.float64) * Hartree / Bohr
            dipole = np.array(field.dip_moment(unit="Debye", verbose=0), np.float64) * Debye
        return Labels(energy=float(energy) * Hartree, forces=forces, dipole=dipole)

    def _field(self, structure: Structure, log: io.StringIO) -> Any:
        """The mean field of a structure, not solved yet."""
        from ase.units import Hartree

        dft, molecule = import_module("pyscf.dft"), self._molecule(structure, log)
        field = (dft.UKS if molecule.spin else dft.RKS)(molecule, xc=self.functional)
        field.grids.level = self.grid_level
        field.conv_tol = self.convergence / Hartree
        field.max_cycle = self.max_iterations
        field.level_shift = self.level_shift / Hartree
        if self.density_fitting:
            field = field.density_fit()
        return field.newton() if self.second_order else field

    def _grid_response(self, field: Any) -> bool:
        """Whether the grid's response belongs to the forces: not without a grid, nor for VV10, where it takes minutes for water and gives 1e-4 eV/Å."""
        return not field.do_nlc() and _pyscf("dft.libxc").xc_type(field.xc) != "HF"

    def _molecule(self, structure: Structure, log: io.StringIO) -> Any:
        if structure.pbc.any():
            raise StructureError(
                f"pbc is {structure.pbc.tolist()}, but this oracle knows only molecules; use espresso or gpaw for crystals"
            )
        if structure.charge != round(structure.charge):
            raise StructureError(f"charge is {structure.charge}, expected a whole number of electrons")
        electrons = int(structure.numbers.sum()) - round(structure.charge)
        unpaired = electrons % 2 if self.multiplicity is None else self.multiplicity - 1
        if unpaired > electrons or (electrons - unpaired) % 2:
            raise StructureError(f"multiplicity {unpaired + 1} is impossible with the {electrons} electrons of {structure.formula}")
        gto, symbols = _pyscf("gto"), [symbol(z) for z in structure.numbers]
        molecule = gto.Mole()
        molecule.stdout = log
        return molecule.build(
            atom=list(zip(symbols, structure.positions.tolist(), strict=True)),
            basis=self.basis,
            ecp={s: self.basis for s in set(symbols) if self._has_core(s)},
            charge=round(structure.charge),
            spin=unpaired,
            verbose=4,
        )

    def _has_core(self, element: str) -> bool:
        try:
            return bool(_pyscf("gto.basis").load_ecp(self.basis, element))
        except RuntimeError:  # no such basis set, or no such element in it: that the basis exists is checked elsewhere
            return False

    def _dispersion(self) -> Any:
        return _pyscf("scf.dispersion").parse_dft(self.functional)[2]

    def _require_known(self) -> None:
        """ConfigError for a functional, basis set or dispersion that is not there."""
        libxc = _pyscf("dft.libxc")
        try:
            libxc.parse_xc(_pyscf("scf.dispersion").parse_dft(self.functional)[0])
        except (KeyError, ValueError, NotImplementedError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"functional: '{self.functional}' is not known to PySCF ({reason:.100}); use its names, such as pbe"
            ) from None
        if self._dispersion():
            _pyscf("dispersion", "pyscf-dispersion")
        try:
            _pyscf("gto.basis").load(self.basis, "H")
        except (RuntimeError, KeyError):
            raise ConfigError(f"basis: '{self.basis}' is not known to PySCF; use one of its names, such as def2-svp") from None


def _pyscf(module: str, package: str = "pyscf") -> Any:
    """A module of PySCF, imported when the first oracle is built."""
    try:
        return import_module(f"pyscf.{module}")
    except ImportError as error:
        raise ConfigError(
            f"the oracle needs {package}, which cannot be imported ({error}); install it with: pip install {package}"
        ) from error
