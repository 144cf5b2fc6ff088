"""The front door: which names there are, that they load late, and that no part of the program hides a verb."""

from __future__ import annotations

import inspect
import json
import pkgutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import pytest

import molre_edge
from molre_edge import errors
from molre_edge.api import ERRORS, PLACES, TYPES, VERBS

PUBLIC = [
    "AdapterError",
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "ExportError",
    "InUseError",
    "MissingDependencyError",
    "MolreEdgeError",
    "OwnModelError",
    "ParityError",
    "ParityFailedError",
    "ParityLimits",
    "Precision",
    "Progress",
    "RunError",
    "ScanError",
    "SigningError",
    "UsageError",
    "__version__",
    "add_adapter",
    "bench_runners",
    "build_engine",
    "calibrate_bundle",
    "default_adapter",
    "diagnose",
    "evaluate_checkpoint",
    "explain_reference",
    "export_checkpoint",
    "export_triton",
    "import_peft",
    "infer_scans",
    "inspect_path",
    "list_adapters",
    "load_model",
    "make_signing_key",
    "pack_adapter",
    "remove_adapter",
    "report_runs",
    "rollback_adapter",
    "run_node",
    "sign_release",
    "synthesize_scans",
    "train_model",
    "verify_bundle",
    "write_reference_inputs",
]
"""All of it: a name appears or disappears here on purpose only."""

WITHOUT_PROGRESS = {"diagnose", "make_signing_key", "sign_release"}
"""Verbs that take no time."""

IMPORT_ALL = """
import importlib, json, pkgutil, sys
import molre_edge
loaded = sorted(name for name in sys.modules if name.startswith("molre_edge."))
for module in pkgutil.walk_packages(molre_edge.__path__, "molre_edge."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in ("export", "engines", "calibration"):  # where they lie beside the package, walking does not find them
    package = importlib.import_module(f"molre_edge.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"molre_edge.{name}."):
        importlib.import_module(module.name)
kinds = {name: type(getattr(molre_edge, name)).__name__ for name in molre_edge.__all__}
json.dump([loaded, kinds], sys.stdout)
"""


def test_the_public_names_are_these() -> None:
    assert sorted(molre_edge.__all__) == PUBLIC
    assert set(PLACES) | {"__version__"} == set(PUBLIC)
    assert set(PUBLIC) <= set(dir(molre_edge))


def test_every_error_of_the_program_is_public() -> None:
    children = {name for name in errors.__all__ if inspect.isclass(getattr(errors, name))}
    assert children <= ERRORS.keys()
    assert all(issubclass(getattr(molre_edge, name), molre_edge.MolreEdgeError) for name in ERRORS)


def test_no_part_of_the_program_has_the_name_of_a_verb() -> None:
    parts = {module.name for module in pkgutil.iter_modules(molre_edge.__path__)} | {"export", "engines", "calibration"}
    assert parts & PLACES.keys() == set()


def test_importing_it_loads_nothing_and_importing_everything_hides_no_verb() -> None:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORT_ALL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded, kinds = json.loads(done.stdout)
    assert loaded == ["molre_edge.offline"]  # which keeps libraries that are loaded later from sending usage data
    assert {name: kinds[name] for name in VERBS} == dict.fromkeys(VERBS, "function")
    assert "module" not in kinds.values()


def test_a_name_that_is_not_public_is_told_as_python_tells_it() -> None:
    with pytest.raises(AttributeError, match="module 'molre_edge' has no attribute 'infer'"):
        molre_edge.infer  # noqa: B018
    with pytest.raises(ImportError, match="nothing"):
        exec("from molre_edge import nothing")


@pytest.mark.parametrize("name", TYPES)
def test_types_are_found(name: str) -> None:
    assert inspect.isclass(getattr(molre_edge, name))


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_takes_plain_arguments_reports_to_one_protocol_and_returns_one_frozen_result(name: str) -> None:
    verb: Any = getattr(molre_edge, name)
    assert inspect.getdoc(verb)
    parameters = inspect.signature(verb).parameters
    assert "speaker" not in parameters and not {key for key in parameters if key.startswith("on_")}
    if name not in WITHOUT_PROGRESS:
        assert parameters["progress"].kind is inspect.Parameter.KEYWORD_ONLY
    if name == "load_model":
        return
    from molre_edge.training.fit import Fitted  # which brings torch, so the verb names it for the type checker alone

    result = get_type_hints(verb, localns={"Fitted": Fitted})["return"]
    assert is_dataclass(result) and result.__dataclass_params__.frozen, result  # type: ignore[attr-defined]
    assert callable(result.to_dict) and fields(result)
