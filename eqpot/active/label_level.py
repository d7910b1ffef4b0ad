"""What an alternative may change: what helps to converge, never the potential energy surface."""

from eqpot.active.label_record import changes
from eqpot.core.errors import ConfigError
from eqpot.oracles import ASEOracle, Oracle

KEYWORDS = "parameters.keywords."
"""Where the keywords of an ASE oracle from a file are in its settings."""


def require_same_level(oracle: Oracle, other: Oracle, where: str = "alternatives") -> None:
    """Whether an oracle may stand in for another one.

    Raises:
        ConfigError: naming the settings that would be another level of theory, or nothing differs at all.
    """
    changed = changes(oracle.settings, other.settings)
    if not changed:
        raise ConfigError(f"{where}: found the settings of the oracle, expected others; it would fail again")
    foreign = [change for change in changed if not any(f"{change[0]}.".startswith(f"{aid}.") for aid in oracle.aids)]
    if foreign:
        found = "; ".join(f"{name}: {given!r:.60} (the oracle has {own!r:.60})" for name, own, given in foreign)
        may = ", ".join(oracle.aids) or "nothing"
        raise ConfigError(
            f"{where}: found {found}; expected the same level of theory, which leaves {may} to change{_hint(oracle, foreign[0][0])}"
        )


def _hint(oracle: Oracle, name: str) -> str:
    """ASE cannot tell what a keyword does, but the user can."""
    if not isinstance(oracle, ASEOracle) or not name.startswith(KEYWORDS):
        return ""
    key = name.removeprefix(KEYWORDS)
    return f"; if '{key}' only helps to converge, say so beside 'keywords': convergence: [{key}]"
