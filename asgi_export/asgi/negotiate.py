"""Choose the content coding of a response. RFC 9110 §12.5.3."""

from __future__ import annotations

import re
from collections.abc import Sequence

UNCODED = "identity"
EVERYBODYS = "gzip"
MAX_CODINGS = 32
"""More than any client names; the rest of a longer list is ignored."""

_CODING = re.compile(
    r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*)?", re.ASCII
)
_ALIASES = {"x-gzip": "gzip"}


def choose_coding(accept_encoding: str, available: Sequence[str], *, useful: bool = True) -> str:
    """Choose the coding of an answer: one of `available` (best first), or `UNCODED`.

    The highest q-value wins. Among equals a coding that the header names, or gzip, which every client has, wins over
    one that only ``*`` matches; then the order of `available` decides. A coding is used only if the header asks for
    it, by name or by ``*``, and not if `identity` has a higher q-value. A body that no coding makes smaller (not
    `useful`) is sent uncompressed, unless the client refuses `identity`. If the client refuses `identity` and accepts
    none of the available codings, the body is sent uncompressed all the same, as RFC 9110 §12.4.1 allows.

    >>> choose_coding("gzip;q=0.5, zstd;q=0.8", ["zstd", "gzip"])
    'zstd'
    >>> choose_coding("gzip;q=0, *;q=0.1", ["gzip"])
    'identity'
    """
    weights = _weights(accept_encoding)
    others = weights.get("*", 0.0)
    best = max(
        available,
        key=lambda coding: (weights.get(coding, others), coding in weights or coding == EVERYBODYS),
        default=UNCODED,
    )
    weight = weights.get(best, others)
    accepts_identity = weights.get(UNCODED, weights.get("*", 1.0)) > 0  # RFC 9110 §12.5.3
    if not useful and accepts_identity:
        return UNCODED
    return best if weight > 0 and weight >= weights.get(UNCODED, 0.0) else UNCODED


def _weights(accept_encoding: str) -> dict[str, float]:
    """Parse q-values by lower-case coding, the first of each; skip items that cannot be parsed."""
    weights: dict[str, float] = {}
    for item in accept_encoding.split(",", MAX_CODINGS)[:MAX_CODINGS]:
        match = _CODING.fullmatch(item)
        if match:
            name = match[1].lower()
            weights.setdefault(_ALIASES.get(name, name), float(match[2] or 1))
    return weights
