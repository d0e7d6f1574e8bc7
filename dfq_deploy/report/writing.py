"""Write report.json and report.html.

docs/formats.md lists the keys of the JSON; every one may be missing, and then the page lacks that part.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.json_text import json_text
from dfq_deploy.report.html import page

__all__ = ["write_report"]


def write_report(report: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Write ``report.json`` and ``report.html`` into ``folder``; the page holds its ``samples.png``, if it is there.

    Raises:
        OutputError: they cannot be written.
    """
    written = folder / "report.json", folder / "report.html"
    text = json_text(report) + "\n"
    picture = folder / "samples.png"
    data = base64.b64encode(picture.read_bytes()).decode() if picture.is_file() else ""
    for path, content in zip(written, (text, page(report, data)), strict=True):
        with atomic_file(path) as partial:
            partial.write_text(content, encoding="utf-8")
    return written
