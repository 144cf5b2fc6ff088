"""What a user's own model may do otherwise: gates, experts, norms, and the pooling over slices."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from molre_edge.own_model.parting.chain import Array, Chain, Change
from molre_edge.own_model.parting.steps import Step

if TYPE_CHECKING:
    from torch import Tensor

    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.config import ModelConfig
    from molre_edge.model.routing import Router

__all__ = ["model_changes", "scale_change", "temperature_change"]


def model_changes(config: ModelConfig) -> Iterator[Change]:
    """Changes of the model between channels and embedding."""
    if config.adapter.experts > 1:
        yield from _of_routers(config)
    if config.adapter.experts:
        yield from _of_experts(config)
    for eps in (1e-5, 1e-6, 1e-12):
        text = f"has norms with eps {eps:g}"
        fix = "build your backbone with the eps of docs/reference/backbones.md"
        yield Change(Step.BACKBONE, text, fix, "model", _with_eps(eps))
    yield from _of_pooling()


def _of_routers(config: ModelConfig) -> Iterator[Change]:
    import torch
    from torch.nn import functional as F

    def change(text: str, fix: str, gate: Callable[[Router, Tensor], Tensor]) -> Change:
        return Change(Step.GATES, text, fix, "model", _with_routers(gate))

    in_code = "in your router, do as docs/reference/checkpoint.md says, or train again"
    if config.router.temperature != 1.0:
        yield temperature_change(config, 1.0)
    yield change(
        "has ReLU in the routers, not GELU", in_code, lambda r, x: torch.softmax(_scores(r, x, F.relu), dim=-1)
    )
    yield change(
        "has GELU's tanh form in the routers",
        in_code,
        lambda r, x: torch.softmax(_scores(r, x, lambda h: F.gelu(h, approximate="tanh")), dim=-1),
    )
    yield change(
        "has SiLU in the routers, not GELU", in_code, lambda r, x: torch.softmax(_scores(r, x, F.silu), dim=-1)
    )
    yield change(
        "has tanh in the routers, not GELU", in_code, lambda r, x: torch.softmax(_scores(r, x, torch.tanh), dim=-1)
    )
    yield change(
        "mixes all experts alike: the routers are not used",
        "use the router's gates in your model",
        lambda r, x: torch.full_like(_scores(r, x), 1 / config.adapter.experts),
    )
    yield change("has a sigmoid on the gates, not softmax", in_code, lambda r, x: torch.sigmoid(_scores(r, x)))
    yield change("uses the routers' scores without softmax", in_code, lambda r, x: _scores(r, x))
    for k in range(1, config.adapter.experts):
        yield change(f"keeps the {k} largest gates, renormalised", in_code, _top(k))
    for level in ("slice", "volume", "token"):
        if level != config.router.level.value:
            yield Change(
                Step.GATES,
                f"routes by {level}, not by {config.router.level.value}",
                f'in the checkpoint, "router": {{"level": "{level}"}}',
                "model",
                _at_level(level),
            )
    if config.router.standardise:
        yield Change(
            Step.GATES,
            "does not standardise the routers' input",
            'in the checkpoint, "router": {"standardise": false}, or standardise in your code',
            "model",
            _not_standardised,
        )


def temperature_change(config: ModelConfig, temperature: float) -> Change:
    """Another temperature of the routers."""
    return Change(
        Step.GATES,
        f"has routers of temperature {temperature:.6g}, the checkpoint's is {config.router.temperature:g}",
        f'in the checkpoint, "router": {{"temperature": {temperature:.6g}}}',
        "model",
        _with_routers(lambda router, x: (_scores(router, x) * (router.temperature / temperature)).softmax(dim=-1)),
    )


def scale_change(config: ModelConfig, scale: float, why: str = "") -> Change:
    """Another scale of the experts."""
    rank = config.adapter.rank
    return Change(
        Step.EXPERTS,
        f"scales the experts by {scale:.6g}{why}, the checkpoint by alpha / rank = {config.adapter.alpha / rank:g}",
        f'in the checkpoint, "adapter": {{"alpha": {scale * rank:.6g}}}',
        "model",
        _with_scale(scale),
    )


def _of_experts(config: ModelConfig) -> Iterator[Change]:
    alpha, rank, experts = config.adapter.alpha, config.adapter.rank, config.adapter.experts
    scales = {
        alpha / math.sqrt(rank): " (alpha / sqrt(rank))",
        1.0: "",
        alpha: " (alpha)",
        1 / rank: " (1 / rank)",
        alpha / rank / experts: " (alpha / rank / experts)",
        alpha / rank * experts: " (alpha / rank x experts)",
        0.0: ": they are not used",
    }
    for scale, why in scales.items():
        if abs(scale - alpha / rank) > 1e-9:
            yield scale_change(config, scale, why)
    if experts > 1 and rank > 1:
        in_code = "when you save the checkpoint, stack expert after expert (docs/reference/checkpoint.md)"
        for text, a, b in (
            ("has lora_B stacked as [experts, out, rank] in memory; reshaped, rows were mixed", None, _reshaped_b),
            ("has the rows of lora_A and the columns of lora_B stacked rank by rank", _by_rank_a, _by_rank_b),
            ("has the columns of lora_B stacked rank by rank, not expert by expert", None, _by_rank_b),
            ("has the rows of lora_A stacked rank by rank, not expert by expert", _by_rank_a, None),
        ):
            yield Change(Step.EXPERTS, text, in_code, "model", _with_experts(a, b, experts, rank))


def _of_pooling() -> Iterator[Change]:
    def change(text: str, pool: Callable[[Array], Array]) -> Change:
        def apply(_: Chain, features: Array) -> Array:
            return pool(features) if features.ndim == 2 else features

        fix = "molre-edge pools by attention over slices (docs/reference/checkpoint.md): train with it"
        return Change(Step.POOLING, text, fix, "embedding", apply)

    yield change("takes the mean of the slices, not attention", lambda f: f.mean(0))
    yield change("takes the maximum over the slices, not attention", lambda f: f.max(0))
    yield change("sums the slices, not by attention", lambda f: f.sum(0))
    yield change("takes the middle slice alone", lambda f: f[len(f) // 2])
    yield change("takes the first slice alone", lambda f: f[0])
    yield change("takes the last slice alone", lambda f: f[-1])

    def without_tanh(chain: Chain, features: Array) -> Array:
        import torch

        pooling: Any = chain.model.pooling
        if features.ndim != 2:
            return features
        x = torch.from_numpy(features)
        weights = torch.softmax(pooling.score(pooling.project(x)), dim=0)
        return (weights * x).sum(0).numpy()

    fix = "put tanh between project and score (docs/reference/checkpoint.md)"
    yield Change(Step.POOLING, "has no tanh in the pooling", fix, "embedding", without_tanh)


def _scores(router: Router, x: Tensor, between: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The router's scores before its softmax."""
    from torch.nn import functional as F

    if router.standardise:
        x = (x - router.mean) / router.std
    scores: Tensor = router.fc2((between or F.gelu)(router.fc1(x)))
    return scores / router.temperature


