"""``molre-edge export-triton``: a bundle as a model repository for Triton Inference Server."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

import molre_edge
from molre_edge.cli.shell import (
    BundleOption,
    DigestOption,
    EngineOption,
    JsonOption,
    QuietOption,
    Speaker,
    ThreadsOption,
    TrustOption,
    bundle_folder,
    command,
)
from molre_edge.specs import DEFAULT_BUNDLE

__all__ = ["export_triton"]


class FormChoice(str, Enum):
    """Who computes."""

    PYTHON = "python"
    ONNX = "onnx"
    PLAN = "plan"


@command
def export_triton(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The model repository to write, new or empty.")],
    form: Annotated[
        list[FormChoice] | None,
        typer.Option(
            "--form",
            help="'python': molre-edge within Triton's Python backend, adapters included; the default. 'onnx': the "
            "graph, for Triton's ONNX Runtime. 'plan': the engine of 'build --target here', for Triton's TensorRT. "
            "Both need a bundle of 'export --adapters constants'. Repeat for more.",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = "fp16",
    name: Annotated[str, typer.Option("--name", help="What the models' names begin with.")] = "molre",
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=1024, help="Most volumes in a call.")] = 8,
    max_delay_ms: Annotated[
        float,
        typer.Option("--max-delay-ms", min=0, max=60_000, help="How long a request waits for others to share a call."),
    ] = 5.0,
    threads: ThreadsOption = None,
    bundle: BundleOption = DEFAULT_BUNDLE,
    expect_digest: DigestOption = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a bundle as a model repository for Triton Inference Server, with a script that replays its golden answers.

    Exit codes: 0 done; 1 an error; 2 wrong use.
    """
    speaker = Speaker(as_json, quiet)
    with speaker.progress() as progress:
        written = molre_edge.export_triton(
            folder,
            bundle_folder(bundle),
            forms=[each.value for each in form or (FormChoice.PYTHON,)],
            engine=engine,
            name=name,
            max_batch=max_batch,
            max_delay_ms=max_delay_ms,
            threads=threads,
            expect_digest=expect_digest,
            trust=trust,
            progress=progress,
        )
    for model in written.models:
        speaker.say(f"Model: {model.name}, {model.precision}, up to {model.max_batch} volumes a call")
    speaker.say(f"Repository: {written.folder}, of the bundle {written.digest}")
    speaker.say(f"Serve it: tritonserver --model-repository {written.folder}")
    speaker.say(f"Then replay the golden answers: python {written.folder / 'replay.py'}")
    speaker.result(written.to_dict())
