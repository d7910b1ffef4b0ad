"""Choosing frames on the command line, and saying what their files call things."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

import typer

from eqpot.core.errors import ConfigError, DataError, EqpotError, did_you_mean

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


Head = Annotated[str | None, typer.Option(help="Level of theory to run at, of a potential that knows several.", show_default=False)]


def at_head(model: Any, head: str | None) -> Any:
    """The potential of one level of theory.

    Raises:
        ConfigError: when it knows several and none is named: the first need not be the one that was trained last.
        EqpotError: when it does not know it.
    """
    if head is not None:
        return model.only(head)
    if len(model.heads) > 1:
        raise ConfigError(
            f"--head: found a potential of {len(model.heads)} levels of theory ({', '.join(model.heads)}), expected the name of one"
        )
    return model


def read_for(
    model: Any, data: Sequence[str], key: Sequence[str] | None, unit: Sequence[str] | None, index: str | None, labelled: bool = True
) -> Any:
    """Structures for a potential: label names, if labels are wanted, are those of its training where none are given; units are never guessed.

    Raises:
        DataError: see `eqpot.read`; also where the training declared a unit other than the default and nobody says what holds for these files.
    """
    from eqpot.data import LabelKeys, Units, read

    units, said = as_units(unit), {entry.partition("=")[0] for entry in unit or ()}
    if trained := {kind: name for kind, name in units_of_training(model).items() if kind not in said}:
        usual = {kind: name or "eV/A^3" for kind, name in vars(Units()).items() if kind in trained}
        raise DataError(
            f"{', '.join(data)}: the potential was trained on files in other units than eV and Å, and nothing says what these are in; "
            f"expected '{unit_options(trained)}' if they are alike, '{unit_options(usual)}' if not"
        )
    keys = _of_training(model).get("keys", {}) if labelled and not key else {}
    names = {label: name for label, name in keys.items() if name is not None}
    try:
        return read(list(data), keys=as_keys(key) if key else LabelKeys(**names), units=units, index=as_slice(index))
    except DataError as error:
        raise DataError(f"{error}; label names are those of the training, --key names others" if names else str(error)) from None


def units_of_training(model: Any) -> dict[str, str]:
    """Units other than the usual ones that the training of a potential declared, by kind."""
    from eqpot.data import Units

    usual = vars(Units())
    return {kind: name for kind, name in _of_training(model).get("units", {}).items() if name != usual.get(kind)}


def unit_options(units: Mapping[str, str]) -> str:
    """{'energy': 'Ry'} → '--unit energy=Ry'."""
    return " ".join(f"--unit {kind}={name}" for kind, name in units.items())


def _of_training(model: Any) -> Mapping[str, Any]:
    return model.metadata.get("config", {}).get("data", {})


def _pairs(option: str, form: str, entries: Sequence[str] | None, record: Any) -> dict[str, str]:
    known, pairs = [f.name for f in fields(record)], {}
    for entry in entries or ():
        name, sign, value = entry.partition("=")
        if not sign or name not in known:
            raise DataError(f"{option}: found '{entry}', expected {form} ({did_you_mean(name, known)})")
        pairs[name] = value
    return pairs
