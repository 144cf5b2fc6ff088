"""Reads the parts of PEFT's ``adapter_config.json`` that plain LoRA uses, and refuses all others by name."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.errors import CheckpointError, shown
from molre_edge.regular import open_regular

__all__ = ["PeftConfig", "read_peft_config"]

_NAME = "adapter_config.json"
_LARGEST = 1 << 20  # bytes; real ones have one or two thousand
_LONGEST_PATTERN = 4_000
_SECONDS = 10
_ALL_LINEAR = "all-linear"
_TRY = (
    "import json, re, sys\n"
    "pattern, names = json.load(sys.stdin)\n"
    "json.dump([name for name in names if re.fullmatch(pattern, name)], sys.stdout)"
)

_REFUSED = {
    "use_dora": "DoRA scales the sum of base and LoRA; train with use_dora=False",
    "use_rslora": "rsLoRA scales by alpha over the root of r; train with use_rslora=False, or set lora_alpha to "
    "alpha * sqrt(r) and use_rslora to false",
    "bias": "trained biases belong to the base's layers; train with bias='none'",
    "lora_bias": "plain LoRA has no bias; train with lora_bias=False",
    "modules_to_save": "modules trained in full belong in the base checkpoint; store them there and save the adapter "
    "without them",
    "rank_pattern": "every module has one rank here; train without rank_pattern",
    "alpha_pattern": "every module has one alpha here; train without alpha_pattern",
    "fan_in_fan_out": "its weights lie transposed, as in GPT-2's Conv1D; no backbone here has such layers",
    "layer_replication": "the base would have other layers; train without layer_replication",
    "megatron_config": "its layers are split over machines; gather them and save a plain LoRA",
}
_UNDERSTOOD = {
    "peft_type", "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "init_lora_weights",
}  # fmt: skip
_WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode", "peft_version",
    "lora_dropout", "megatron_core", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "qalora_group_size", "ensure_weight_tying", "runtime_config",
}  # fmt: skip
"""About training, or about what `_REFUSED` and `init_lora_weights` stand for."""
_INITIAL = (True, False, None, "gaussian", "eva", "orthogonal")
"""Values of init_lora_weights that leave the base as it is; PiSSA, OLoRA, CorDA, LoftQ and others change it."""


@dataclass(frozen=True)
class PeftConfig:
    """Configuration of a plain LoRA.

    Attributes:
        rank: r.
        alpha: the LoRA is scaled by ``alpha / rank``.
        targets: ends of the adapted modules' names, or a regular expression that is to match the whole name, or
            ``all-linear``.
        excluded: the same for modules that are left out; empty for none.
        indices: of the adapted blocks; None for all.
        pattern: names of the list of blocks that `indices` count; empty for any.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] | str
    excluded: tuple[str, ...] | str
    indices: frozenset[int] | None
    pattern: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which kinds of layers it may choose: classes of ``torch.nn``."""
        return ("Linear",) if self.targets == _ALL_LINEAR else ("Linear", "Conv2d", "Conv3d")

    def chosen(self, names: Collection[str]) -> set[str]:
        """Those of the modules that PEFT adapts under this configuration.

        Args:
            names: of linear layers and convolutions, as PEFT names them.

        Raises:
            CheckpointError: a regular expression is invalid, or takes too long.
        """
        chosen = _matching(self.targets, names, "target_modules")
        if self.excluded:
            chosen -= _matching(self.excluded, names, "exclude_modules")
        if self.indices is not None:
            chosen = {name for name in chosen if self._index(name) in self.indices}
        return chosen

    def mismatch(self, modules: Collection[str]) -> str | None:
        """Say how these modules, which have weights, differ from the configured ones; None if they do not."""
        unnamed = sorted(set(modules) - _matching(self.targets, modules, "target_modules"))
        if unnamed:
            return f"target_modules does not name {shown(unnamed[0])}, which has weights"
        if not isinstance(self.targets, str) and not self.excluded:  # all layers of a target may be excluded
            for target in self.targets:
                if not any(_ends(module, target) for module in modules):
                    return f"target_modules names {shown(target)}, which has no weights"
        if self.indices is not None:
            found = {self._index(module) for module in modules}
            if found != self.indices:
                told = ", ".join(str(index) for index in sorted(self.indices))[:100]
                return f"layers_to_transform is {told}, but the weights belong to other blocks"
        return None

    def _index(self, module: str) -> int | None:
        """The number of the module's block; as in PEFT the last one, where lists are nested."""
        parts = module.split(".")[:-1]
        for before, part in reversed(list(itertools.pairwise(parts))):
            if part.isdecimal() and (not self.pattern or before in self.pattern):
                return int(part)
        return None


