"""Records the names of TensorRT's Python bindings, so that a test can compare those that our code uses.

    pip download --no-deps -d wheels tensorrt_cu12_bindings==10.3.0 tensorrt_cu13_bindings==11.4.0.106
    python tests/engines/names/record_names.py wheels/*.whl
    python tests/engines/names/record_names.py tensorrt_rtx        # an installed module

The bindings' wheels hold the Python side alone; NVIDIA's libraries come from elsewhere. So the bindings are imported
over empty libraries, made here with gcc, in a process of their own; no function of theirs is called. One JSON a
version: class -> its names, with the module's own names under "".
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent

READ = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
names = {"": [name for name in dir(module) if not name.startswith("_")]}
for name in names[""]:
    one = getattr(module, name)
    if isinstance(one, type):
        names[name] = [each for each in dir(one) if not each.startswith("_")]
print(json.dumps({"version": module.__version__, "names": names}))
"""


def main() -> None:
    """Record what the command line names."""
    for word in sys.argv[1:]:
        told = read_wheel(Path(word)) if word.endswith(".whl") else read_module(word, dict(os.environ))
        name = "tensorrt_rtx" if word == "tensorrt_rtx" else "tensorrt"
        path = HERE / f"{name}-{told['version']}.json"
        path.write_text(json.dumps(told, separators=(",", ":"), sort_keys=True) + "\n")
        print(path.name, len(told["names"]), "classes")


def read_wheel(wheel: Path) -> dict[str, dict[str, list[str]]]:
    """Names of a wheel's bindings."""
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        (binary,) = Path(folder).glob("tensorrt_bindings/*.so")
        for library in re.findall(r"\[(libnv\S+)\]", run("readelf", "-d", str(binary))):
            lacking = [line.split()[-1] for line in run("nm", "-D", "--undefined-only", str(binary)).splitlines()]
            ours = [name for name in lacking if re.fullmatch(r"(create|get|init)\w*(Nv|Infer|Plugin)\w*", name)]
            source = Path(folder) / "empty.c"
            source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ours))
            run("gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", str(Path(folder) / library), str(source))
        return read_module("tensorrt_bindings", {**os.environ, "PYTHONPATH": folder, "LD_LIBRARY_PATH": folder})


def read_module(name: str, environment: dict[str, str]) -> dict[str, dict[str, list[str]]]:
    """Names of a module, imported in a process of its own."""
    return dict(json.loads(run(sys.executable, "-c", READ, name, environment=environment)))


def run(*command: str, environment: dict[str, str] | None = None) -> str:
    """The output of a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


if __name__ == "__main__":
    main()
