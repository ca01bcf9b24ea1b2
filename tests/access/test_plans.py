"""Keys are known by their digest, and only while they are valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from asgi_export.access.plans import OPEN, AccessPlan, KeyRing, Owner, digest_of, new_key

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALICE = Owner("alice", AccessPlan("basic"))


def test_a_key_finds_its_owner() -> None:
    ring = KeyRing([(digest_of("secret"), ALICE), (digest_of("other"), Owner("bob", OPEN))])
    assert ring.find("secret") is ALICE
    assert len(ring) == 2


def test_an_unknown_key_finds_nobody() -> None:
    ring = KeyRing([(digest_of("secret"), ALICE)])
    assert ring.find("Secret") is None
    assert ring.find("") is None
    assert ring.find("\udcff") is None


def test_a_digest_that_only_begins_alike_is_another_key() -> None:
    """The index is by four bytes, which anybody can find a collision for; what decides is the whole digest."""
    digest = digest_of("secret")
    ring = KeyRing([(digest[:4] + bytes(28), ALICE), (digest, Owner("bob", OPEN))])
    found = ring.find("secret")
    assert found is not None
    assert found.name == "bob"


def test_a_key_ends_at_its_expiry_to_the_moment() -> None:
    ring = KeyRing([(digest_of("k"), Owner("alice", OPEN, expires=NOW))])
    assert ring.find("k", now=NOW - timedelta(microseconds=1)) is not None
    assert ring.find("k", now=NOW) is None


def test_keys_are_long_random_and_safe_in_urls() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(len(key) >= 43 and key.replace("_", "").replace("-", "").isalnum() for key in keys)


def test_rights_are_by_dataset_and_by_column() -> None:
    plan = AccessPlan("p", datasets=frozenset({"a", "b"}), columns={"a": frozenset({"id"})})
    assert (plan.reads("a"), plan.reads("c")) == (True, False)
    assert (plan.reads_column("a", "id"), plan.reads_column("a", "email")) == (True, False)
    assert plan.reads_column("b", "anything")
    assert OPEN.reads("c")
    assert OPEN.reads_column("c", "email")
