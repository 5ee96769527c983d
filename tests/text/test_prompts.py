"""A prompt's tokens in rows of 77, parted as the WebUI parts them."""

import pytest

from lib_finetune.text.prompts import END, START, chunks_of

COMMA = 267


def parted(*tokens, limit=None):
    """The rows without start, end and what fills them up."""
    rows = chunks_of(tokens, COMMA, limit)
    assert all(len(row) == 77 and row[0] == START and row[-1] == END for row in rows)
    return [[token for token in row[1:-1] if token != END] for row in rows]


def words(count, first=1000):
    return [*range(first, first + count)]


def test_a_short_prompt_is_one_row_and_so_is_none():
    assert parted(*words(75)) == [words(75)] and parted() == [[]]


def test_without_a_comma_a_row_is_filled_up():
    assert parted(*words(80)) == [words(75), words(5, 1075)]


@pytest.mark.parametrize("behind", [1, 7, 19])
def test_the_words_behind_a_near_comma_begin_the_next_row(behind):
    first, second = words(75 - behind - 1), words(behind + 4, 2000)
    assert parted(*first, COMMA, *second) == [[*first, COMMA], second]


def test_behind_a_far_comma_a_row_is_filled_up():
    first, second = words(54), words(24, 2000)
    assert parted(*first, COMMA, *second) == [[*first, COMMA, *second[:20]], second[20:]]


def test_a_comma_that_ends_a_full_row_stays_in_it_and_one_behind_it_begins_the_next():
    assert parted(*words(74), COMMA, *words(3, 2000)) == [[*words(74), COMMA], words(3, 2000)]
    assert parted(*words(75), COMMA, 5) == [words(75), [COMMA, 5]]


def test_a_comma_counts_for_its_own_row_only():
    first, second, third = words(70), words(74, 2000), words(3, 3000)
    assert parted(*first, COMMA, *second, *third) == [[*first, COMMA], [*second, third[0]], third[1:]]


@pytest.mark.parametrize(("limit", "read"), [(None, 80), (80, 80), (75, 75), (3, 3), (0, 0)])
def test_what_is_behind_the_limit_is_not_read(limit, read):
    assert [token for row in parted(*words(80), limit=limit) for token in row] == words(read)
    assert parted(*words(3), (7, 7, 7), 9, limit=5) == [words(3)]  # a word is read whole or not at all
