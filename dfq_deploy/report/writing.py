"""Write report.json and report.html.

docs/formats.md lists the keys of the JSON; every one may be missing, and then the page lacks that part.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dfq_deploy.files.atomic import atomic_file
from dfq_deploy.files.json_text import json_text
from dfq_deploy.report.page import page
from dfq_deploy.report.thumbnails import thumbnails
from dfq_deploy.samples.preprocess import Preprocess
from dfq_deploy.samples.samples import Samples

__all__ = ["page_of", "write_report"]


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


def page_of(folder: Path) -> str:
    """The page of the report.json in ``folder``, with pictures of the samples.npz beside it.

    Raises:
        OSError, ValueError: there is no such report.
        SamplesError: the samples cannot be read.
    """
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    stated = (report.get("samples") or {}).get("preprocess")
    preprocess = Preprocess(tuple(stated["mean"]), tuple(stated["std"])) if isinstance(stated, dict) else None
    shown = [answer["index"] for answer in report.get("answers") or ()]
    file = folder / "samples.npz"
    return page(report, thumbnails(Samples.load(file), preprocess, shown) if shown and file.is_file() else ())
