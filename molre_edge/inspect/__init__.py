"""What a file or folder is, as data: a checkpoint, graph, engine, bundle, run or head CT. Nothing of it is run."""

from molre_edge.inspect.look import inspect_path
from molre_edge.inspect.records import Inspection, Table

__all__ = ["Inspection", "Table", "inspect_path"]
