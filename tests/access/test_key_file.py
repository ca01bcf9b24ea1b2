"""The key file: what it may say, what it answers to mistakes, and when it is read again."""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from asgi_export import Caller
from asgi_export.access.key_file import KeyFile, read_key_file
from asgi_export.access.plans import digest_of
from asgi_export.access.watched_file import LOOK_AGAIN_SECONDS, SETTLED_SECONDS
from asgi_export.errors import StartupError

DIGEST = digest_of("secret").hex()
PLAN = '[plans.basic]\nlimits = ["60/60s", "1000/1d"]\nexports_at_once = 2\nmax_rows = 9\n'
GOOD = f'{PLAN}datasets = ["a"]\ncolumns = {{ a = ["id"] }}\n[keys.alice]\nsha256 = "{DIGEST}"\nplan = "basic"\n'


class Clock:
    """Seconds that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def write(path: Path, text: str) -> Path:
    """A file that was written long ago."""
    path.write_text(text, encoding="utf-8")
    os.utime(path, (0, time.time() - 60))
    return path


def test_a_key_has_its_plan(tmp_path: Path) -> None:
    owner = read_key_file(write(tmp_path / "keys.toml", GOOD)).find("secret")
    assert owner is not None
    plan = owner.plan
    assert (owner.name, plan.name, plan.exports_at_once, plan.max_rows) == ("alice", "basic", 2, 9)
    assert [(rule.limit, rule.window_seconds, rule.name) for rule in plan.rules] == [
        (60, 60, "default"),
        (1000, 86400, "1d"),
    ]
    assert plan.datasets == frozenset({"a"})
    assert plan.columns == {"a": {"id"}}


@pytest.mark.parametrize(
    ("text", "expiry"),
    [
        ("2027-01-01", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-01-01T06:00:00", datetime(2027, 1, 1, 6, tzinfo=UTC)),
        ("2027-01-01T06:00:00+02:00", datetime(2027, 1, 1, 4, tzinfo=UTC)),
    ],
)
def test_an_expiry_is_a_date_or_a_moment(tmp_path: Path, text: str, expiry: datetime) -> None:
    ring = read_key_file(write(tmp_path / "keys.toml", f"{GOOD}expires = {text}\n"))
    owner = ring.find("secret", now=datetime(2026, 1, 1, tzinfo=UTC))
    assert owner is not None
    assert owner.expires == expiry


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("", {}),
        ("claims = {}\n", {}),
        ("claims = { tenant = 42, price = 0.5, b = true }\n", {"tenant": 42, "price": 0.5, "b": True}),
        ('claims = { regions = ["eu", 1, false], none = [] }\n', {"regions": ["eu", 1, False], "none": []}),
    ],
)
def test_claims_are_those_of_the_caller(tmp_path: Path, text: str, claims: dict[str, Any]) -> None:
    owner = read_key_file(write(tmp_path / "keys.toml", GOOD + text)).find("secret")
    assert owner is not None
    assert owner.caller == Caller("alice", "basic", claims)


def test_a_plan_says_which_rows(tmp_path: Path) -> None:
    rights = 'rows = { a = { tenant = "$tenant", state = ["paid", 1, true], day = 2026-01-31 } }'
    text = GOOD.replace("[keys.alice]", f"{rights}\n[keys.alice]")
    owner = read_key_file(write(tmp_path / "keys.toml", text)).find("secret")
    assert owner is not None
    assert owner.plan.rows == {
        "a": {"tenant": "$tenant", "state": ["paid", 1, True], "day": date(2026, 1, 31)},
    }


def test_plans_are_there_by_name_and_read_again(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys.toml", GOOD)
    keys = KeyFile(path, clock=clock)
    assert keys.plans.keys() == {"basic"}
    write(path, f"{GOOD}[plans.more]\n")
    clock.now += LOOK_AGAIN_SECONDS
    assert keys.plans.keys() == {"basic", "more"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[plans", "not TOML"),
        ("[users.x]\n", "users: unknown; expected keys, plans"),
        ("keys = 3\n", "keys: expected tables"),
        ("[plans]\nbasic = 3\n", "plans: expected tables"),
        ("[plans.basic]\nlimit = 3\n", "plans.basic.limit: unknown"),
        ("[plans.basic]\nlimits = 3\n", "plans.basic.limits=3: expected a list"),
        ('[plans.basic]\nlimits = ["60"]\n', "60/60s"),
        ("[plans.basic]\nmax_rows = 0\n", "plans.basic.max_rows=0: expected a whole number from 1"),
        ("[plans.basic]\nmax_rows = true\n", "plans.basic.max_rows=True: expected a whole number"),
        ("[plans.basic]\ndatasets = 'a'\n", "plans.basic.datasets='a': expected a list of names"),
        ("[plans.basic]\ncolumns = ['a']\n", "expected a table of lists"),
        ("[plans.basic]\nrows = ['a']\n", "plans.basic.rows=['a']: expected a table of tables"),
        ("[plans.basic]\nrows.a = 'b'\n", "plans.basic.rows.a='b': expected a table such as { tenant_id = "),
        ("[plans.basic]\nrows.a = {}\n", "plans.basic.rows.a={}: expected a table such as"),
        (
            "[plans.basic]\nrows.a.b = '$'\n",
            "plans.basic.rows.a.b='$': expected text, a number, a boolean, a list of",
        ),
        ("[plans.basic]\nrows.a.b = ['$x']\n", "plans.basic.rows.a.b=['$x']: expected text, a number, a boolean"),
        ("[plans.basic]\nrows.a.b.c = 1\n", "plans.basic.rows.a.b={'c': 1}: expected text"),
        ("[plans.basic]\ndatasets = ['b']\nrows.a.b = 1\n", "plans.basic.rows.a: expected one of the plan's dataset"),
        ("[plans.basic]\ncolumns.a = [1]\n", "plans.basic.columns.a=[1]: expected a list of names"),
        (
            f'[keys.a]\nsha256 = "{DIGEST}"\nplan = "x"\n',
            "a plan of this file: there is none",
        ),
        (f'{PLAN}[keys.a]\nsha256 = "{DIGEST}"\nplan = ["basic"]\n', "expected a plan of this file: basic"),
        (f'{PLAN}[keys.a]\nsha256 = "abc"\nplan = "basic"\n', "keys.a.sha256: expected 64 hex digits"),
        (f'{PLAN}[keys."a b"]\nsha256 = "{DIGEST}"\nplan = "basic"\n', "keys.a b: expected an owner"),
        (f'{GOOD}expires = "soon"\n', "keys.alice.expires='soon': expected a date"),
        (f'{GOOD}key = "secret"\n', "keys.alice.key: unknown; expected claims, expires, plan, sha256"),
        (f"{GOOD}claims = 42\n", "keys.alice.claims=42: expected a table such as { tenant = 42 }"),
        (f"{GOOD}claims = {{ a = 2027-01-01 }}\n", "keys.alice.claims.a=datetime.date(2027, 1, 1): expected text, a"),
        (f"{GOOD}claims = {{ a = {{ b = 1 }} }}\n", "keys.alice.claims.a={'b': 1}: expected text, a number, a bool"),
        (f"{GOOD}claims = {{ a = [[1]] }}\n", "keys.alice.claims.a=[[1]]: expected text, a number, a boolean, or a"),
        (f"{GOOD}claims = {{ a = nan }}\n", "keys.alice.claims.a=nan: expected text, a number, a boolean, or a list"),
        (f"{GOOD}claims = {{ a = [1, -inf] }}\n", "keys.alice.claims.a=[1, -inf]: expected text, a number, a bool"),
        (GOOD.replace("basic", "").replace("plans.", 'plans.""'), "plan: expected 1 to 256 printable characters"),
        (f'{GOOD}[keys.bob]\nsha256 = "{DIGEST}"\nplan = "basic"\n', "two owners have the same key"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "keys.toml", text)
    with pytest.raises(StartupError) as caught:
        read_key_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="No such file"):
        KeyFile(tmp_path / "keys.toml")


def test_a_changed_file_is_read_again_within_a_second(tmp_path: Path) -> None:
    clock = Clock()
    keys = KeyFile(write(tmp_path / "keys.toml", GOOD), clock=clock)
    write(tmp_path / "keys.toml", GOOD.replace("alice", "bob"))
    held = keys.ring().find("secret")
    clock.now += LOOK_AGAIN_SECONDS
    fresh = keys.ring().find("secret")
    assert held is not None
    assert fresh is not None
    assert (held.name, fresh.name) == ("alice", "bob")


def test_a_file_that_is_being_written_is_not_read_before_it_has_settled(tmp_path: Path) -> None:
    """Emptied first, as a shell's `>` does: nobody loses his key meanwhile."""
    clock, path = Clock(), tmp_path / "keys.toml"
    keys = KeyFile(write(path, GOOD), clock=clock, wall_clock=lambda: 1000.0 + clock.now)

    def change(text: str) -> None:
        path.write_text(text, encoding="utf-8")
        os.utime(path, (0, 1000.0 + clock.now))

    clock.now += LOOK_AGAIN_SECONDS
    change("")
    clock.now += SETTLED_SECONDS / 2
    during = keys.ring().find("secret")
    change(GOOD.replace("alice", "bob"))
    clock.now += SETTLED_SECONDS
    after = keys.ring().find("secret")
    assert during is not None
    assert after is not None
    assert (during.name, after.name) == ("alice", "bob")


