"""Top-1 of quantized files on the zoo's images, and results that are kept as they come."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.zoo import ZooModel
from dfq_deploy import Samples
from dfq_deploy.evaluation.compare import compare

__all__ = ["REAL", "Score", "Writer", "keep", "kept", "score"]

REAL = 256
"""Images of a set that is drawn rather than synthesized."""

Writer = Callable[[Samples, Path], None]
"""Makes a quantized file from real images (which data-free ones do not look at)."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Score:
    """A quantized file against its float model.

    Args:
        float_top1, top1, agreement: percent.
    """

    images: int
    float_top1: float
    top1: float
    agreement: float


def score(
    model: ZooModel,
    dataset: str,
    write: Writer,
    path: Path,
    *,
    real: bool,
    limit: int | None = None,
    count: int = REAL,
    draw: int = 0,
) -> Score:
    """Measure what ``write`` makes on a data set of the model.

    Args:
        path: where the file is made; one that is there already is measured as it is, unless ``real`` images decide it
            (they differ from fold to fold).
        limit: measure on at most so many images of each fold, spread evenly.
        count, draw: how many real images ``write`` is handed, and which (``ZooModel.folds``).
    """
    right = expected = same = total = 0.0
    for given, measured_on in model.folds(dataset, count, draw):
        if real or not path.exists():
            write(given, path)
        step = 1 if limit is None else max(1, len(measured_on) // limit)
        found = compare(
            model.folded, path, measured_on.part(slice(None, None if limit is None else step * limit, step))
        )
        assert found.scores is not None
        assert found.scores.float_top1 is not None
        assert found.scores.quantized_top1 is not None
        right += found.scores.quantized_top1 * found.count
        expected += found.scores.float_top1 * found.count
        same += found.scores.agreement * found.count
        total += found.count
    return Score(int(total), expected / total, right / total, same / total)


def kept(path: Path | None, kind: type[Result]) -> list[Result]:
    """The results of a JSON-lines file; none where there is no file."""
    lines = path.read_text().splitlines() if path is not None and path.exists() else []
    return [kind(**json.loads(line)) for line in lines]


def keep(path: Path | None, result: Any) -> None:
    """Append one result, a dataclass, at once."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            stream.write(json.dumps(asdict(result)) + "\n")
