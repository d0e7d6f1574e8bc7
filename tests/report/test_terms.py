"""The terms of the report: the glossary of the documentation says the same."""

import re
from pathlib import Path

import pytest

from dfq_deploy.report.terms import MEANINGS, Glossary


def test_the_glossary_has_the_same_words(checkout: Path) -> None:
    text = (checkout / "docs/glossary.md").read_text(encoding="utf-8").replace("`", "")
    known = dict(re.findall(r"^\| (.+?) \| (.+) \|$", text, re.MULTILINE))
    assert {term: known.get(term) for term in MEANINGS} == MEANINGS


def test_only_the_first_use_is_a_link() -> None:
    glossary = Glossary()
    first, second = glossary.term("agreement", "<agree>"), glossary.term("agreement")
    assert first.startswith('<a class="term" href="#term-agreement"')
    assert first.endswith(">&lt;agree&gt;</a>")
    assert second == "agreement"
    assert [entry[:2] for entry in glossary.entries()] == [("term-agreement", "agreement")]
    with pytest.raises(KeyError):
        glossary.term("no such term")
