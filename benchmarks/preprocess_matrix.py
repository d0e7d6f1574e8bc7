"""Which wrong preprocesses the findings name without data: a Markdown table of networks and preprocesses.

usage: python -m benchmarks.preprocess_matrix [--zoo FOLDER] [--models NAME...] [--samples N]

Each network, with BatchNormalization and with it folded, is given procedural pictures under its own preprocess, each of
the known ones, and a standard deviation of 100. A cell is the worst level of the findings on preprocess and scale. A
preprocess that is much like the network's own is no fault. No image of a data set is used.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from benchmarks.digits import FILES, digits_models
from benchmarks.sanity import fitted
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Preprocess
from dfq_deploy.graph.loading import load
from dfq_deploy.samples.preprocess import PREPROCESSES
from dfq_deploy.synthesis.session import synthesize_from
from dfq_deploy.verdict.finding import worst
from dfq_deploy.verdict.sanity.findings import sanity_findings

CODES = frozenset({"preprocess-fit", "preprocess-units", "samples-scale"})


def given(model: ZooModel) -> dict[str, Preprocess]:
    """Preprocesses by name, the network's own first."""
    own, channels = model.preprocess, model.shape[0]
    known = {name: fitted(entry, channels) for name, entry in PREPROCESSES.items()}
    return {"own": own, **known, "std 100": Preprocess(own.mean, (100.0,) * len(own.std))}


def levels(model: ZooModel, path: Path, count: int) -> Iterator[str]:
    """The level under each preprocess."""
    graph = load(path)
    for preprocess in given(model).values():
        samples = synthesize_from(
            graph, "procedural", (), count=count, preprocess=preprocess, seed=0, device="cpu"
        )  # fmt: skip
        yield worst([entry for entry in sanity_findings(graph, samples, preprocess) if entry.code in CODES])


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--samples", type=int, default=16)
    args = parser.parse_args()
    names = ["own", *PREPROCESSES, "std 100"]
    print(f"| network | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    for model in (*digits_models(args.models or list(FILES)), *models(args.zoo, args.models)):
        for path in dict.fromkeys((model.bn, model.folded)):
            kind = "BatchNormalization" if path == model.bn != model.folded else "folded"
            print(f"| {model.name}, {kind} | {' | '.join(levels(model, path, args.samples))} |", flush=True)


if __name__ == "__main__":
    main()
