"""A small --max-memory leaves each step its share; sentences are kept where a report is made."""

from dfq_deploy.validation.bounds import Bounds, use_bounds
from dfq_deploy.validation.budget import ENOUGH, allowance, budget, in_megabytes, note, noted


def test_a_large_budget_changes_nothing() -> None:
    with use_bounds(Bounds(memory=2**40)):
        assert (budget(), allowance(2**29), allowance(3)) == (ENOUGH, 2**29, 3)


def test_a_small_budget_leaves_the_same_share_to_each_step() -> None:
    with use_bounds(Bounds(memory=ENOUGH // 8)):
        assert (budget(), allowance(2**29), allowance(3)) == (2**28, 2**26, 1)


def test_sentences_are_kept_once_and_in_the_inner_block() -> None:
    note("nobody listens")
    with noted() as outer:
        note("one")
        note("one")
        with noted() as inner:
            note("two")
        note("three")
    assert (outer, inner) == (["one", "three"], ["two"])


def test_sizes_for_a_reader() -> None:
    assert [in_megabytes(size) for size in (2**26, 500_000)] == ["67.1 MB", "0.5 MB"]
