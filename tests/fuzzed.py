"""schemathesis, run by what a service says of itself: every phase, every check, the same requests every time."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.run import TESTING_PHASES


def configured(*, examples: int = 5, key: str = "", **changes: Any) -> SchemathesisConfig:
    """So many examples an operation, beside those that cover every schema, and the key of most requests.

    What the description allows is a success, what it forbids a 400, 403 or 404, or a 414 where the query gets long by
    it: narrower than schemathesis's own choice. Where there are keys 401 is added, as it makes up keys too, and no
    schema says which are known.
    """
    unknown = ["401"] if key else []
    statuses = {
        "negative_data_rejection": ["400", "403", "404", "414", *unknown],
        "positive_data_acceptance": ["2xx", *unknown],
    }
    return SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "headers": {"X-API-Key": key} if key else {},
            "generation": {"max-examples": examples, "deterministic": True, "database": "none", **changes},
            "checks": {name: {"expected-statuses": found} for name, found in statuses.items()},
        }
    )


def part_of(schema: Any, *exports: str) -> Any:
    """The description of `csv`, where links lead, of these exports (`{dataset}.arrow`), and of every other page.

    The other exports have the same parameters and answers; a run of all of them says so once, in raw ASGI.
    """
    names = "|".join(map(re.escape, ("csv", *exports)))
    return schema.include(path_regex=rf"/({names}|openapi\.json|healthz|readyz|)$")


@dataclass(slots=True)
class Findings:
    """What came of a run: failures in words, how often each check was made, phases that passed, and statuses."""

    failures: list[str] = field(default_factory=list)
    checks: Counter[str] = field(default_factory=Counter)
    passed: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)

    def note(self, event: object) -> None:
        if isinstance(event, events.ScenarioFinished):
            responses = [one.response for one in event.recorder.interactions.values() if one.response]
            self.statuses.update([response.status_code for response in responses])
            for check in [check for checks in event.recorder.checks.values() for check in checks]:
                self.checks[check.name] += 1
                if check.failure_info:
                    self.failures.append(f"{event.recorder.label}: {check.failure_info.failure}")
        elif isinstance(event, events.PhaseFinished) and event.status == Status.SUCCESS:
            self.passed.add(event.phase.name)
        elif isinstance(event, events.NonFatalError | events.FatalError):
            self.failures.append(str(event))


def findings(schema: Any) -> Findings:
    """Run every phase; `schema` is the description as schemathesis has loaded it."""
    found = Findings()
    for event in from_schema(schema).execute():
        found.note(event)
    return found


def expect_nothing(found: Findings) -> None:
    """Every phase has passed, every check there is was made, and requests of every kind were answered."""
    assert found.failures == []
    assert set(TESTING_PHASES) <= found.passed
    assert set(CHECKS.get_all_names()) <= found.checks.keys()
    assert min(found.statuses[status] for status in (200, 204, 400, 405)) > 5, found.statuses
