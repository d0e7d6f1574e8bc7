"""Speed of the methods: images x iterations a second, ours against the plain loop, as a Markdown table.

usage: python -m benchmarks.synthesis [--zoo FOLDER] [--models NAME...] [--methods NAME...] [--batch N]
       [--rounds N] [--device DEVICE] [--whole N]

Both sides descend the same loss with the same jitter, flip and Adam (benchmarks/plain_loop.py has the plain one). The
two run in turn, a few iterations each; the ratio is the median over the rounds. ``lis`` has two teachers, the model
twice. What trains a generator (``genie``, ``gdfq``, ``qimera``, ``dfqf``, ``adversarial``) has no plain counterpart;
the last two run a quantized student on each batch. The last column is the share of our time that passes outside the
forward and the backward pass (shifts, Adam, clipping, figures), by the clock; on a GPU it waits at each of their ends,
and the speeds do not.

``--whole N`` makes a set of N samples instead, each in a process of its own, and prints CPU seconds, the largest memory
of the process (of which torch and the model take 0.4 GB) and the figures of the set.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import plain_loop
from benchmarks.plain_loop import PlainLoop, PlainLoss
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import load, synthesize
from dfq_deploy.graph.query import score_count
from dfq_deploy.plugins.contracts import Student, SynthesisRequest
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import student_maker
from dfq_deploy.synthesis.generators.training import GeneratorSource
from dfq_deploy.synthesis.inversion.loop import ImageParameters, Inversion, Objective, Stage
from dfq_deploy.synthesis.inversion.objective import DeepInversionObjective
from dfq_deploy.synthesis.inversion.optimizers import Cosine, LearningRate, Pixels, noise
from dfq_deploy.synthesis.methods.deepinversion import BETAS, DeepInversion
from dfq_deploy.synthesis.methods.genie import Genie, GenieObjective
from dfq_deploy.synthesis.methods.hast import Hast
from dfq_deploy.synthesis.methods.zeroq import ZeroQObjective
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.twin import Twin

ITERATIONS = 4
"""Of one turn."""

BATCHES = {"deepinversion": 256, "lis": 64, "zeroq": 64, "hast": 256, "genie": 128}
LARGE_BATCH = 32

GENERATORS = ("gdfq", "qimera", "dfqf", "adversarial")
METHODS = (*BATCHES, *GENERATORS)


@dataclass(frozen=True)
class Sides:
    """One method on one model: each side runs so many iterations.

    Args:
        batch: images in one iteration.
        plain: None where there is no plain counterpart.
        forward: class and method of what makes our forward pass.
    """

    batch: int
    ours: Callable[[int], None]
    plain: Callable[[int], None] | None
    forward: tuple[tuple[type, str], ...]


def sides(model: ZooModel, method: str, batch: int | None, device: str) -> Sides:
    """Both sides of one method at full resolution, as its short schedule has it."""
    if method in GENERATORS:
        return training_side(model, method, batch, device)
    graph = load(model.bn)
    batch = batch or (LARGE_BATCH if model.shape[1] >= 64 else BATCHES[method])
    request = SynthesisRequest(batch, model.shape, score_count(graph), model.preprocess, device=device)
    fast = Twin.from_model(graph).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    targets = (torch.arange(batch) % (request.classes or 1)).to(device)
    generator = torch.Generator().manual_seed(0)
    inversion = DeepInversion(schedule="short")
    objective: Objective
    loss: PlainLoss | None = None
    axes: tuple[int, ...] = (0, 2, 3)
    stage, teachers = Stage(ITERATIONS), 1
    if method in ("deepinversion", "lis"):
        weights = inversion.weights(request)
        teachers = 2 if method == "lis" else 1
        objective = DeepInversionObjective(weights, [fast] * teachers, targets)
        stage, loss = inversion.stages(request)[-1], plain_loop.deepinversion(weights)
    elif method == "zeroq":
        objective, loss, axes = ZeroQObjective(fast, request), plain_loop.zeroq, (2, 3)
    elif method == "hast":
        objective, loss = Hast(crop=1.0).objective(fast, request, targets), plain_loop.hast
    else:
        objective = GenieObjective(fast, request, 1, generator)

    kept: ImageParameters = (
        Genie(schedule="short").parameters(batch, request, generator)
        if method == "genie"
        else Pixels(noise(batch, request, generator), cosine, BETAS, None)
    )

    def ours(count: int) -> None:
        Inversion(method, kept, objective, [replace(stage, iterations=count)], generator).run()

    forward = ((type(objective), "loss"), (type(kept), "images"))
    return Sides(batch, ours, None if loss is None else plain(graph, loss, request, stage, axes, teachers), forward)


class Quantized:
    """A student, as an object whose calls can be timed."""

    def __init__(self, student: Student) -> None:
        self.student = student

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.student(images)


def training_side(model: ZooModel, method: str, batch: int | None, device: str) -> Sides:
    """Training of generators, with a student at 4 bits where the method meets one."""
    graph = load(model.bn)
    request = SynthesisRequest(1, model.shape, score_count(graph), model.preprocess, device=device)
    source: GeneratorSource = find_plugin("synthesizers", method)(schedule="short", batch=batch).build(
        [Twin.from_model(graph).to(device).to(memory_format=torch.channels_last)],  # type: ignore[call-overload]
        request,
    )
    students = []
    if source.uses_students:
        students.append(Quantized(student_maker(graph, find_target("cpu"), Bits.parse("w4a4"))(request, {})))
    generator = torch.Generator().manual_seed(0)
    forward: list[tuple[type, str]] = [(GeneratorSource, "_seen"), (type(source.loss), "__call__")]
    if students:
        forward.append((Quantized, "__call__"))
    images = source.training.batch * len(source.samplers)
    return Sides(images, lambda count: source.train(count, students, generator), None, tuple(forward))


def cosine(iterations: int) -> LearningRate:
    """A learning rate; which changes nothing of the speed."""
    return Cosine(0.1, iterations)


def plain(
    graph: Any, loss: PlainLoss, request: SynthesisRequest, stage: Stage, axes: tuple[int, ...], teachers: int
) -> Callable[[int], None]:
    """The plain side."""
    twins = [Twin.from_model(graph).to(request.device) for _ in range(teachers)]
    return PlainLoop(twins, loss, request, stage, axes).iterate


def seconds(run: Callable[[int], None], device: str) -> float:
    """Of one iteration."""
    wait(device)
    started = time.perf_counter()
    run(ITERATIONS)
    wait(device)
    return (time.perf_counter() - started) / ITERATIONS


def wait(device: str) -> None:
    """Until a GPU has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def share_outside(method: Sides, device: str) -> float:
    """The part of our time that is outside the objective, the computation of the images and the backward pass."""
    inside: list[float] = []
    with ExitStack() as stack:
        for owner, name in (*method.forward, (torch.Tensor, "backward")):
            stack.enter_context(timed(owner, name, inside, device))
        whole = seconds(method.ours, device) * ITERATIONS
    return 1 - sum(inside) / whole


