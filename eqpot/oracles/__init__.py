"""The teachers: an oracle takes structures and gives each one its labels, or the reason why it could not.

`base` holds the contract and the screening of results, `ase` wraps any ASE calculator. `tblite` is the embedded quantum-mechanical
oracle (GFN-xTB), `pyscf` is density-functional theory of molecules, `espresso` and `gpaw` that of crystals; their programs are imported or looked for
when an oracle is built. This room knows nothing of potentials. How to add an oracle: CONTRIBUTING.md.
"""

from eqpot.oracles.ase import ASEOracle
from eqpot.oracles.base import Failure, Limits, Oracle
from eqpot.oracles.espresso import EspressoOracle
from eqpot.oracles.gpaw import GPAWOracle
from eqpot.oracles.pyscf import PySCFOracle
from eqpot.oracles.tblite import TBLiteOracle

__all__ = ["ASEOracle", "EspressoOracle", "Failure", "GPAWOracle", "Limits", "Oracle", "PySCFOracle", "TBLiteOracle"]
