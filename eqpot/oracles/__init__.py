"""The teachers: an oracle takes structures and gives each one its labels, or the reason why it could not.

`base` holds the contract and the screening of results, `ase` wraps any ASE calculator, `tblite` is the embedded
quantum-mechanical oracle (GFN-xTB). This room knows nothing of potentials. How to add an oracle: CONTRIBUTING.md.
"""

from eqpot.oracles.ase import ASEOracle
from eqpot.oracles.base import Failure, Limits, Oracle
from eqpot.oracles.tblite import TBLiteOracle

__all__ = ["ASEOracle", "Failure", "Limits", "Oracle", "TBLiteOracle"]