def test_a_time_to_come_does_not_keep_a_file_from_being_read(tmp_path: Path) -> None:
    """The clock of a file server may be ahead."""
    clock, path = Clock(), tmp_path / "keys.toml"
    keys = KeyFile(write(path, GOOD), clock=clock)
    write(path, GOOD.replace("alice", "bob"))
    os.utime(path, (0, time.time() + 3600))
    clock.now += LOOK_AGAIN_SECONDS
    owner = keys.ring().find("secret")
    assert owner is not None
    assert owner.name == "bob"


def test_a_file_that_was_not_changed_is_not_read_again(tmp_path: Path) -> None:
    clock = Clock()
    keys = KeyFile(write(tmp_path / "keys.toml", GOOD), clock=clock)
    before = keys.ring()
    clock.now += 10 * LOOK_AGAIN_SECONDS
    assert keys.ring() is before


@pytest.mark.parametrize("change", ["broken", "gone"])
def test_a_broken_file_keeps_the_old_keys_and_says_so_once(
    tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    path = write(tmp_path / "keys.toml", GOOD)
    keys = KeyFile(path, clock=clock)
    if change == "gone":
        os.unlink(path)
    else:
        write(path, "[plans")
    for _ in range(3):
        clock.now += LOOK_AGAIN_SECONDS
        assert keys.ring().find("secret") is not None
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "the old keys stay" in errors[0].getMessage()


def test_a_mended_file_is_taken_again(tmp_path: Path) -> None:
    clock = Clock()
    path = write(tmp_path / "keys.toml", GOOD)
    keys = KeyFile(path, clock=clock)
    write(path, "[plans")
    clock.now += LOOK_AGAIN_SECONDS
    keys.ring()
    write(path, GOOD.replace("alice", "carol"))
    clock.now += LOOK_AGAIN_SECONDS
    owner = keys.ring().find("secret")
    assert owner is not None
    assert owner.name == "carol"
