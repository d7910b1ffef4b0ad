"""Labelled structures as a file that says which oracle they are from, and holds one level of theory only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eqpot.active.label_record import differences, settings_hash
from eqpot.active.labelling import Labelled
from eqpot.core.errors import DataError
from eqpot.data.extxyz import iterate_extxyz
from eqpot.data.extxyz_write import write_extxyz
from eqpot.graph.structure import Frame


def write_labels(path: str | Path, *labelled: Labelled, overwrite: bool = False) -> None:
    """Write the frames of one or more calls as extended XYZ, the settings of the oracle with each.

    Info keys: `oracle`, the settings as JSON; `oracle_hash`, their SHA-256; `oracle_alternative`, the settings of the alternative that
    gave this label, where there was one.

    Raises:
        DataError: labels of different settings, nothing to write, or a file that exists.
    """
    rows = [(r, part, a) for part in labelled for r, a in zip(part.results, part.alternatives, strict=True) if isinstance(r, Frame)]
    if not rows:
        raise DataError(f"{path}: found no labels to write, expected at least one; the reasons are with the failures")
    for _, part, _ in rows:
        if differing := differences(rows[0][1].settings, part.settings):
            raise DataError(f"{path}: found labels of different settings ({'; '.join(differing)}), expected one level of theory in a file")
    write_extxyz(path, [frame for frame, _, _ in rows], info=[provenance(part.settings, a) for _, part, a in rows], overwrite=overwrite)


def provenance(settings: Mapping[str, Any], alternative: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Info keys of a frame that an oracle labelled with these settings, or with those of an alternative to them."""
    info = {"oracle": json.dumps(settings, sort_keys=True), "oracle_hash": settings_hash(settings)}
    return info | ({"oracle_alternative": json.dumps(alternative, sort_keys=True)} if alternative is not None else {})


def read_oracle_settings(path: str | Path) -> dict[str, Any] | None:
    """The settings of the oracle that labelled the frames of an extended-XYZ file; None when no frame says so.

    Raises:
        DataError: frames of different settings, some that say nothing, or settings that do not fit their hash.
    """
    first: Any = None
    for number, raw in enumerate(iterate_extxyz(path)):
        text = raw.info.get("oracle")
        settings = None if text is None else json.loads(text)
        if number == 0:
            first = settings
        if (settings is None) != (first is None):
            raise DataError(
                f"{raw.origin}: found {'no oracle' if settings is None else 'an oracle'}, unlike the frames before; expected one"
            )
        if differing := differences(first, settings):
            raise DataError(f"{raw.origin}: labelled with other settings than the frames before ({'; '.join(differing)})")
        if settings is not None and settings_hash(settings) != raw.info.get("oracle_hash"):
            raise DataError(f"{raw.origin}: the settings in 'oracle' do not fit 'oracle_hash'; was the file edited?")
    return first
