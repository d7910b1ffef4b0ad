"""Configurations that many tests share; pytest puts this folder on the path (pyproject.toml)."""

NETWORK = {
    "cutoff": 3.5,
    "hidden": "4x0e",
    "l_max": 1,
    "n_radial": 3,
    "n_layers": 1,
    "correlation": 2,
    "radial_hidden": (4,),
    "readout_hidden": 4,
}
"""The smallest equivariant network that does what the large ones do."""
