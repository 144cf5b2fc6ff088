"""A user's own model that answers four scans, with a mistake if a test asks for one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from own_chain import FINDINGS, Own, normalised, save, windowed

from molre_edge.own_model.answers import ANSWERS, write_answers
from molre_edge.own_model.inputs_folder import InputsFolder, open_inputs
from molre_edge.own_model.parting.explain import explain_reference
from molre_edge.own_model.parting.explanation import Explanation
from molre_edge.own_model.parting.steps_file import STEPS
from molre_edge.own_model.write_inputs import write_reference_inputs

Volume = npt.NDArray[np.float32]
Explain = Callable[..., Explanation]


@pytest.fixture(scope="session")
def net() -> Own:
    """The model that was validated. Tests that alter it work on a copy."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Own().eval()


@pytest.fixture(scope="session")
def own_checkpoint(net: Own, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own") / "ckpt.pt"
    save(net, path)
    return path


@pytest.fixture(scope="session")
def inputs(own_checkpoint: Path, tiny_scans: Path) -> InputsFolder:
    """What ``molre-edge reference`` writes of four scans."""
    folder = own_checkpoint.parent / "for-my-model"
    write_reference_inputs(tiny_scans, folder, checkpoint=own_checkpoint)
    return open_inputs(folder)


@pytest.fixture
def explain(net: Own, inputs: InputsFolder, own_checkpoint: Path, tmp_path: Path) -> Explain:
    """Answer all scans with a mistake, save what is asked for, and explain."""

    def go(
        *,
        given: str = "grid",
        grid: Callable[[Any], Volume] | None = None,
        windows: Callable[[Volume], Volume] = windowed,
        normalise: Callable[[Volume], Volume] = normalised,
        model: Own = net,
        pool: str = "attention",
        answer: Callable[[npt.NDArray[Any]], npt.NDArray[Any]] = lambda logits: logits,
        findings: tuple[str, ...] = FINDINGS,
        kind: str = "logits",
        saved: Sequence[str] = (),
        steps: Mapping[str, Callable[[Any], Any]] | None = None,
        more: Mapping[str, Any] | None = None,
        scans: int = 4,
    ) -> Explanation:
        shutil.rmtree(inputs.folder / STEPS, ignore_errors=True)
        (inputs.folder / STEPS).mkdir()
        answers = []
        for place, scan in enumerate(inputs.scans):
            volume = inputs.grid_volume(scan).astype(np.float32)
            if grid is not None:
                volume = grid(inputs.hu_volume(scan) if given != "grid" else volume)
            channels = windows(volume)
            ready = normalise(channels)
            with torch.inference_mode():
                values = {name: value.numpy() for name, value in model(torch.from_numpy(ready), pool).items()}
            answers.append(values["logits"])
            values |= {"grid": volume, "windowed": channels, "normalised": ready}
            kept = {name: values[name] for name in saved}
            kept |= {
                name: make(inputs.hu_volume(scan) if name == "hu" else scan) for name, make in (steps or {}).items()
            }
            if kept and place < scans:
                np.savez(inputs.folder / STEPS / f"{scan.scan}.npz", **kept)
        write_answers(
            inputs.folder / ANSWERS,
            given=given,  # type: ignore[arg-type]
            scans=tuple(scan.scan for scan in inputs.scans),
            findings=findings,
            arrays={kind: answer(np.stack(answers)), **(more or {})},
        )
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # so small a model is faster with one, above all beside other programs
        try:
            return explain_reference(inputs.folder, own_checkpoint, out=tmp_path / "explanation")
        finally:
            torch.set_num_threads(threads)

    return go
