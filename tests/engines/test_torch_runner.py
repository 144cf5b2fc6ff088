"""The PyTorch reference answers in float32 and as the bundle's golden answers say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from molre_edge.bundle.bundle import Bundle, GoldenSet
from molre_edge.engines.torch_runner import TorchRunner
from molre_edge.errors import CheckpointError, EngineError
from molre_edge.specs import Precision, TensorSpec

Volumes = npt.NDArray[np.float16]


@pytest.fixture
def runner(tiny_checkpoint: Path) -> Iterator[TorchRunner]:
    with TorchRunner.from_checkpoint(tiny_checkpoint) as entered:
        yield entered


def test_it_gives_the_golden_answers_again(runner: TorchRunner, golden: GoldenSet) -> None:
    for size in (1, 2, 3):
        outputs = runner.run(golden.volumes[:size]).outputs
        np.testing.assert_allclose(outputs.logits, golden.outputs.logits[:size], atol=1e-5)
        assert outputs.gates is not None and golden.outputs.gates is not None
        np.testing.assert_allclose(outputs.gates, golden.outputs.gates[:size], atol=1e-5)


def test_its_specifications_are_those_of_the_float32_graph(runner: TorchRunner, bundle: Bundle) -> None:
    facts = bundle.graph(Precision.FP32)
    assert (runner.input_spec,) == facts.inputs == (TensorSpec("volume", "float32", (None, 4, 32, 32)),)
    assert runner.output_specs == facts.outputs
    assert (runner.name, runner.precision) == ("torch:fp32", Precision.FP32)


def test_times_and_facts_are_told(runner: TorchRunner, volumes: Volumes) -> None:
    times = runner.run(volumes).milliseconds
    assert list(times) == ["to_device", "compute", "from_device"]
    assert 0.1 < times["compute"] < 60_000
    assert runner.facts["runtime"] == "PyTorch"
    assert runner.facts["version"] == torch.__version__


def test_it_computes_without_gradients_and_without_touching_the_settings(runner: TorchRunner, volumes: Volumes) -> None:
    before = (torch.is_grad_enabled(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    runner.run(volumes)
    after = (torch.is_grad_enabled(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    assert before == after


def test_tf32_is_off_while_it_computes_and_as_it_was_afterwards(tiny_checkpoint: Path, volumes: Volumes) -> None:
    runner = TorchRunner.from_checkpoint(tiny_checkpoint)
    seen: list[bool] = []
    runner._model.register_forward_pre_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with runner:
            runner.run(volumes[:1])
        assert seen == [False]
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_a_wrong_volume_is_refused(runner: TorchRunner, volumes: Volumes) -> None:
    with pytest.raises(EngineError, match=r"got float64 \[3, 4, 32, 32\]"):
        runner.run(volumes.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(EngineError, match=r"got float16 \[4, 32, 32\]"):
        runner.run(volumes[0])


def test_outside_a_with_block_it_is_not_ready_and_within_another_it_is_again(
    tiny_checkpoint: Path, volumes: Volumes
) -> None:
    runner = TorchRunner.from_checkpoint(tiny_checkpoint)
    with pytest.raises(EngineError, match="torch:fp32 is not ready: use it in a 'with' block"):
        runner.run(volumes)
    for _ in range(2):
        with runner:
            runner.run(volumes)
        with pytest.raises(EngineError, match="is not ready"):
            runner.run(volumes)


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pt: no such file"):
        TorchRunner.from_checkpoint(tmp_path / "none.pt")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU that PyTorch can use")
def test_a_gpu_gives_the_golden_answers_and_is_let_go(tiny_checkpoint: Path, golden: GoldenSet) -> None:
    runner = TorchRunner.from_checkpoint(tiny_checkpoint)
    with runner:
        assert runner.facts["device"] != "CPU"
        np.testing.assert_allclose(runner.run(golden.volumes).outputs.logits, golden.outputs.logits, atol=1e-3)
    assert {parameter.device.type for parameter in runner._model.parameters()} == {"cpu"}
