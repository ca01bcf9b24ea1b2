"""A caller as a value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from asgi_export import Caller


@pytest.mark.parametrize("name", ["a", "alice@example.org", "auth0|5f7c", "Zoë Ångström", "漢" * 256])
def test_an_id_is_printable_text(name: str) -> None:
    assert Caller(name).id == name


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a\x1b[31m", "\ud800", "a\u2028b", "\u202eevil", 7, None])
def test_another_id_is_refused_and_not_repeated(name: Any) -> None:
    """A log that prints the error prints nothing that a client chose."""
    with pytest.raises(ValueError, match=r"^id: expected 1 to 256 printable characters$"):
        Caller(name)


@pytest.mark.parametrize("plan", ["", "x" * 257, "a\nb", 7])
def test_the_name_of_a_plan_is_printable_too(plan: Any) -> None:
    with pytest.raises(ValueError, match=r"^plan: expected 1 to 256 printable characters$"):
        Caller("alice", plan)


def test_a_caller_does_not_change() -> None:
    claims = {"tenant": 1}
    caller = Caller("alice", claims=claims)
    claims["tenant"] = 2
    assert caller.claims["tenant"] == 1
    with pytest.raises(TypeError):
        caller.claims["tenant"] = 2  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        caller.id = "bob"  # type: ignore[misc]


def test_claims_are_no_part_of_what_is_printed() -> None:
    assert repr(Caller("alice", claims={"email": "a@example.org"})) == "Caller(id='alice', plan=None)"


def test_callers_are_values() -> None:
    assert Caller("alice", claims={"tenants": [1]}) == Caller("alice", claims={"tenants": [1]})
    assert len({Caller("alice", claims={"tenants": [1]}), Caller("alice", claims={"tenants": [1]})}) == 1
    assert Caller("alice", claims={"tenants": [1]}) != Caller("alice", claims={"tenants": [2]})
