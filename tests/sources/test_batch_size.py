"""The size of the next batch: small at first, and bounded by rows, by cells and by bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_export.sources.batch_size import GROWTH, MAX_BYTES, MAX_CELLS, MAX_ROWS, SLOW_SECONDS, BatchSize


def grown(columns: int, row: tuple[object, ...]) -> list[int]:
    size, sizes = BatchSize(columns), []
    for _ in range(6):
        sizes.append(size.rows)
        size.came([row] * size.rows)
    return sizes


def test_the_first_batch_is_one_row_and_the_next_are_larger() -> None:
    assert grown(4, (1, 2, 3, 4)) == [1, GROWTH, GROWTH**2, GROWTH**3, MAX_ROWS, MAX_ROWS]


def test_wide_rows_come_in_smaller_batches() -> None:
    assert grown(1000, (1,) * 1000)[-1] == MAX_CELLS // 1000
    assert grown(10**6, (1,))[-1] == 1


def test_large_rows_come_in_smaller_batches() -> None:
    text = "x" * (MAX_BYTES // 10 - 1)
    assert grown(1, (text,))[-1] == 10
    assert grown(1, (text.encode(),))[-1] == 10
    assert grown(1, ("x" * MAX_BYTES * 2,))[-1] == 1


def test_one_large_row_in_the_middle_or_at_an_end_is_seen() -> None:
    for place in (0, 4, 7):
        size = BatchSize(1)
        size.came([("x",)])
        batch = [("x",)] * 8
        batch[place] = ("x" * MAX_BYTES,)
        size.came(batch)
        assert size.rows == 1


def test_after_large_rows_it_grows_again() -> None:
    size = BatchSize(1)
    size.came([("x" * MAX_BYTES,)])
    assert size.rows == 1
    size.came([("x",)])
    assert size.rows == GROWTH


def test_an_empty_batch_says_nothing() -> None:
    size = BatchSize(1)
    size.came([("x",)])
    size.came([])
    assert size.rows == GROWTH


@pytest.mark.parametrize(
    ("rows", "seconds", "expected"),
    [
        (1, 0.0, 8),
        (512, 0.0, 1000),
        (1000, 0.0, 1000),
        (64, SLOW_SECONDS / 2, 64),
        (64, SLOW_SECONDS * 2, 8),
        (1, 60.0, 1),
    ],
)
def test_a_batch_grows_while_it_is_quick_and_shrinks_when_it_is_slow(
    rows: int, seconds: float, expected: int
) -> None:
    size = BatchSize(1)
    size.rows = rows
    size.took(seconds)
    assert size.rows == expected


@given(st.integers(0, 5000), st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=4), max_size=8))
def test_it_is_never_nothing_and_never_past_its_bounds(columns: int, batches: list[list[int]]) -> None:
    size = BatchSize(columns)
    for lengths in batches:
        size.came([("x" * length,) for length in lengths])
        assert 1 <= size.rows <= MAX_ROWS
        assert size.rows == 1 or size.rows * columns <= MAX_CELLS
