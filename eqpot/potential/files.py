"""What the file of a potential says in its header, and how a potential is made of it again; the format itself is in `archive`."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from eqpot.core.elements import atomic_number
from eqpot.core.errors import ArchiveError
from eqpot.models import Normalization, model_config
from eqpot.potential.archive import check_tensors, flat_shapes, flatten, read_archive, unflatten, write_archive
from eqpot.potential.spec import ModelSpec, Params
from eqpot.potential.trust import PREFIX, Trust

ADDED = ("outputs/element_charges",)
"""Parameters that older potentials do not have; they mean nothing when they are zero."""


def write_potential(
    path: str | Path, spec: ModelSpec, params: Params, references: tuple[float, ...], metadata: dict[str, Any], dtype: str, trust: Trust
) -> None:
    """Write the parts of a `Potential` to one file; a run's choices (backend, products) are not among them."""
    header = {
        "model": spec.config.archived(),
        "elements": list(spec.elements),
        "normalization": vars(spec.normalization) | {"shift": list(spec.normalization.shift)},
        "reference_energies": list(references),
        "members": len(jax.tree.leaves(params)[0]),
        "dtype": dtype,
        "metadata": metadata,
    }
    own, tensors = trust.archived()
    write_archive(path, header | ({"trust": own} if own else {}), flatten(jax.device_get(params)) | tensors)


def read_potential(path: str | Path) -> tuple[ModelSpec, Params, tuple[float, ...], dict[str, Any], str, Trust]:
    """Specification, parameters, reference energies, metadata and dtype of a file.

    Raises:
        ArchiveError: see `read_archive`; also when tensors do not fit the architecture in the header.
    """
    header, tensors = read_archive(path)
    try:
        norm = header["normalization"]
        normalization = Normalization(norm["average_neighbors"], norm["scale"], tuple(norm["shift"]))
        spec = ModelSpec(model_config(header["model"]), tuple(header["elements"]), normalization)
        shapes, members = spec.shapes(), int(header["members"])
        references, dtype, metadata = tuple(map(float, header["reference_energies"])), header["dtype"], dict(header["metadata"])
        _check_header(spec, members, references, dtype)
    except KeyError as error:
        raise ArchiveError(f"{path}: the header lacks {error}") from None
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"{path}: the header misstates something ({error})") from None
    own = {name: tensors.pop(name) for name in list(tensors) if name.startswith(PREFIX)}
    expected = {k: (members, *v.shape) for k, v in flat_shapes(shapes).items()}
    for name in (n for n in expected if n.endswith(ADDED) and n not in tensors):
        tensors[name] = np.zeros(expected[name], dtype)
    check_tensors(path, tensors, expected, dtype)
    try:
        trust = Trust.from_archive(header.get("trust", {}), own, len(spec.elements))
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}") from None
    return spec, unflatten(tensors, shapes), references, metadata, dtype, trust


def _check_header(spec: ModelSpec, members: int, references: tuple[float, ...], dtype: Any) -> None:
    for element in spec.elements:
        atomic_number(element)
    if len(references) != len(spec.elements) * spec.config.n_heads or not np.isfinite(references).all():
        heads = f" at {spec.config.n_heads} levels of theory" if spec.config.heads else ""
        raise ArchiveError(f"reference energies {references} for the elements {spec.elements}{heads}")
    if members < 1:
        raise ArchiveError(f"{members} members")
    if dtype not in ("float32", "float64"):
        raise ArchiveError(f"dtype {dtype!r}")
