"""Sum the conformance suite up: passed, failed, not supported, and why."""

from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print one line of figures, and one for each reason not to run a case."""
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for outcome in ("passed", "failed", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if f"{FOLDER}/" not in report.nodeid or "test_node_case[" not in report.nodeid:
                continue
            counts[outcome] += 1
            if outcome == "skipped":
                reasons[str(report.longrepr[2]).removeprefix("Skipped: ")] += 1
    if not counts:
        return
    terminalreporter.section("ONNX node tests")
    terminalreporter.write_line(
        f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} not supported"
    )
    for reason, count in reasons.most_common():
        terminalreporter.write_line(f"  {count:4d}  {reason}")
