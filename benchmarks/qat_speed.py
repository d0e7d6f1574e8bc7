"""What a step of fine-tuning costs, in float training steps of the same twin, timed in turn in one run.

usage: python -m benchmarks.qat_speed [MODEL.onnx] [--bits w4a4] [--batch N] [--rounds N]

Both run as ``finetune`` runs them: channels last, in bfloat16 where the machine has it and the bits allow it.
``student`` is forward, backward and Adam of the student; ``step`` has the teacher, the samples' augmentation and the
loss too. The float step trains the weights and biases of the same folded network. The least of all rounds counts,
since other work only adds.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dfq_deploy.graph.loading import load
from dfq_deploy.pipeline.synthesize import synthesize
from dfq_deploy.plugins.registry import find_plugin
from dfq_deploy.qat.distributed import Processes
from dfq_deploy.qat.recipe import Recipe
from dfq_deploy.qat.setup import make_trainer
from dfq_deploy.qat.trainer import Trainer
from dfq_deploy.quantization.bit_widths import Bits
from dfq_deploy.quantization.encode import encode, prepare
from dfq_deploy.targets.catalog import find_target
from dfq_deploy.twin import Twin
from dfq_deploy.twin.teacher import teacher_of

DIGITS = Path(__file__).parents[1] / "examples/digits/digits_bn.onnx"


def training(path: Path, bits: str, batch: int) -> tuple[Trainer, Twin]:
    """A training on procedural pictures that has not begun, and the float twin of the same prepared graph."""
    samples = synthesize(path, synth="procedural", count=batch)
    start = encode(
        prepare(load(path), find_target("cpu"), Bits.parse(bits)),
        find_plugin("calibrators", "minmax")(),
        samples,
    )
    teacher, twin = (teacher_of(start.prepared.model, {}, "cpu") for _ in range(2))
    recipe = Recipe(batch=batch, steps=10**6)
    made = make_trainer(start, teacher, samples, samples, recipe, None, Processes(), 0, "cpu")
    for parameter in twin.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    return made, twin


def steps(made: Trainer, twin: Twin) -> dict[str, Callable[[], None]]:
    """What is timed, by name."""
    images, _ = made.batches.batch(0, made.student)
    float_optimizer = torch.optim.Adam([p for p in twin.parameters() if p.requires_grad], lr=1e-9, fused=True)
    student_optimizer = torch.optim.Adam(made.student.learned().values(), lr=1e-9, fused=True)

    def descend(network: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=made.in_bfloat16):
            scores = network(images)
        scores.float().square().mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def whole() -> None:
        made.learn()
        made.step += 1

    return {
        "float": lambda: descend(twin, float_optimizer),
        "student": lambda: descend(made.student, student_optimizer),
        "step": whole,
    }


def main() -> None:
    """Time all in turn, and print milliseconds and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model", type=Path, nargs="?", default=DIGITS)
    parser.add_argument("--bits", default="w4a4")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    timed = steps(*training(args.model, args.bits, args.batch))
    best = dict.fromkeys(timed, float("inf"))
    for _ in range(args.rounds + 1):  # the first round warms up, and is rarely the least
        for name, step in timed.items():
            started = time.perf_counter()
            step()
            best[name] = min(best[name], time.perf_counter() - started)
    for name, seconds in best.items():
        print(f"{name:8} {1000 * seconds:8.1f} ms  {seconds / best['float']:5.2f} times a float step")


if __name__ == "__main__":
    main()
