"""A graph's edges are walked forwards and backwards, and not through what one asks to stop at."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from molre_edge.export.links import Links


@pytest.fixture
def links() -> Links:
    """volume -> Shape -> Expand(table) -> side; volume -> Relu -> (left, right) -> Add -> sum."""
    nodes = [
        helper.make_node("Shape", ["volume"], ["shape"], name="shape"),
        helper.make_node("Expand", ["table", "shape"], ["side"], name="expand"),
        helper.make_node("Relu", ["volume"], ["x"], name="relu"),
        helper.make_node("Split", ["x"], ["left", "right"], name="split", num_outputs=2),
        helper.make_node("Constant", [], ["two"], name="two", value=numpy_helper.from_array(np.ones((2, 3)), "two")),
        helper.make_node("Add", ["left", "right"], ["sum"], name="add"),
    ]
    volume = helper.make_tensor_value_info("volume", TensorProto.FLOAT, [2, 4])
    table = numpy_helper.from_array(np.ones((1, 4), np.float32), "table")
    return Links(helper.make_model(helper.make_graph(nodes, "g", [volume], [], [table])))


def test_each_value_knows_who_makes_and_who_reads_it(links: Links) -> None:
    maker = links.maker("right")
    assert maker is not None and maker.name == "split"
    assert links.maker("volume") is None and links.maker("table") is None
    assert [node.name for node in links.readers("volume")] == ["shape", "relu"]
    assert links.readers("sum") == []


def test_constants_are_known_with_their_shapes(links: Links) -> None:
    assert links.constants == {"table": (1, 4), "two": (2, 3)}


def test_upstream_goes_back_to_the_inputs_or_to_where_it_is_stopped(links: Links) -> None:
    assert links.upstream(["sum"]) == {"sum", "left", "right", "x", "volume"}
    assert links.upstream(["sum"], stop={"Relu"}) == {"sum", "left", "right", "x"}


def test_downstream_goes_through_every_reader_but_those_that_stop_it(links: Links) -> None:
    assert links.downstream(["volume"]) == {"volume", "shape", "side", "x", "left", "right", "sum"}
    assert links.downstream(["volume"], stop={"Shape"}) == {"volume", "x", "left", "right", "sum"}


def test_nodes_between_are_each_named_once_and_the_stops_are_among_them(links: Links) -> None:
    assert sorted(node.name for node in links.nodes_between("sum", stop=["Relu"])) == ["add", "relu", "split"]
