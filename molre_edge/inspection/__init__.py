"""What a file or folder is, as data: a checkpoint, graph, engine, bundle, run or head CT. Nothing of it is run."""

from molre_edge.inspection.findings import Inspection, Table
from molre_edge.inspection.look import inspect_path

__all__ = ["Inspection", "Table", "inspect_path"]
