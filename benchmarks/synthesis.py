"""Speed of DeepInversion: images x iterations a second, ours against the plain loop, as a Markdown table.

usage: python -m benchmarks.synthesis [--zoo FOLDER] [--models NAME...] [--rounds N] [--device DEVICE]

Both sides invert the same model with the same losses, jitter, flip and Adam. The plain loop is what one writes first:
float32, contiguous, torch.var_mean at the input of each BatchNormalization, torch's own operators. The two run in turn,
a few iterations each; the ratio is the median over the rounds.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import load
from dfq_deploy.graph import score_count
from dfq_deploy.synthesis.deepinversion import DeepInversion
from dfq_deploy.synthesis.descent import Cosine, Pixels, noise
from dfq_deploy.synthesis.inversion import Inversion, Stage
from dfq_deploy.synthesis.losses import image_norm, total_variation
from dfq_deploy.synthesis.matching import Matching, Weights
from dfq_deploy.synthesis.request import SynthesisRequest
from dfq_deploy.twin import Hook, Twin

RATE = 0.1
"""Adam's; it changes nothing of the speed."""

ITERATIONS = 4
"""Of one turn."""

SMALL_BATCH, LARGE_BATCH = 256, 32


class PlainLoop:
    """DeepInversion without any of what makes ours fast."""

    def __init__(self, twin: Twin, objective: Weights, request: SynthesisRequest, stage: Stage) -> None:
        self.twin, self.objective, self.stage = twin, objective, stage
        self.norms = [step for step in twin.steps if step.op_type == "BatchNormalization"]
        for step in self.norms:
            twin.replace(step.name, torch_batch_norm)
        for step in twin.steps:
            if step.op_type == "Clip":
                twin.replace(step.name, torch.clamp)
        self.generator = torch.Generator().manual_seed(0)
        start = torch.randn(request.count, *request.shape, generator=self.generator)
        self.images = start.to(request.device).requires_grad_()
        self.targets = torch.arange(request.count, device=request.device) % (request.classes or 1)
        self.optimizer = torch.optim.Adam([self.images], lr=RATE, betas=(0.5, 0.9))

    def iterate(self, count: int) -> None:
        """Run ``count`` iterations."""
        for _ in range(count):
            self.optimizer.zero_grad()
            self.loss().backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()

    def loss(self) -> Tensor:
        """The paper's loss on one augmented batch."""
        down, right = torch.randint(-self.stage.jitter, self.stage.jitter + 1, (2,), generator=self.generator).tolist()
        seen = torch.roll(self.images, (down, right), dims=(2, 3))
        if torch.rand((), generator=self.generator) < 0.5:
            seen = seen.flip(3)
        found: dict[str, tuple[Tensor, Tensor]] = {}
        hooks: dict[str, Hook] = {step.inputs[0]: measuring(step.inputs[0], found) for step in self.norms}
        scores = self.twin.run({self.twin.input_names[0]: seen}, hooks=hooks)[self.twin.output_names[0]]
        feature = torch.zeros((), device=seen.device)
        for index, step in enumerate(self.norms):
            var, mean = found[step.inputs[0]]
            distance = torch.linalg.vector_norm(mean - self.twin.initializer(step.inputs[3]))
            distance = distance + torch.linalg.vector_norm(var - self.twin.initializer(step.inputs[4]))
            feature = feature + (self.objective.first_multiplier if index == 0 else 1.0) * distance
        loss = torch.nn.functional.cross_entropy(scores.flatten(1), self.targets)
        loss = loss + self.objective.feature_weight * feature + self.objective.l2 * image_norm(seen)
        return loss + self.objective.tv_l2 * total_variation(seen)[1]


def torch_batch_norm(x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    """BatchNormalization as torch has it."""
    return torch.nn.functional.batch_norm(x, mean, var, scale, bias)


def measuring(name: str, found: dict[str, tuple[Tensor, Tensor]]) -> Hook:
    """A hook that notes variance and mean."""

    def measure(features: Tensor) -> Tensor:
        found[name] = torch.var_mean(features, (0, 2, 3), correction=0)
        return features

    return measure


def sides(model: ZooModel, device: str) -> tuple[int, Callable[[int], None], Callable[[int], None]]:
    """Batch size, ours and the plain loop: each runs so many iterations at full resolution."""
    graph = load(model.bn)
    batch = SMALL_BATCH if model.shape[1] < 64 else LARGE_BATCH
    request = SynthesisRequest(batch, model.shape, score_count(graph), model.preprocess, device=device)
    method = DeepInversion(schedule="short")
    objective = method.weights(request)
    fast = Twin.from_model(graph).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    targets = torch.arange(batch) % (request.classes or 1)
    stage = method.stages(request)[-1]

    def ours(count: int) -> None:
        generator = torch.Generator().manual_seed(0)
        canvas = Pixels(noise(batch, request, generator), partial(Cosine, RATE), (0.5, 0.9), None)
        stages = [replace(stage, iterations=count)]
        Inversion("deepinversion", canvas, Matching(objective, [fast], targets), stages, generator).run()

    plain = PlainLoop(Twin.from_model(graph).to(device), objective, request, stage)
    return batch, ours, plain.iterate


def seconds(run: Callable[[int], None], device: str) -> float:
    """Of one iteration."""
    started = time.perf_counter()
    run(ITERATIONS)
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / ITERATIONS


def main() -> None:
    """Print the table, a row as soon as it is measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=["resnet20_kd", "wrn16_1_kd", "mobilenet_v1"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {args.device}, {torch.get_num_threads()} threads, {args.rounds} rounds\n")
    print("| model | batch | plain, images x iterations/s | ours | ratio |\n|---|---|---|---|---|")
    for model in models(args.zoo, args.models):
        batch, ours, plain = sides(model, args.device)
        for run in (ours, plain):
            seconds(run, args.device)
        times = np.array([(seconds(plain, args.device), seconds(ours, args.device)) for _ in range(args.rounds)])
        rates = batch / np.median(times, axis=0)
        ratio = np.median(times[:, 0] / times[:, 1])
        print(f"| {model.name} | {batch} | {rates[0]:.0f} | {rates[1]:.0f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
