"""Which content coding a client takes. RFC 9110 §12.5.3."""

from __future__ import annotations

import re
from collections.abc import Sequence

IDENTITY = "identity"
EVERYBODYS = "gzip"
MAX_CODINGS = 32
"""More than any client names; the rest of a longer list is not looked at."""

_CODING = re.compile(
    r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?", re.ASCII
)
_ALIASES = {"x-gzip": "gzip"}


def choose_coding(accept_encoding: str, offered: Sequence[str], *, useful: bool = True) -> str:
    """The coding to answer with: one of `offered` (best first), or `IDENTITY`.

    The highest q-value wins; among equals a coding that is named, or gzip, which every client has, comes before one
    that only ``*`` stands for, and then the order of `offered` decides. A coding is used only where it is asked for,
    by name or by ``*``; where `identity` is asked for above all others it is taken. What no coding makes smaller (it
    is not `useful`) is sent as it is, unless the client refuses just that. A client that refuses identity and takes
    nothing that is offered gets identity all the same, as RFC 9110 §12.4.1 allows.

    >>> choose_coding("gzip;q=0.5, zstd;q=0.8", ["zstd", "gzip"])
    'zstd'
    >>> choose_coding("gzip;q=0, *;q=0.1", ["gzip"])
    'identity'
    """
    weights = _weights(accept_encoding)
    others = weights.get("*", 0.0)
    best = max(
        offered,
        key=lambda coding: (weights.get(coding, others), coding in weights or coding == EVERYBODYS),
        default=IDENTITY,
    )
    weight = weights.get(best, others)
    as_it_is = weights.get(IDENTITY, weights.get("*", 1.0)) > 0  # RFC 9110 §12.5.3
    if not useful and as_it_is:
        return IDENTITY
    return best if weight > 0 and weight >= weights.get(IDENTITY, 0.0) else IDENTITY


def _weights(accept_encoding: str) -> dict[str, float]:
    """q-values by lower-case coding, the first of each; what cannot be read is left out."""
    weights: dict[str, float] = {}
    for item in accept_encoding.split(",", MAX_CODINGS)[:MAX_CODINGS]:
        match = _CODING.fullmatch(item)
        if match:
            name = match[1].lower()
            weights.setdefault(_ALIASES.get(name, name), float(match[2] or 1))
    return weights
