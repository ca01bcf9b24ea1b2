"""Measurements that a part of the service reports about itself at any moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Metric:
    """One number as it is now; `source` names the source that it is of, and is empty for the whole process."""

    name: str
    value: float
    source: str = ""


@runtime_checkable
class Measured(Protocol):
    """What can be measured. `metrics` costs microseconds and never fails; names that nobody knows are ignored."""

    def metrics(self) -> Iterable[Metric]: ...
