"""Structures on the host, graphs on the device, and the neighbour lists between them.

`Structure` and `Labels` are float64 records of one configuration; `Graph` is the padded float32 (or
float64) pytree of a batch that a model sees. This room knows neither files nor models.
"""

from eqpot.graph.batching import Capacity, Host, collate, prepare
from eqpot.graph.graph import Graph
from eqpot.graph.neighbors import Neighbors, find_neighbors
from eqpot.graph.structure import Frame, Labels, Structure

__all__ = ["Capacity", "Frame", "Graph", "Host", "Labels", "Neighbors", "Structure", "collate", "find_neighbors", "prepare"]
