"""Choosing frames on the command line."""

from eqpot.core.errors import EqpotError


def as_slice(text: str | None) -> slice | None:
    """'3' → that frame, ':100' or '::10' → a slice, None → all.

    Raises:
        EqpotError: anything else.
    """
    if text is None:
        return None
    try:
        parts = [int(p) if p.strip() else None for p in text.split(":")]
    except ValueError:
        parts = []
    if len(parts) == 1 and parts[0] is not None:
        return slice(parts[0], parts[0] + 1 or None)
    if len(parts) in (2, 3) and (len(parts) == 2 or parts[2] != 0):
        return slice(*parts)
    raise EqpotError(f"index: found '{text}', expected a number or a slice such as ':100' or '::10'")
