"""Keeps the libraries that this project uses from sending data. Standard library only.

ONNX Runtime sends usage data by default from version 1.29 on, Linux included: loading it writes a device id and events
to the user's cache folder and looks up its maker's host. The Hugging Face libraries add usage data to what they
download. Both read the environment when they are loaded, so the variables are set when this package is imported, which
is before any of its modules can load them; worker processes inherit them. OpenVINO's Python package writes a client id
to the user's home folder and sends an event as soon as it is imported, through openvino_telemetry, which no variable
switches off. Without that module it uses a stand-in of its own that does nothing; so the module is made impossible to
import.
"""

from __future__ import annotations

import os
import sys

__all__ = ["NO_NETWORK", "NO_TELEMETRY", "disable_network", "disable_telemetry", "telemetry_problem"]

NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Set in every process that imports this package."""
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Set in the processes of the program, which downloads nothing. A user's own process may download models."""

_OPENVINO = "openvino_telemetry"
_loaded_before: list[str] = []


def disable_telemetry() -> None:
    """Switch usage data off. A value that the environment has already is overruled."""
    os.environ.update(NO_TELEMETRY)
    runtime = sys.modules.get("onnxruntime")
    if runtime is not None:  # the caller loaded it first: its events are switched off, its files are there already
        _loaded_before.append(
            "ONNX Runtime was loaded before molre_edge; import molre_edge first, or set ORT_DISABLE_TELEMETRY=1"
        )
        getattr(runtime, "disable_telemetry_events", lambda: None)()
    if sys.modules.get(_OPENVINO) is not None:
        _loaded_before.append(
            "OpenVINO was loaded before molre_edge; import molre_edge first, or uninstall openvino-telemetry"
        )
    else:
        sys.modules[_OPENVINO] = None  # type: ignore[assignment]  # 'import' raises ImportError


def disable_network() -> None:
    """Keep the Hugging Face libraries off the network, for a process of the program."""
    os.environ.update(NO_NETWORK)


def telemetry_problem() -> str | None:
    """Why usage data may have been sent by this process; None if it can't have been."""
    if _loaded_before:
        return "; ".join(_loaded_before)
    changed = [name for name, value in NO_TELEMETRY.items() if os.environ.get(name) != value]
    return f"{', '.join(changed)} was changed after molre_edge was imported" if changed else None