def _top(k: int) -> Callable[[Router, Tensor], Tensor]:
    def gate(router: Router, x: Tensor) -> Tensor:
        gates = _scores(router, x).softmax(dim=-1)
        kept = gates * (gates >= gates.topk(k, dim=-1).values[..., -1:])
        return kept / kept.sum(dim=-1, keepdim=True)

    return gate


Altered = Callable[["HeadCTClassifier"], contextlib.AbstractContextManager[None]]


def _with_routers(gate: Callable[[Router, Tensor], Tensor]) -> Altered:
    @contextlib.contextmanager
    def altered(model: HeadCTClassifier) -> Iterator[None]:
        routers: list[Any] = list(model.routers)
        for router in routers:
            router.forward = lambda x, router=router: gate(router, x)
        try:
            yield
        finally:
            for router in routers:
                del router.forward

    return altered


def _attribute(find: Callable[[HeadCTClassifier], list[Any]], name: str, value: Any) -> Altered:
    """Set an attribute of some parts of the model for a while."""

    @contextlib.contextmanager
    def altered(model: HeadCTClassifier) -> Iterator[None]:
        parts = find(model)
        before = [getattr(part, name) for part in parts]
        for part in parts:
            setattr(part, name, value)
        try:
            yield
        finally:
            for part, old in zip(parts, before, strict=True):
                setattr(part, name, old)

    return altered


def _adapted(model: HeadCTClassifier) -> list[Any]:
    from molre_edge.model.adapters import AdaptedLayer

    return [module for module in model.modules() if isinstance(module, AdaptedLayer)]


def _not_standardised(model: HeadCTClassifier) -> contextlib.AbstractContextManager[None]:
    return _attribute(lambda m: list(m.routers), "standardise", False)(model)


def _with_scale(scale: float) -> Altered:
    return _attribute(_adapted, "scale", scale)


def _at_level(level: str) -> Altered:
    def altered(model: HeadCTClassifier) -> contextlib.AbstractContextManager[None]:
        from molre_edge.model.config import Routing

        return _attribute(lambda m: [m.routing], "level", Routing(level))(model)

    return altered


def _with_eps(eps: float) -> Altered:
    def norms(model: HeadCTClassifier) -> list[Any]:
        return [module for module in model.backbone.modules() if isinstance(getattr(module, "eps", None), float)]

    return _attribute(norms, "eps", eps)


def _with_experts(
    a: Callable[[Array, int, int], Array] | None, b: Callable[[Array, int, int], Array] | None, experts: int, rank: int
) -> Altered:
    """Other matrices of the experts for a while."""

    @contextlib.contextmanager
    def altered(model: HeadCTClassifier) -> Iterator[None]:
        import torch

        layers = _adapted(model)
        before = [(layer.lora_A.data, layer.lora_B.data) for layer in layers]
        for layer in layers:
            if a is not None:
                layer.lora_A.data = torch.from_numpy(a(layer.lora_A.data.numpy(), experts, rank).copy())
            if b is not None:
                layer.lora_B.data = torch.from_numpy(b(layer.lora_B.data.numpy(), experts, rank).copy())
        try:
            yield
        finally:
            for layer, (down, up) in zip(layers, before, strict=True):
                layer.lora_A.data, layer.lora_B.data = down, up

    return altered


def _by_rank_a(a: Array, experts: int, rank: int) -> Array:
    found: Array = a.reshape(rank, experts, *a.shape[1:]).swapaxes(0, 1).reshape(a.shape)
    return found


def _by_rank_b(b: Array, experts: int, rank: int) -> Array:
    found: Array = b.reshape(len(b), rank, experts).swapaxes(1, 2).reshape(b.shape)
    return found


def _reshaped_b(b: Array, experts: int, rank: int) -> Array:
    """What was meant, if [experts, out, rank] was reshaped to [out, experts * rank] without moving axes."""
    return np.moveaxis(b.reshape(experts, len(b), rank), 0, 1).reshape(b.shape)
