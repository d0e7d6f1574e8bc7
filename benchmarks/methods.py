"""Top-1 by synthesis method and bit width, beside noise, pictures made by rule and real images, as Markdown tables.

usage: python -m benchmarks.methods [--zoo FOLDER] [--models NAME...] [--methods NAME...] [--seeds N...] [--bits WA...]
       [--refine NAME...] [--samples N] [--limit N] [--datasets NAME...] [--device DEVICE] [--cache FOLDER]
       [--files bn|folded...] [--quantizers dfq-deploy|onnxruntime...]

Every set calibrates the same pipeline, ``dfq_deploy.calibrate`` with mse ranges and bias correction (``--refine
reconstruct``, the default below 8 bits, takes minutes for each cell), and no remedies. All layers have the stated
widths, but for the network's input, which has 8 bits at least. The images that are measured on are used for nothing
else (benchmarks/accuracy.py says which the real calibration images are).
FOLDER keeps the samples of each method, model and seed, and results.jsonl, which each result is appended to as it
comes: a later call goes on from there. Seconds are those of all CPU cores together for the synthesis alone, on
--device, of the fastest seed; on a GPU those of the CPU that drives it.

``--files folded`` calibrates the file that exporters write by default, without BatchNormalization, and makes the
samples from it; ``--quantizers onnxruntime`` hands the same samples to ONNX Runtime's own quantizer, at w8a8. Rows of
both say so behind a comma.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.digits import digits_models
from benchmarks.methods_table import Result, overview, table
from benchmarks.peers import quantize_with_onnxruntime
from benchmarks.scoring import REAL, Writer, keep, kept, score
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples, calibrate, synthesize
from dfq_deploy.errors import DfqError
from dfq_deploy.graph.loading import load
from dfq_deploy.plugins.contracts import Synthesizer
from dfq_deploy.plugins.registry import AUTO, find_plugin, synthesizer_of
from dfq_deploy.synthesis.methods.lowpass import low_passed
from dfq_deploy.synthesis.teachers import Teacher

MODELS = ["resnet20_kd", "resnet20", "wrn16_1_kd", "mobilenet_v1", "digits_vit"]
"""Of the zoo, and one of the examples: a transformer, for what is made for attention."""
OURS = "dfq-deploy"
"""The quantizer of a row that names none."""

BITS = ["w8a8", "w4a8", "w4a4"]


@dataclass(frozen=True)
class Recipe:
    """How one row's samples are made.

    Args:
        synth: the method's name; empty for real images.
        options: its fields.
        count: number of samples where the row has its own.
        student: the samples depend on the bit width, so each has its own set.
        teachers: zoo models that are inverted in place of the model itself (those of them that are not the model).
        ranges: the method gives ranges and no samples.
        lowpass: radius of the filter on the finished samples.
        seeded: False where one run says all.
        statistics: what draws the pictures whose statistics are matched where no BatchNormalization is left.
        foreign: another program makes the samples, from a torch module, and puts them into the cache.
    """

    synth: str
    options: Mapping[str, Any] = field(default_factory=dict)
    count: int | None = None
    student: bool = False
    teachers: tuple[str, ...] = ()
    ranges: bool = False
    lowpass: float | None = None
    seeded: bool = True
    statistics: str | None = None
    foreign: bool = False

    def method(self) -> str | Synthesizer:
        """The method with its options."""
        if self.synth == AUTO:
            return self.synth
        options = self.options
        made: Synthesizer = (
            find_plugin("synthesizers", self.synth)(**options) if options else synthesizer_of(self.synth)
        )
        return made if self.lowpass is None else low_passed(made, self.lowpass)


CIFAR_TEACHERS = ("resnet20", "resnet56", "wrn16_1_kd")

RECIPES = {
    "256 real": Recipe("", seeded=False),
    "one uniform batch": Recipe("noise", {"distribution": "uniform"}, count=32, seeded=False),
    "256 Gaussian": Recipe("noise", {"distribution": "gaussian"}, count=REAL, seeded=False),
    "256 procedural": Recipe("procedural", count=REAL),
    "photographs": Recipe("photographs", count=REAL),
    "procedural+photographs": Recipe("procedural+photographs", count=REAL),
    "deepinversion+procedural": Recipe("deepinversion+procedural"),
    "anchored": Recipe("anchored"),
    "auto": Recipe(AUTO, student=True),
    "deepinversion, statistics of procedural": Recipe("deepinversion", statistics="procedural"),
    "analytic": Recipe("analytic", ranges=True, seeded=False),
    "deepinversion": Recipe("deepinversion"),
    "deepinversion, competition": Recipe("deepinversion", {"competition": 0.2}, student=True),
    "deepinversion, low-pass": Recipe("deepinversion", lowpass=80),
    "mct": Recipe("mct", count=REAL, foreign=True),
    "zeroq": Recipe("zeroq"),
    "genie": Recipe("genie"),
    "hast": Recipe("hast"),
    "lis": Recipe("lis", teachers=CIFAR_TEACHERS),
    "gdfq": Recipe("gdfq"),
    "qimera": Recipe("qimera"),
    "dfqf": Recipe("dfqf", student=True),
    "adversarial": Recipe("adversarial", student=True),
    "psaq": Recipe("psaq"),
    **{f"deepinversion of {name}": Recipe("deepinversion", teachers=(name,)) for name in CIFAR_TEACHERS},
}


@dataclass(frozen=True)
class Bench:
    """What the command line has asked for."""

    zoo: Path
    cache: Path
    device: str
    samples: int | None
    limit: int | None
    bits: tuple[str, ...]
    refine: tuple[str, ...]
    file: str = "bn"
    quantizer: str = OURS

    def label(self, name: str) -> str:
        """What a row is called: the recipe, the file and the quantizer where they are not the usual ones."""
        file = "" if self.file == "bn" else f", {self.file}"
        return name + file + ("" if self.quantizer == OURS else f", {self.quantizer}")

    def _path(self, model: ZooModel) -> Path:
        return model.bn if self.file == "bn" else model.folded

    def made(self, model: ZooModel, name: str, seed: int, bits: str) -> tuple[Samples, float, dict[str, float]]:
        """Samples, the seconds that they took and their figures, from the cache where they are there.

        Raises:
            DfqError: the method is not installed, or does not take the model.
        """
        recipe = RECIPES[name]
        own = (f"-{bits}" if recipe.student else "") + ("" if self.file == "bn" else f"-{self.file}")
        stem = (
            f"{model.name}-{name.replace(', ', '-').replace(' ', '-')}-{self.samples or recipe.count or 0}-{seed}{own}"
        )
        path, facts = self.cache / f"{stem}.npz", self.cache / f"{stem}.json"
        if recipe.foreign and not facts.exists():
            raise DfqError(f"benchmarks.{name} makes its samples, from networks with BatchNormalization")
        if not (path.exists() and facts.exists()):
            # Loaded before the clock starts: what a method imports is no part of its work.
            method, teachers = recipe.method(), self._teachers(model, recipe)
            started = time.process_time()
            samples = synthesize(
                self._path(model),
                synth=method,
                teachers=[Teacher(teacher.bn, teacher.preprocess) for teacher in teachers],
                count=recipe.count or self.samples,
                preprocess=model.preprocess,
                bits=bits if recipe.student else None,
                seed=seed,
                device=self.device,
                statistics=recipe.statistics,
            )
            seconds = time.process_time() - started
            if recipe.synth not in (samples.method, AUTO):
                raise DfqError(f"the model does not suit it, and it fell back on {samples.method}")
            samples.save(path)
            facts.write_text(json.dumps({"seconds": seconds, "figures": dict(samples.figures)}))
        known = json.loads(facts.read_text())
        return Samples.load(path), known["seconds"], known["figures"]

    def _teachers(self, model: ZooModel, recipe: Recipe) -> list[ZooModel]:
        if not recipe.teachers:
            return []
        found = [teacher for teacher in models(self.zoo, list(recipe.teachers)) if teacher.name != model.name]
        if not found or any(teacher.shape != model.shape for teacher in found):
            raise DfqError(f"no teacher for {model.name} among {', '.join(recipe.teachers)}: one of its kind is needed")
        return found

    def writer(self, model: ZooModel, name: str, bits: str, samples: Samples | None, seed: int) -> Writer:
        """What makes the quantized file of one row at one width."""

        def write(real: Samples, path: Path) -> None:
            if self.quantizer != OURS:
                images = (real if samples is None else samples).images
                quantize_with_onnxruntime(self._path(model), images, path)
                return
            given: dict[str, Any] = {"data": real if samples is None else samples}
            if RECIPES[name].ranges:
                given = {"synth": RECIPES[name].method(), "seed": seed}
            calibrate(
                self._path(model),
                preprocess=model.preprocess,
                bits=bits,
                refine=self.refine,
                floor="none",
                output=path.parent,
                **given,
            )

        return write

    def results(
        self, model: ZooModel, name: str, seed: int, datasets: Iterable[str], done: set[tuple[Any, ...]]
    ) -> Iterator[Result]:
        """Every width and data set of one row, but for those that are ``done``."""
        recipe, refine = RECIPES[name], ",".join(self.refine)
        if self.quantizer != OURS and recipe.ranges:
            raise DfqError("it gives ranges and no samples, which ONNX Runtime's quantizer has no use for")
        for bits in self.bits if self.quantizer == OURS else [bits for bits in self.bits if bits == "w8a8"]:
            row = (self.label(name), seed, bits, self.samples or 0, refine)
            wanted = [data for data in datasets if (model.name, data, *row) not in done]
            if not wanted:
                continue
            samples, seconds, figures = None, 0.0, dict[str, float]()
            if recipe.ranges and "BatchNormalization" not in {node.op_type for node in load(self._path(model)).graph}:
                raise DfqError("the model has no BatchNormalization that would tell ranges")
            if recipe.synth and not recipe.ranges:
                samples, seconds, figures = self.made(model, name, seed, bits)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.qdq.onnx"
                write = self.writer(model, name, bits, samples, seed)
                for data in wanted:
                    found = score(model, data, write, path, real=not recipe.synth, limit=self.limit)
                    yield Result(
                        model.name,
                        data,
                        found.images,
                        self.label(name),
                        seed,
                        bits,
                        self.samples or 0,
                        seconds,
                        found.float_top1,
                        found.top1,
                        found.agreement,
                        figures,
                        refine,
                    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=MODELS)
    parser.add_argument("--methods", nargs="*", default=list(RECIPES), choices=list(RECIPES), metavar="NAME")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--bits", nargs="*", default=BITS)
    parser.add_argument("--refine", nargs="*", default=["bias"], metavar="NAME", help="refinements, in order")
    parser.add_argument("--samples", type=int, help="of each synthesized set; by default what calibrate takes")
    parser.add_argument("--limit", type=int, help="measure on at most so many images")
    parser.add_argument("--datasets", nargs="*", help="by default all that a model is measured on")
    parser.add_argument("--files", nargs="*", default=["bn"], choices=["bn", "folded"])
    parser.add_argument("--quantizers", nargs="*", default=[OURS], choices=[OURS, "onnxruntime"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cache", type=Path, default=Path("methods-cache"))
    return parser.parse_args()


def main() -> None:
    """Measure what is not yet measured, then print the whole table."""
    args = _arguments()
    args.cache.mkdir(parents=True, exist_ok=True)
    kept_in = args.cache / "results.jsonl"
    results = kept(kept_in, Result)
    done: set[tuple[Any, ...]] = {(r.model, r.dataset, r.method, r.seed, r.bits, r.samples, r.refine) for r in results}
    plain = Bench(args.zoo, args.cache, args.device, args.samples, args.limit, tuple(args.bits), tuple(args.refine))
    benches = [replace(plain, file=file, quantizer=quantizer) for file in args.files for quantizer in args.quantizers]
    for model in (*models(args.zoo, args.models), *digits_models(args.models)):
        datasets = [name for name in model.evaluation if args.datasets is None or name in args.datasets]
        for bench, name in product(benches, args.methods):
            for seed in args.seeds if RECIPES[name].seeded else [0]:
                try:
                    for result in bench.results(model, name, seed, datasets, done):
                        print(result, file=sys.stderr, flush=True)
                        results.append(result)
                        keep(kept_in, result)
                except DfqError as problem:
                    print(f"{model.name}, {bench.label(name)}: left out: {problem}", file=sys.stderr, flush=True)
                    break
    asked = (",".join(args.refine), args.samples or 0)
    wanted = [
        r
        for r in results
        if r.model in args.models
        and r.method in {bench.label(name) for bench, name in product(benches, args.methods)}
        and r.bits in args.bits
        and (r.refine, r.samples) == asked
    ]
    print("\n\n".join([overview(wanted), overview(wanted, "agreement"), table(wanted)]))


if __name__ == "__main__":
    main()
