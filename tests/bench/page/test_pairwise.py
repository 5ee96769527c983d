import itertools

from bench.page.pairwise import rows
from bench.page.screenshots import FACTORS, name_of


def test_every_pair_of_values_comes_and_none_of_the_rows_twice():
    chosen = rows(FACTORS, 40)
    assert len(chosen) == 40 and len({name_of(row) for row in chosen}) == 40
    for one, other in itertools.combinations(FACTORS, 2):
        pairs = {(row[one], row[other]) for row in chosen}
        assert pairs == set(itertools.product(FACTORS[one], FACTORS[other])), (one, other)


def test_few_rows_are_enough_and_the_same_each_time():
    few = rows(FACTORS, 0)
    assert 20 <= len(few) <= 24 and few == rows(FACTORS, 0) == rows(FACTORS, 40)[: len(few)]


def test_a_factor_of_one_value_makes_no_rows_of_its_own():
    assert rows({"place": ("a", "b"), "theme": ("dark",)}, 0) == [{"place": "a", "theme": "dark"}, {"place": "b", "theme": "dark"}]
