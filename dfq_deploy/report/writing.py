"""Write report.json and report.html.

docs/formats.md lists the keys of the JSON; every one may be missing, and then the page lacks that part.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.json_text import json_text
from dfq_deploy.report.page import page

__all__ = ["write_report"]


def write_report(report: Mapping[str, Any], folder: Path, pictures: Sequence[bytes] = ()) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into ``folder``.

    Args:
        pictures: of the samples in ``report["answers"]``, as WebP (:mod:`dfq_deploy.report.thumbnails`).

    Raises:
        OutputError: they cannot be written.
    """
    written = folder / "report.json", folder / "report.html"
    text = json_text(report) + "\n"
    for path, content in zip(written, (text, page(report, pictures)), strict=True):
        with atomic_file(path) as partial:
            partial.write_text(content, encoding="utf-8")
    return written
