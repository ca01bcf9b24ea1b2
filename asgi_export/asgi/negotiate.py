"""Which content coding a client takes. RFC 9110 §12.5.3."""

from __future__ import annotations

import re
from collections.abc import Sequence

IDENTITY = "identity"
MAX_CODINGS = 32
"""More than any client names; the rest of a longer list is not looked at."""

_CODING = re.compile(
    r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?", re.ASCII
)
_ALIASES = {"x-gzip": "gzip"}


def choose_coding(accept_encoding: str, offered: Sequence[str]) -> str:
    """The coding to answer with: one of `offered` (best first), or `IDENTITY`.

    The highest q-value wins, and among equals the order of `offered`. A coding is used only where it is asked
    for, by name or by ``*``; where `identity` is asked for above all others it is taken. A client that refuses
    identity and takes nothing that is offered gets identity all the same, as RFC 9110 §12.4.1 allows.

    >>> choose_coding("gzip;q=0.5, zstd;q=0.8", ["zstd", "gzip"])
    'zstd'
    >>> choose_coding("gzip;q=0, *;q=0.1", ["gzip"])
    'identity'
    """
    weights = _weights(accept_encoding)
    others = weights.get("*", 0.0)
    best = max(offered, key=lambda coding: weights.get(coding, others), default=IDENTITY)
    weight = weights.get(best, others)
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
