"""The demo's model: trained on synthetic heads, or drawn.

The trained one has learned six findings of synthetic heads in some minutes and says nothing about patients. The
drawn one's answers mean nothing at all; it is drawn so that a wrong export cannot hide: experts and routers are far
from zero, gates differ between scans, and the thresholds are the medians of its own probabilities, so that decisions
can flip.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

import molre_edge
from molre_edge.demo.material import LEARNED, PRETRAINED
from molre_edge.errors import MissingDependencyError
from molre_edge.progress import SILENT, Progress
from molre_edge.scans import find_scans, read_scan, to_grid
from molre_edge.specs import Grid

if TYPE_CHECKING:
    from torch import Tensor

    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.config import ModelConfig

__all__ = ["draw_model", "make_checkpoint", "train_checkpoint"]

_GRID = Grid(slices=8, rows=112, cols=112)
_EPOCHS = (14, 6)
"""Of pretraining and of adapting."""
_LR = 0.003


def train_checkpoint(path: Path, data: Path, progress: Progress = SILENT) -> None:
    """Pretrain a small backbone on the training scans, freeze it, and adapt it with MoLRE.

    Args:
        path: of the checkpoint; the pretrained backbone lies beside it.
        data: from :func:`make_data`.
        progress: receives events.
    """
    pretraining, adapting = _EPOCHS
    source = path.with_name(PRETRAINED)
    cache = path.with_name(f"{path.stem}-training") / "cache"
    molre_edge.train_model(
        data,
        source,
        backbone="convnet2d-small",
        adapter="none",
        train_backbone=True,
        findings=LEARNED,
        epochs=pretraining,
        patience=pretraining,
        lr=_LR,
        cache=cache,
        progress=progress,
    )
    molre_edge.train_model(
        data,
        path,
        init=source,
        rank=2,
        alpha=16.0,  # four times the default, as in the runs whose figures the README shows
        budget=0.2,  # so small a backbone has no room for experts below 0.5 %
        findings=LEARNED,
        epochs=adapting,
        patience=adapting,
        lr=_LR,
        cache=cache,
        progress=progress,
    )


def make_checkpoint(path: Path, scans: Path, *, seed: int = 0) -> None:
    """Draw the model, fit its head's scale and its thresholds to the scans, and write the checkpoint.

    Args:
        path: of the checkpoint.
        scans: folder of scans from :func:`make_scans`.
        seed: of the weights.

    Raises:
        MissingDependencyError: torch or transformers is not installed.
    """
    try:
        from molre_edge.model.checkpoint import save_checkpoint
        from molre_edge.model.config import AdapterConfig, BackboneConfig, ModelConfig, RouterConfig
    except ImportError as error:
        raise MissingDependencyError("The demo", str(error.name), "export") from error
    config = ModelConfig(
        # ViT-S in width, half as deep: the smallest in which two adapted layers with routers stay below 0.5 %
        backbone=BackboneConfig(id="dinov3-vits16", options={"num_hidden_layers": 6}),
        grid=_GRID,
        adapter=AdapterConfig(modules=("layer.3.attention.o_proj", "layer.5.attention.o_proj"), experts=6, rank=4),
        router=RouterConfig(standardise=True),
    )
    volumes = np.stack([to_grid(read_scan(source), _GRID) for source in find_scans(scans).scans])
    save_checkpoint(draw_model(config, volumes, seed=seed), path)


def draw_model(
    config: ModelConfig, volumes: npt.NDArray[np.float16], *, seed: int = 0, trained_backbone: bool = False
) -> HeadCTClassifier:
    """A classifier with random weights whose answers depend on the image, on its routers and on its experts.

    Args:
        config: of the model; the thresholds are set anew, to the medians of its probabilities.
        volumes: float16 HU [n, slices, rows, cols], n at least 2: what scales and thresholds are fitted to.
        seed: of the weights.
        trained_backbone: the backbone gets the trained weights of its installed package; only the rest is drawn.

    Raises:
        MissingDependencyError: the package with the trained weights is not installed.
    """
    import torch
    from torch import nn

    from molre_edge.model.adapters import AdaptedLayer
    from molre_edge.model.classifier import HeadCTClassifier
    from molre_edge.model.standardisation import standardise_routers
    from molre_edge.training.start import load_backbone

    batch = torch.from_numpy(volumes.astype(np.float32))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = HeadCTClassifier(config).eval()
        if trained_backbone:
            load_backbone(model, None)
        else:
            _draw_backbone(model, batch)
        for module in model.modules():
            if isinstance(module, AdaptedLayer):
                nn.init.normal_(module.lora_B, std=0.02)
        standardise_routers(model, lambda: model(batch))
        _spread_gates(model, batch)
        embedding = model(batch).embedding
        # logits differ by 0.5 or so between scans, as those of a trained model do at least
        model.head.weight.normal_()
        model.head.weight *= 0.5 / (embedding @ model.head.weight.T).std(dim=0).median()
        model.head.bias.copy_(torch.randn(len(config.findings)) - model.head.weight @ embedding.mean(dim=0))
        probabilities = torch.sigmoid(model(batch).logits.double())
    model.config = replace(config, thresholds=tuple(float(p) for p in probabilities.quantile(0.5, dim=0)))
    return model


def _draw_backbone(model: HeadCTClassifier, batch: Tensor) -> None:
    """Make a new backbone's features differ between scans, as those of a trained one do."""
    from torch import nn

    for name, module in model.backbone.named_modules():
        if isinstance(module, nn.Linear):  # with the 0.02 of an untrained ViT, answers hardly depend on the image
            nn.init.xavier_normal_(module.weight, gain=2.0 if name.endswith(("q_proj", "k_proj")) else 1.0)
            if name.endswith("channel_attn.qkv"):  # sums over all positions: one rounding would decide its softmax
                module.weight[: 2 * module.out_features // 3] *= 0.25
    _settle_norms(model, batch)


def _settle_norms(model: HeadCTClassifier, batch: Tensor) -> None:
    """Give batch norms the scans' statistics, as training does: with those of a new one, scans hardly differ."""
    from torch import nn

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches, of which there is one
        norm.train()
    model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _spread_gates(model: HeadCTClassifier, batch: Tensor) -> None:
    """Scale each router's logits over the scans' slices to mean 0 and deviation 1: one leads, others take part.

    The deviation is that of its experts together: scaled one by one they would all tell the same few scans apart in the
    same measure, and one that hardly differs between scans would have its noise made large.
    """
    from torch import nn

    from molre_edge.model.routing import Router

    def spread(layer: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear)
        centre = logits.flatten(0, -2).mean(dim=0)
        deviation = logits.flatten(0, -2).std(dim=0).square().mean().sqrt()
        layer.weight /= deviation
        layer.bias.sub_(centre).divide_(deviation)
        return (logits - centre) / deviation  # so that later routers see what these gates make of the scans

    routers = [router for router in model.routers if isinstance(router, Router)]
    handles = [router.fc2.register_forward_hook(spread) for router in routers]
    model(batch)
    for handle in handles:
        handle.remove()
