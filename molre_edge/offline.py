"""Keeps the libraries that this project uses from sending data. Standard library only.

ONNX Runtime sends usage data by default from version 1.29 on, Linux included: loading it writes a device id and events
to the user's cache folder and looks up its maker's host. The Hugging Face libraries add usage data to what they
download. Both read the environment when they are loaded, so the variables are set when this package is imported, which
is before any of its modules can load them; worker processes inherit them.
"""

from __future__ import annotations

import os
import sys

__all__ = ["NO_NETWORK", "NO_TELEMETRY", "disable_network", "disable_telemetry", "telemetry_problem"]

NO_TELEMETRY = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
"""Set in every process that imports this package."""
NO_NETWORK = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
"""Set in the processes of the program, which downloads nothing. A user's own process may download models."""

_loaded_before = False


def disable_telemetry() -> None:
    """Switch usage data off. A value that the environment has already is overruled."""
    global _loaded_before
    os.environ.update(NO_TELEMETRY)
    runtime = sys.modules.get("onnxruntime")
    if runtime is not None:  # the caller loaded it first: its events are switched off, its files are there already
        _loaded_before = True
        getattr(runtime, "disable_telemetry_events", lambda: None)()


def disable_network() -> None:
    """Keep the Hugging Face libraries off the network, for a process of the program."""
    os.environ.update(NO_NETWORK)


def telemetry_problem() -> str | None:
    """Why usage data may have been sent by this process; None if it can't have been."""
    if _loaded_before:
        return "ONNX Runtime was loaded before molre_edge; import molre_edge first, or set ORT_DISABLE_TELEMETRY=1"
    changed = [name for name, value in NO_TELEMETRY.items() if os.environ.get(name) != value]
    return f"{', '.join(changed)} was changed after molre_edge was imported" if changed else None
