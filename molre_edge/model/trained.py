"""What was trained, as an adapter holds it: experts, routers with their standardisation, pooling and head.

In *adapter form*, a model computes from these tensors alone and from its frozen backbone: alpha / r is part of B, the
temperature part of a router's last layer, and every router standardises, if need be by mean 0 and deviation 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from molre_edge.adapters.tensors import PREFIX, fit_tensors
from molre_edge.model.adapters import AdaptedLayer
from molre_edge.model.classifier import HeadCTClassifier
from molre_edge.model.routing import Router
from molre_edge.specs import TensorSpec

__all__ = ["adapter_form", "load_trained", "trained_specs", "trained_states", "trained_tensors"]

_FACTORS = (".lora_A", ".lora_B")


@contextlib.contextmanager
def adapter_form(model: HeadCTClassifier) -> Iterator[None]:
    """Within the block, `model` applies no scale and no temperature of its own, and all of its routers standardise.

    Its weights stay as they are, so its answers are other ones unless :func:`trained_tensors` take their place.
    """
    layers = [module for module in model.modules() if isinstance(module, AdaptedLayer)]
    routers = [module for module in model.modules() if isinstance(module, Router)]
    scales = [layer.scale for layer in layers]
    settings = [(router.temperature, router.standardise) for router in routers]
    try:
        _set_adapter_form(model)
        yield
    finally:
        for layer, scale in zip(layers, scales, strict=True):
            layer.scale = scale
        for router, (temperature, standardise) in zip(routers, settings, strict=True):
            router.temperature, router.standardise = temperature, standardise
            if not standardise:
                del router.mean, router.std


def _set_adapter_form(model: HeadCTClassifier) -> None:
    for module in model.modules():
        if isinstance(module, AdaptedLayer):
            module.scale = 1.0
        elif isinstance(module, Router):
            if not module.standardise:
                ones = torch.ones(module.fc1.in_features, device=module.fc1.weight.device)
                module.register_buffer("mean", torch.zeros_like(ones))
                module.register_buffer("std", ones)
            module.temperature, module.standardise = 1.0, True


def trained_states(model: HeadCTClassifier) -> dict[str, str]:
    """Name in the model's state, by the name of the tensor in an adapter, sorted by the latter.

    Args:
        model: in adapter form, else means and deviations of routers that do not standardise are missing.
    """
    from molre_edge.model.checkpoint import plain_names

    names = {}
    for state, plain in plain_names(model).items():
        if plain.endswith(_FACTORS):  # an expert, wherever it is
            names[PREFIX + plain.replace(".lora_", ".")] = state
        elif not plain.startswith("backbone.") and not plain.startswith("intensity."):
            names[PREFIX + plain] = state
    return dict(sorted(names.items()))


def trained_tensors(model: HeadCTClassifier) -> dict[str, npt.NDArray[np.float32]]:
    """Everything that was trained, float32, by name and sorted: the values of a graph's adapter inputs."""
    factors = _factors(model)
    with adapter_form(model):
        state = model.state_dict()
        return {
            name: _values(state[own] * factors[own] if own in factors else state[own])
            for name, own in trained_states(model).items()
        }


def _factors(model: HeadCTClassifier) -> dict[str, float]:
    """What is folded into a tensor of the model's state."""
    factors = {}
    for name, module in model.named_modules():
        if isinstance(module, AdaptedLayer):
            factors[f"{name}.lora_B"] = module.scale
        elif isinstance(module, Router):
            factors[f"{name}.fc2.weight"] = factors[f"{name}.fc2.bias"] = 1 / module.temperature
    return {name: factor for name, factor in factors.items() if factor != 1.0}


def _values(tensor: Tensor) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return np.array(array, order="C")  # a copy: a model in training changes its own in place


def trained_specs(model: HeadCTClassifier) -> tuple[TensorSpec, ...]:
    """Name and shape of every trained tensor, as the float32 graph takes them, in its order."""
    with adapter_form(model):
        state = model.state_dict()
        return tuple(
            TensorSpec(name, "float32", tuple(state[own].shape)) for name, own in trained_states(model).items()
        )


def load_trained(model: HeadCTClassifier, tensors: Mapping[str, npt.NDArray[np.floating]]) -> None:
    """Put an adapter's tensors into a model, which stays in adapter form from then on.

    Raises:
        AdapterError: other names or shapes than the model's.
    """
    fitting = fit_tensors(tensors, trained_specs(model), "the PyTorch model")
    _set_adapter_form(model)
    names = trained_states(model)
    state = {names[name]: torch.from_numpy(np.array(value)) for name, value in fitting.items()}
    model.load_state_dict(state, strict=False)
