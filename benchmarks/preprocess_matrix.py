"""Which wrong preprocesses the findings name without data: a Markdown table of networks and preprocesses.

usage: python -m benchmarks.preprocess_matrix [--zoo FOLDER] [--models NAME...] [--samples N] [--images N]
                                              [--photographs]

Each network, with BatchNormalization and with it folded, is given procedural pictures under its own preprocess, each of
the known ones, its own with a mean of 0 or a standard deviation of 1 or 100 (which are forgotten or mistyped), and two
figures of no data set. A cell is the worst level of the findings on preprocess and scale. A preprocess that is much
like the network's own is no fault. No image of a data set is used for a level.

With --images the cells of networks of the zoo also have the points of top-1 that the float network loses under the
preprocess, on the first N images of its test set. With --photographs a cell is the information of the answers to
photographs instead, in percent of that under the best known preprocess of a similar scale, where it is judged.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.digits import FILES, digits_models
from benchmarks.sanity import fitted
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Preprocess
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.finding import worst
from dfq_deploy.verdict.sanity.findings import sanity_findings
from dfq_deploy.verdict.sanity.preprocess_photos import photographs_finding

CODES = frozenset({"preprocess-fit", "preprocess-units", "samples-scale"})


def given(model: ZooModel) -> dict[str, Preprocess]:
    """Preprocesses by name, the network's own first."""
    own, channels = model.preprocess, model.shape[0]
    known = {name: fitted(entry, channels) for name, entry in PREPROCESSES.items()}
    mistaken = {
        "mean 0": Preprocess((0.0,) * len(own.mean), own.std),
        "std 1": Preprocess(own.mean, (1.0,) * len(own.std)),
        "std 100": Preprocess(own.mean, (100.0,) * len(own.std)),
        "0.5/0.1": Preprocess((0.5,), (0.1,)),
        "0.9/0.25": Preprocess((0.9,), (0.25,)),
    }
    return {"own": own, **known, **mistaken}


def levels(model: ZooModel, path: Path, count: int) -> Iterator[str]:
    """The level under each preprocess."""
    graph = load(path)
    for preprocess in given(model).values():
        samples = synthesize_from(
            graph, "procedural", (), count=count, preprocess=preprocess, seed=0, device="cpu"
        )  # fmt: skip
        yield worst([entry for entry in sanity_findings(graph, samples, preprocess) if entry.code in CODES])


def shares(model: ZooModel, path: Path) -> Iterator[str]:
    """Information of the answers to photographs in percent of the most; a dash where it is not judged."""
    graph = load(path)
    for preprocess in given(model).values():
        found = photographs_finding(graph, preprocess)
        figures = {} if found is None else found.figures or {}
        yield f"{100 * figures['photographs'] / figures['photographs_best']:.0f}" if figures else "-"


def losses(model: ZooModel, path: Path, count: int) -> Iterator[str]:
    """Points of top-1 that the float network loses under each preprocess; empty without images."""
    preprocesses = given(model)
    if not count:
        yield from ("" for _ in preprocesses)
        return
    images = model.images(model.evaluation[0]).part(slice(count))
    low, high = bounds(model, model.preprocess)
    pixels, own = (images.images - low) / (high - low), None
    for preprocess in preprocesses.values():
        low, high = bounds(model, preprocess)
        found = compare(path, path, replace(images, images=(pixels * (high - low) + low).astype(np.float32))).scores
        assert found is not None
        assert found.float_top1 is not None
        own = found.float_top1 if own is None else own
        yield f" {own - found.float_top1:.0f}"


def bounds(model: ZooModel, preprocess: Preprocess) -> tuple[Any, Any]:
    """What a black and a white pixel become, (C, 1, 1) each."""
    low, high = (bound[:, None, None] for bound in preprocess.bounds(model.shape[0]))
    return low, high


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--photographs", action="store_true")
    args = parser.parse_args()
    entries = [*digits_models(args.models or list(FILES)), *models(args.zoo, args.models)]
    for index, model in enumerate(entries):
        if not index:
            names = list(given(model))
            print(f"| network | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
        for path in dict.fromkeys((model.bn, model.folded)):
            kind = "BatchNormalization" if path == model.bn != model.folded else "folded"
            told = shares(model, path) if args.photographs else levels(model, path, args.samples)
            cells = zip(told, losses(model, path, args.images), strict=True)
            print(f"| {model.name}, {kind} | {' | '.join(level + lost for level, lost in cells)} |", flush=True)


if __name__ == "__main__":
    main()
