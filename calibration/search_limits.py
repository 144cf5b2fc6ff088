"""The parity limits as the search applies them, and the share of them that a graph uses."""

from __future__ import annotations

from dataclasses import replace

from molre_edge.parity import ParityLimits, ParityNumbers

__all__ = ["allow_one_flip", "scale_limits", "sensitivity"]


def sensitivity(numbers: ParityNumbers, limits: ParityLimits) -> float:
    """The largest share of a limit that a graph uses: 1 is all of it, infinity means that its answers are not finite.

    Decision flips do not count, because they come in steps. For limits on none of |dp|, |dlogit|, cosine, routing and
    attention over slices, this is the largest |dp| itself.
    """
    if numbers.nonfinite or numbers.dp.max_abs is None:
        return float("inf")
    dp = numbers.dp.max_abs
    shares = [] if limits.max_abs_dp is None else [_share(dp, limits.max_abs_dp)]
    if limits.max_abs_dlogit is not None and numbers.max_abs_dlogit is not None:
        shares.append(_share(numbers.max_abs_dlogit, limits.max_abs_dlogit))
    if limits.min_cosine is not None and numbers.min_cosine is not None:
        shares.append(_share(1.0 - numbers.min_cosine, 1.0 - limits.min_cosine))
    if limits.max_routing_l1 is not None and numbers.gates is not None and numbers.gates.max_l1 is not None:
        shares.append(_share(numbers.gates.max_l1, limits.max_routing_l1))
    if limits.max_attention_l1 is not None and numbers.attention is not None and numbers.attention.max_l1 is not None:
        shares.append(_share(numbers.attention.max_l1, limits.max_attention_l1))
    return max(shares, default=dp)


def _share(measured: float, limit: float) -> float:
    return measured / max(limit, 1e-9)


def scale_limits(limits: ParityLimits, share: float) -> ParityLimits:
    """The limits of |dp|, |dlogit|, cosine, routing and attention over slices at this share of their size.

    Limits of decision flips and AUC stay: on few scans they come in steps as large as the limit.
    """

    def scaled(limit: float | None) -> float | None:
        return None if limit is None else share * limit

    return replace(
        limits,
        max_abs_dp=scaled(limits.max_abs_dp),
        max_abs_dlogit=scaled(limits.max_abs_dlogit),
        min_cosine=None if limits.min_cosine is None else 1.0 - share * (1.0 - limits.min_cosine),
        max_routing_l1=scaled(limits.max_routing_l1),
        max_attention_l1=scaled(limits.max_attention_l1),
    )


def allow_one_flip(limits: ParityLimits, decisions: int) -> ParityLimits:
    """The limits for a comparison of this many decisions, of which one may flip even if that is above the limit.

    For comparisons of a part of the scans. On all scans together the limit itself holds.
    """
    if limits.max_flips_fraction is None:
        return limits
    return replace(limits, max_flips_fraction=max(limits.max_flips_fraction, 1 / decisions))