@contextmanager
def timed(owner: type, name: str, spent: list[float], device: str) -> Iterator[None]:
    """Note how long each call of a class's method takes."""
    original = getattr(owner, name)

    def call(*args: Any, **more: Any) -> Any:
        wait(device)
        started = time.perf_counter()
        result = original(*args, **more)
        wait(device)
        spent.append(time.perf_counter() - started)
        return result

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def row(model: ZooModel, method: str, batch: int | None, rounds: int, device: str) -> str:
    """One line of the table."""
    both = sides(model, method, batch, device)
    runs = [run for run in (both.plain, both.ours) if run is not None]
    for run in runs:
        seconds(run, device)
    times = np.array([[seconds(run, device) for run in runs] for _ in range(rounds)])
    rates = both.batch / np.median(times, axis=0)
    outside = np.median([share_outside(both, device) for _ in range(rounds)])
    slow = ("", "") if both.plain is None else (f"{rates[0]:.0f}", f"{np.median(times[:, 0] / times[:, 1]):.1f}")
    return (
        f"| {model.name} | {method} | {both.batch} | {slow[0]} | {rates[-1]:.0f} | {slow[1]} | {100 * outside:.1f} % |"
    )


def whole_row(zoo: Path, name: str, method: str, count: int, device: str) -> str:
    """One line on a whole set: what it costs, and how good it is; run in a process of its own."""
    (model,) = models(zoo, [name])
    started = time.process_time()
    samples = synthesize(model.bn, synth=method, count=count, preprocess=model.preprocess, device=device)
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = [samples.figures.get(figure) for figure in ("statistics_distance", "target_hit", "confidence")]
    shown = " | ".join("" if figure is None else f"{figure:.3f}" for figure in figures)
    return f"| {name} | {method} | {count} | {seconds:.0f} | {peak:.2f} | {shown} |"


def print_whole_sets(arguments: argparse.Namespace) -> None:
    """The table of ``--whole``."""
    print("| model | method | samples | CPU seconds | peak, GB | statistics | targets hit | confidence |")
    print("|---|---|---|---|---|---|---|---|")
    for model in models(arguments.zoo, arguments.models):
        for method in arguments.methods:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
                task = (arguments.zoo, model.name, method, arguments.whole, arguments.device)
                print(executor.submit(whole_row, *task).result(), flush=True)


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=["resnet20_kd", "wrn16_1_kd", "mobilenet_v1"])
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    parser.add_argument("--batch", type=int, help="images in one iteration, instead of each method's own number")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--whole", type=int, metavar="N", help="make whole sets of N samples")
    args = parser.parse_args()
    if args.whole:
        print_whole_sets(args)
        return
    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {args.rounds} rounds\n")
    print("| model | method | batch | plain, images x iterations/s | ours | ratio | outside |")
    print("|---|---|---|---|---|---|---|")
    for model in models(args.zoo, args.models):
        for method in args.methods:
            print(row(model, method, args.batch, args.rounds, args.device), flush=True)


if __name__ == "__main__":
    main()