def read_peft_config(folder: Path) -> PeftConfig:
    """Read ``adapter_config.json``.

    Raises:
        CheckpointError: the file is missing or not readable, or does not describe plain LoRA.
    """
    path = folder / _NAME
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; pass the folder that PEFT's save_pretrained wrote")
    try:
        with open_regular(path, largest=_LARGEST) as file:
            data = json.loads(file.read())
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror or error}); save the adapter again") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: can't be read ({error}); save the adapter again") from error
    kind = data.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{path}: peft_type is {shown(kind)}; only LORA can be imported")
    for name, value in data.items():
        if name in _UNDERSTOOD | _WITHOUT_EFFECT or not value or value == "none":
            continue
        why = _REFUSED.get(name, "this release does not know this setting; train without it")
        raise CheckpointError(f"{path}: {shown(name)} is {shown(value)}: {why}")
    initial = data.get("init_lora_weights")
    if initial not in _INITIAL:
        raise CheckpointError(
            f"{path}: init_lora_weights is {shown(initial)}, which changes the base's weights; convert it to plain "
            f"LoRA (PEFT's path_initial_model_for_weight_conversion) and save it again"
        )
    return PeftConfig(
        rank=_number(path, data, "r", whole=True),
        alpha=float(_number(path, data, "lora_alpha", whole=False)),
        targets=_targets(path, "target_modules", data.get("target_modules")),
        excluded=_targets(path, "exclude_modules", data.get("exclude_modules") or []),
        indices=_indices(path, data.get("layers_to_transform")),
        pattern=_words(path, "layers_pattern", data.get("layers_pattern")),
    )


def _ends(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _matching(targets: tuple[str, ...] | str, names: Collection[str], what: str) -> set[str]:
    """The names that the targets choose, as PEFT chooses them."""
    if targets == _ALL_LINEAR:
        return set(names)
    if isinstance(targets, str):
        return _whole_matches(targets, names, what)
    return {name for name in names if any(_ends(name, target) for target in targets)}


def _whole_matches(pattern: str, names: Collection[str], what: str) -> set[str]:
    """The names that a regular expression matches; tried in a process of its own, because some never finish."""
    command = [sys.executable, "-I", "-c", _TRY]
    try:
        done = subprocess.run(
            command, input=json.dumps([pattern, sorted(names)]), capture_output=True, text=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise CheckpointError(
            f"{_NAME}: {what} is {shown(pattern)}, a regular expression that was not matched within {_SECONDS} s. Save "
            f"the adapter with a list of names instead"
        ) from error
    if done.returncode != 0:
        raise CheckpointError(f"{_NAME}: {what} is {shown(pattern)}, which is not a regular expression")
    return set(json.loads(done.stdout))


def _number(path: Path, data: dict[str, Any], name: str, *, whole: bool) -> Any:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 < value < 1e6:
        raise CheckpointError(
            f"{path}: {name}: expected a {'whole ' if whole else ''}number above 0, got {shown(value)}"
        )
    return value


def _targets(path: Path, name: str, value: Any) -> tuple[str, ...] | str:
    if isinstance(value, str) and 0 < len(value) <= _LONGEST_PATTERN:
        return value
    if value is None or isinstance(value, str):
        raise CheckpointError(f"{path}: {name}: expected names or a regular expression, got {shown(value)}")
    return _words(path, name, value)


def _words(path: Path, name: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CheckpointError(f"{path}: {name}: expected names, got {shown(value)}")
    return tuple(words)


def _indices(path: Path, value: Any) -> frozenset[int] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else [value]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in numbers):
        raise CheckpointError(f"{path}: layers_to_transform: expected whole numbers, got {shown(value)}")
    return frozenset(numbers) or None
