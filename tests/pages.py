"""The blocks of the Markdown pages: which are run, what they print, and why some are not run.

A block starts with three backticks and its language. ``python`` and ``sh`` are run by the tests, unless the line above
says ``<!-- not run: REASON -->``; ``<!-- needs: MODULE -->`` leaves a block out where there is no such module. A block
of ``text`` is what the block before it prints.
"""

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CHECKOUT", "LANGUAGES", "PAGES", "Block", "blocks", "expected", "relative"]

CHECKOUT = Path(__file__).parents[1]

PAGES = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "examples").rglob("*.md")])

LANGUAGES = {"python", "sh", "text", "json", "toml", "yaml", "csv", "js", "kotlin", "swift", "cpp"}

FENCE = re.compile(
    r"^(?:(?P<indent> *)<!-- (?P<mark>not run|needs): (?P<said>.+) -->\n)?"
    r"(?P<margin> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=margin)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block of a page.

    Args:
        language: what stands behind the backticks.
        code: the lines between, without the margin of a list.
        start: offset of the code in the page.
        not_run: why it is not run; empty if it is.
        needs: the module without which it is left out; empty if it needs none.
    """

    language: str
    code: str
    start: int
    not_run: str = ""
    needs: str = ""


def blocks(page: Path) -> list[Block]:
    """All blocks of a page, in their order."""
    found = []
    for match in FENCE.finditer(page.read_text(encoding="utf-8")):
        said = {match["mark"]: match["said"]}
        code = re.sub(rf"^{match['margin']}", "", match["code"], flags=re.MULTILINE)
        found.append(
            Block(match["language"], code, match.start("code"), said.get("not run", ""), said.get("needs", ""))
        )
    return found


def relative(page: Path) -> str:
    """Name of a page, for the tests."""
    return page.relative_to(CHECKOUT).as_posix()


def expected(shown: str, printed: str) -> str | None:
    """The first line that a page shows and a command did not print, in order; None if there is none.

    Numbers and spaces are not compared, and neither is what ``...`` stands for. A verdict OK is not compared where a
    busy machine measured that the quantized model is not faster.
    """
    left = _plain(printed)
    timed = re.search(r"\b(CHECK|BAD)\b\W+(slower than|about as fast as) float", printed) is not None
    for line in shown.splitlines():
        if timed and re.match(r"OK\b", line):
            continue
        for part in map(_plain, line.split("...")):
            at = left.find(part)
            if at < 0:
                return line
            left = left[at + len(part) :]
    return None


def _plain(text: str) -> str:
    return re.sub(r"\d+(?:[.,]\d+)*", "#", " ".join(text.split()))
