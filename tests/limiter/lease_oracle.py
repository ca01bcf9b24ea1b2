"""Leases that end, in the plainest words: what the scripts are held against."""

from __future__ import annotations


class LeaseOracle:
    """Who holds what until when; `instances` remember what they run, whatever has become of its lease."""

    def __init__(self, life: int, instances: int) -> None:
        self._life = life
        self._ends: dict[str, tuple[str, int]] = {}
        self._run: list[dict[str, tuple[str, int]]] = [{} for _ in range(instances)]

    def room(self, key: str, limit: int, now: int) -> bool:
        """Whether the key may take one more."""
        return sum(holder == key and end > now for holder, end in self._ends.values()) < limit

    def took(self, place: int, key: str, limit: int, lease: str, now: int) -> None:
        self._ends[lease] = (key, now + self._life)
        self._run[place][lease] = (key, limit)

    def took_again(self, place: int, lease: str, now: int) -> bool:
        """Whether a running export is counted that asks once more."""
        if lease not in self._run[place]:
            return False
        key, limit = self._run[place][lease]
        counted = self._ends.get(lease, ("", 0))[1] > now or self.room(key, limit, now)
        if counted:
            self._ends[lease] = (key, now + self._life)
        return counted

    def gave_back(self, place: int, lease: str) -> None:
        if self._run[place].pop(lease, None):
            self._ends.pop(lease, None)

    def renewed(self, place: int, now: int) -> None:
        """What lives goes on; what has ended begins anew where there is room, the oldest export first."""
        live = [lease for lease in self._run[place] if self._ends.get(lease, ("", 0))[1] > now]
        for lease in live:
            self._ends[lease] = (self._run[place][lease][0], now + self._life)
        for lease, (key, limit) in self._run[place].items():
            if lease not in live:
                self._ends.pop(lease, None)
                if self.room(key, limit, now):
                    self._ends[lease] = (key, now + self._life)

    def killed(self, place: int) -> None:
        self._run[place].clear()
