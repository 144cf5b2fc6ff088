"""The demo: the whole chain on a small model and synthetic scans, by the public verbs."""

from molre_edge.demo.chain import DemoResult, make_demo
from molre_edge.demo.material import prepare_folder
from molre_edge.demo.model import draw_model

__all__ = ["DemoResult", "draw_model", "make_demo", "prepare_folder"]
