"""Multi-label focal loss with prevalence weights; unknown labels are left out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["focal_loss", "prevalence_weights"]


def focal_loss(logits: Tensor, labels: Tensor, weights: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al., arXiv 1708.02002) of independent findings, as the MoLRE paper uses it (gamma 2).

    ``-w (1 - p)^gamma log(p)`` where the finding is present, ``-p^gamma log(1 - p)`` where it is absent.

    Args:
        logits: [batch, findings].
        labels: [batch, findings], 1, 0 or NaN for unknown.
        weights: [findings], w of the present findings; see :func:`prevalence_weights`.
        gamma: 0 is weighted cross-entropy.

    Returns:
        The mean over the known labels; 0 where none is known.
    """
    known = ~labels.isnan()
    target = torch.where(known, labels, torch.zeros_like(labels))
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = torch.sigmoid(torch.where(target > 0.5, -logits, logits))  # 1 - p of what is true
    loss = missed.pow(gamma) * cross_entropy * torch.where(target > 0.5, weights, torch.ones_like(weights))
    return (loss * known).sum() / known.sum().clamp_min(1)


def prevalence_weights(labels: Tensor, *, largest: float = 20.0) -> Tensor:
    """Absent over present of each finding, so that both weigh the same; between 1 and `largest`.

    Args:
        labels: [scans, findings], NaN for unknown.
        largest: a finding seen once would otherwise outweigh all others.

    Returns:
        [findings]; 1 for findings that were never seen.
    """
    present, absent = (labels == 1).sum(0), (labels == 0).sum(0)
    weights = absent / present.clamp_min(1)
    return torch.where(present > 0, weights.clamp(1.0, largest), torch.ones_like(weights))
