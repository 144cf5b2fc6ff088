"""PEFT's ``adapter_config.json``: what plain LoRA needs of it, and a refusal by name of all that is more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from molre_edge.errors import CheckpointError, shown

__all__ = ["PeftConfig", "read_peft_config"]

_NAME = "adapter_config.json"
_LARGEST = 1 << 20  # bytes; real ones have one or two thousand

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
    """What a plain LoRA's configuration says.

    Attributes:
        rank: r.
        alpha: the LoRA is scaled by ``alpha / rank``.
        targets: ends of the adapted modules' names; None where the file has a regular expression or a word for all.
        indices: of the adapted blocks; None for all.
        pattern: names of the list of blocks that `indices` count; empty for any.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...] | None
    indices: frozenset[int] | None
    pattern: tuple[str, ...]

    def mismatch(self, modules: Collection[str]) -> str | None:
        """What speaks against these modules being those of the configuration, or None."""
        if self.targets is not None:
            for module in sorted(modules):
                if not any(_ends(module, target) for target in self.targets):
                    return f"target_modules does not name {shown(module)}, which has weights"
            for target in self.targets:
                if not any(_ends(module, target) for module in modules):
                    return f"target_modules names {shown(target)}, which has no weights"
        if self.indices is not None:
            found = {self._index(module) for module in modules}
            if found != self.indices:
                told = ", ".join(str(index) for index in sorted(self.indices))[:100]
                return f"layers_to_transform is {told}, and the weights are of other blocks"
        return None

    def _index(self, module: str) -> int | None:
        parts = module.split(".")
        for before, part in itertools.pairwise(parts):
            if part.isdecimal() and (not self.pattern or before in self.pattern):
                return int(part)
        return None


def read_peft_config(folder: Path) -> PeftConfig:
    """Read ``adapter_config.json``.

    Raises:
        CheckpointError: it is not there, not readable, or of something else than plain LoRA.
    """
    path = folder / _NAME
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give the folder that PEFT's save_pretrained wrote")
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST} bytes")
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: can't be read ({error}); save the adapter again") from error
    kind = data.get("peft_type")
    if kind != "LORA":
        raise CheckpointError(f"{path}: peft_type is {shown(kind)}; only LORA can be imported")
    for name, value in data.items():
        if name in _UNDERSTOOD | _WITHOUT_EFFECT or not value or value == "none":
            continue
        why = _REFUSED.get(name, "this molre-edge does not know what it changes; train without it")
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
        targets=_targets(path, data.get("target_modules")),
        indices=_indices(path, data.get("layers_to_transform")),
        pattern=_words(path, "layers_pattern", data.get("layers_pattern")),
    )


def _ends(module: str, target: str) -> bool:
    return module == target or module.endswith(f".{target}")


def _number(path: Path, data: dict[str, Any], name: str, *, whole: bool) -> Any:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 < value < 1e6:
        raise CheckpointError(
            f"{path}: {name}: expected a {'whole ' if whole else ''}number above 0, got {shown(value)}"
        )
    return value


def _targets(path: Path, value: Any) -> tuple[str, ...] | None:
    # a regular expression is not tried: some never come to an end, and the weights' names say the same
    return None if value is None or isinstance(value, str) else _words(path, "target_modules", value)


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
