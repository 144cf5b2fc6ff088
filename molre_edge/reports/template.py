"""The templates of pages: one environment, in which every text is escaped, and one style for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from molre_edge.findings import finding_words
from molre_edge.parity.text import area, auc_difference, cosine, milliseconds, number, percent, probability, typeset
from molre_edge.specs import DISCLAIMER

if TYPE_CHECKING:
    import jinja2

__all__ = ["render_template"]

_FILTERS: dict[str, Callable[..., str]] = {
    "num": number,
    "signed": partial(number, signed=True),
    "dp": partial(number, aligned=True),
    "shift": partial(number, aligned=True, signed=True),
    "p": probability,
    "area": area,
    "percent": percent,
    "ms": milliseconds,
    "auc": auc_difference,
    "cosine": cosine,
    "typeset": typeset,
    "words": finding_words,
}


def render_template(name: str, context: Mapping[str, Any]) -> str:
    """A self-contained HTML page: no scripts, nothing loaded, every text escaped.

    Args:
        name: of a template of this package that extends ``base.html``.
        context: its values. ``pictures`` allows images within the page; SVG of
            :func:`molre_edge.reports.plots.picture` is put in with the filter ``safe``.
    """
    head = {"disclaimer": DISCLAIMER, "pictures": False, "style": _text("page.css")}
    return _environment().get_template(name).render({**head, **context})


def _text(name: str) -> str:
    return resources.files("molre_edge.reports").joinpath(name).read_text(encoding="utf-8")


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(_text),
    )
    environment.filters.update(_FILTERS)
    return environment
