"""The breaker counts failures in a row, and what failed at once as one."""

from __future__ import annotations

from asgi_export.redis_client.breaker import FAILURES, Breaker


def test_opens_at_the_third_failure_in_a_row_and_says_so_once() -> None:
    breaker = Breaker()
    assert [breaker.note_failure(number) for number in range(FAILURES + 2)] == [False, False, True, False, False]
    assert breaker.open


def test_an_answer_in_between_starts_the_count_anew() -> None:
    breaker = Breaker()
    for number in range(10):
        assert not breaker.note_failure((number, 1))
        assert not breaker.note_failure((number, 2))
        breaker.note_answer()
    assert not breaker.open


def test_what_failed_on_one_occasion_is_one_failure() -> None:
    """A connection that breaks under sixty hits breaks once."""
    breaker, occasion = Breaker(), object()
    assert not any(breaker.note_failure(occasion) for _ in range(60))
    assert not breaker.open


def test_an_answer_does_not_close_it_but_who_has_looked_does() -> None:
    """A late answer says nothing about the next one."""
    breaker = Breaker()
    breaker.trip()
    breaker.note_answer()
    assert breaker.open
    breaker.close()
    assert not breaker.open
    assert [breaker.note_failure(number) for number in (1, 2, 3)] == [False, False, True]
