"""Choosing frames on the command line, and saying what their files call things."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from eqpot.core.errors import DataError, EqpotError, did_you_mean

Keys = Annotated[list[str] | None, typer.Option(metavar="LABEL=NAME", help="Name of a label in the files, such as energy=E_dft.")]
UnitsOf = Annotated[list[str] | None, typer.Option(metavar="KIND=UNIT", help="Unit of energy, length or stress, such as energy=Ry.")]


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


def as_keys(entries: Sequence[str] | None) -> Any:
    """['energy=E_dft'] → `LabelKeys`.

    Raises:
        DataError: for a label that there is not.
    """
    from eqpot.data import LabelKeys

    return LabelKeys(**_pairs("--key", "LABEL=NAME", entries, LabelKeys))


def as_units(entries: Sequence[str] | None) -> Any:
    """['energy=Ry'] → `Units`.

    Raises:
        DataError: for a kind or a unit that there is not.
    """
    from eqpot.data import Units

    return Units(**_pairs("--unit", "KIND=UNIT", entries, Units))


def _pairs(option: str, form: str, entries: Sequence[str] | None, record: Any) -> dict[str, str]:
    known, pairs = [f.name for f in fields(record)], {}
    for entry in entries or ():
        name, sign, value = entry.partition("=")
        if not sign or name not in known:
            raise DataError(f"{option}: found '{entry}', expected {form} ({did_you_mean(name, known)})")
        pairs[name] = value
    return pairs
