"""The potential as one file: safetensors, whose header says what the numbers mean.

The header carries format version, configuration, elements, units, reference energies and metadata as JSON, after a SHA-256 over
that and the tensors. Nothing in it is executed; loading checks names, shapes, types, finiteness and the checksum before a potential exists.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from eqpot.core.errors import ArchiveError
from eqpot.core.files import replace_file

FORMAT = 1
"""Version of the file format; a newer one is refused, an older one would be migrated here."""
UNITS = {"energy": "eV", "length": "Angstrom", "stress": "eV/Angstrom^3", "charge": "e"}


def flatten(tree: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dict of arrays → {'a/b/0': array}, sorted by name."""
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree)}
    items = [flatten(value, f"{prefix}/{key}" if prefix else str(key)) for key, value in tree.items()]
    return dict(sorted(pair for item in items for pair in item.items()))


def unflatten(flat: dict[str, np.ndarray], like: Any, prefix: str = "") -> Any:
    """Inverse of `flatten`, with the keys of `like` (which may be integers)."""
    if not isinstance(like, dict):
        return flat[prefix]
    return {key: unflatten(flat, value, f"{prefix}/{key}" if prefix else str(key)) for key, value in like.items()}


def _digest(header: str, tensors: dict[str, np.ndarray]) -> str:
    sha = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].tobytes())
    return sha.hexdigest()


def write_archive(path: str | Path, header: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write atomically: the file is complete or absent, and an older file survives a failed write.

    Raises:
        ArchiveError: when a tensor is not finite or the folder cannot be written.
    """
    from safetensors.numpy import save

    path, tensors = Path(path), {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in tensors.items()}
    bad = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if bad:
        raise ArchiveError(f"{path}: not written, the parameter {bad[0]} is not finite")
    try:
        text = json.dumps({"format": FORMAT, "units": UNITS, **header}, sort_keys=True)
    except TypeError as error:
        raise ArchiveError(f"{path}: not written, the metadata cannot be JSON ({error})") from None
    blob = save(tensors, metadata={"eqpot": f"{_digest(text, tensors)} {text}"})  # one key: two are stored in no fixed order
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, blob)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be written ({error.strerror or error})") from None


def read_archive(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and tensors of a potential file, verified.

    Raises:
        ArchiveError: missing, not a potential, truncated, altered, of a newer format, or with non-finite parameters.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise ArchiveError(f"{path}: no such file; expected a potential written by Potential.save")
    if path.suffix in (".pt", ".pth", ".pkl", ".pickle"):
        raise ArchiveError(f"{path}: pickled models are refused, they can run code; expected a .safetensors potential")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArchiveError(f"{path}: damaged or not a potential ({str(error).splitlines()[0]})") from None
    if "eqpot" not in metadata:
        raise ArchiveError(f"{path}: a safetensors file, but not a potential of eqpot (its header has no 'eqpot')")
    checksum, _, text = metadata["eqpot"].partition(" ")
    header = _read_header(path, text)
    if _digest(text, tensors) != checksum:
        raise ArchiveError(f"{path}: the checksum does not match; the file was altered or damaged after it was written")
    bad = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if bad:
        raise ArchiveError(f"{path}: the parameter {bad[0]} is not finite")
    return header, tensors


def _read_header(path: Path, text: str) -> dict[str, Any]:
    try:
        header = json.loads(text)
        version = int(header["format"])
    except (ValueError, KeyError, TypeError):
        raise ArchiveError(f"{path}: the header is not readable") from None
    if version > FORMAT:
        raise ArchiveError(f"{path}: format {version} is newer than this eqpot reads ({FORMAT}); install a newer eqpot")
    return header


def flat_shapes(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Like `flatten`, for a tree of shapes."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in flat_shapes(value, f"{prefix}/{key}" if prefix else str(key)).items()}


def check_tensors(path: str | Path, tensors: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], dtype: str) -> None:
    """Raise an ArchiveError unless these are the tensors that an architecture needs, all of them and no other."""
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        word, name = ("is missing", missing[0]) if missing else ("does not belong to this architecture", extra[0])
        raise ArchiveError(f"{path}: the parameter {name} {word}")
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise ArchiveError(f"{path}: the parameter {name} has shape {tensors[name].shape}, expected {shape}")
        if tensors[name].dtype != dtype:
            raise ArchiveError(f"{path}: the parameter {name} is of type {tensors[name].dtype}, expected {dtype}")
