"""A real TensorRT-RTX engine of a graph that takes adapters: one file for every training, as fast as with constants.

It is built without a GPU, and nothing here runs it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from molre_edge.adapters.file import parse_adapter
from molre_edge.adapters.fit import fit_adapter
from molre_edge.bundle.bundle import Bundle
from molre_edge.bundle.engine_files import list_engines, read_engine
from molre_edge.engines.tensorrt.api import BuildOptions
from molre_edge.engines.tensorrt.build import build_tensorrt
from molre_edge.specs import Precision

pytest.importorskip("tensorrt_rtx", reason="engines are built where TensorRT-RTX is installed: Linux on x86-64")


def test_one_fp16_engine_serves_two_trainings_and_is_half_with_every_attention_fused(
    adapter_bundle: Path, other_adapter: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(adapter_bundle, tmp_path / "edge-bundle"))
    bundle = Bundle.open(folder)
    layers = build_tensorrt(bundle, Precision.FP16, BuildOptions(compute_capabilities=("sm86",))).facts["layers"]
    assert layers["fused_attention"] == 2  # as many as the backbone has, and as with constants (test_build.py)
    assert layers["by_type"]["correlation"].keys() == layers["by_type"]["gemm"].keys() == {"Half"}

    [engine] = list_engines(bundle)
    before = read_engine(bundle, engine)
    content = other_adapter.read_bytes()
    bundle.store().put(parse_adapter(content), content, ())
    inputs = bundle.graph(Precision.FP16).adapter_inputs
    for name in ("default", "other"):
        chosen = Bundle.open(folder).select(name)
        [engine] = list_engines(chosen)
        assert bytes(read_engine(chosen, engine)) == bytes(before)
        assert chosen.using is not None
        tensors = fit_adapter(chosen.using, chosen.adapter_facts(), inputs).tensors
        assert {key: value.shape for key, value in tensors.items()} == {spec.name: spec.shape for spec in inputs}
