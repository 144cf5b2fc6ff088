"""``python -m molre_edge``: the same as ``molre-edge``."""

import importlib.util
import sys
from pathlib import Path

import molre_edge

_STAGES = ("export", "calibration", "engines")


def _find_stages() -> None:
    """Find the stages beside the package, as in a clone: in its root, the clone hides the installed package."""
    for name in _STAGES:
        full = f"molre_edge.{name}"
        folder = Path(molre_edge.__file__).parents[1] / name
        if importlib.util.find_spec(full) is not None or not (folder / "__init__.py").is_file():
            continue
        spec = importlib.util.spec_from_file_location(
            full, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None and spec.loader is not None
        module = sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        setattr(molre_edge, name, module)


if __name__ == "__main__":
    _find_stages()
    from molre_edge.cli import main

    main()
