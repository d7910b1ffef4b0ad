"""The room of active learning: new structures are made, chosen, labelled and learned from, until enough is known.

- **The loop** (`loop*`, `samplers`, `query`, `selection*`, `learner`, `stopping`, `ledger`): `active` runs it and can be killed anywhere; see docs/active.md.
- **Generation** (`generate_*`): structures from structures, each carrying how it was made. A draw depends on the seed and its index alone, overlapping
  atoms are refused, and what could not be made is counted with the reason.
- **Labelling** (`label*`): an oracle in many processes. Results are on disk before they count and none is paid for twice, whatever is killed when.

Nothing heavy is imported until it is used, for processes that label structures start here too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "ActiveConfig": "loop_config",
    "Generated": "generate_record",
    "LabelStore": "label_store",
    "Labelled": "labelling",
    "Made": "generate_record",
    "Missing": "generate_record",
    "Outcome": "loop",
    "Screen": "generate_record",
    "Selection": "selection",
    "active": "loop",
    "dimers": "generate_molecules",
    "generate": "generate_structures",
    "label": "labelling",
    "load_oracle": "oracle_config",
    "md_frames": "generate_md",
    "random_structures": "generate_random",
    "rattled": "generate_rattle",
    "read_ledger": "ledger",
    "read_oracle_settings": "label_output",
    "select": "selection",
    "strained": "generate_cells",
    "surfaces": "generate_cells",
    "torsions": "generate_molecules",
    "with_interstitials": "generate_cells",
    "with_vacancies": "generate_cells",
    "write_active_report": "active_report",
    "write_labels": "label_output",
}

__all__ = [
    "ActiveConfig",
    "Generated",
    "LabelStore",
    "Labelled",
    "Made",
    "Missing",
    "Outcome",
    "Screen",
    "Selection",
    "active",
    "dimers",
    "generate",
    "label",
    "load_oracle",
    "md_frames",
    "random_structures",
    "rattled",
    "read_ledger",
    "read_oracle_settings",
    "select",
    "strained",
    "surfaces",
    "torsions",
    "with_interstitials",
    "with_vacancies",
    "write_active_report",
    "write_labels",
]

if TYPE_CHECKING:
    from eqpot.active.active_report import write_active_report
    from eqpot.active.generate_cells import strained, surfaces, with_interstitials, with_vacancies
    from eqpot.active.generate_md import md_frames
    from eqpot.active.generate_molecules import dimers, torsions
    from eqpot.active.generate_random import random_structures
    from eqpot.active.generate_rattle import rattled
    from eqpot.active.generate_record import Generated, Made, Missing, Screen
    from eqpot.active.generate_structures import generate
    from eqpot.active.label_output import read_oracle_settings, write_labels
    from eqpot.active.label_store import LabelStore
    from eqpot.active.labelling import Labelled, label
    from eqpot.active.ledger import read_ledger
    from eqpot.active.loop import Outcome, active
    from eqpot.active.loop_config import ActiveConfig
    from eqpot.active.oracle_config import load_oracle
    from eqpot.active.selection import Selection, select


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"eqpot.active.{_HOME[name]}"), name)
    raise AttributeError(f"module 'eqpot.active' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
