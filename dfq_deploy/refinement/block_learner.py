"""Learn rounding and steps, one block after another.

The sources are listed in :mod:`dfq_deploy.refinement.reconstruction`.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.passes.own_biases import CHANNEL_AXIS
from dfq_deploy.progress import Progress
from dfq_deploy.quantization.fake_quant import bias_encodings, fake_quantizers
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.refinement.adaround import LearnedRounding
from dfq_deploy.refinement.block_values import computed, mean_square, random_mask, release_all
from dfq_deploy.refinement.blocks import Block
from dfq_deploy.refinement.mean_correction import BatchIndices, channel_shifts, correct_means, parts_of, sample_means
from dfq_deploy.twin import Hook, Step, Twin

__all__ = ["BlockLearner", "Reconstruction"]

logger = logging.getLogger(__name__)

CORRECTION_VALUES = 2**25
"""Number of values of a block's input over which the channel means of its layers are computed, approximately."""

PART_VALUES = 2**22
"""Number of values of the largest tensor of a block in one run of them."""

SMALLEST_BATCH = 4

WIDE = 8
"""Smallest width of activations for which QDrop is not used."""


@dataclass(frozen=True)
class Reconstruction:
    """Hyper-parameters of block-wise reconstruction.

    Args:
        iterations: steps of Adam for each block. The papers take 20,000; a fiftieth of that gains most (on resnet20_kd
            at w4a4, CIFAR-10 training images: 14.7 dB of signal to noise after 200, 14.9 after 400).
        batch: largest number of samples in one iteration.
        features: approximate number of values of the block's largest tensor in one iteration; a batch has fewer samples
            where a sample has many positions.
        samples: smallest number of samples to learn from. A smaller set is extended by mirrored, shifted, softened and
            mixed images, and by procedural ones. (For a set of 224, three times as many of these cost resnet20_kd at
            w4a4 1.2 dB on CIFAR-10 training images; for a set of 56 they bring mobilenet_v1 at w4a8 from 7.8 dB to 8.8
            on photographs.)
        drop: fraction of the activations that are left unquantized at random (QDrop's 0.5), if they have fewer than 8
            bits. With 8 bits and more it only keeps layers from compensating the errors of the layers before them.
        rounding_rate, step_rate: learning rates of the rounding parameters and of the logarithms of the steps.
        weight: weight of the rounding regularization, relative to the error of the block divided by its initial value.
        warm: fraction of the iterations before the regularization starts (AdaRound's 0.2).
        sharpness: beta of the regularization at its start and at its end (AdaRound's 20 and 2).
    """

    iterations: int = 400
    batch: int = 32
    features: int = 2**20
    samples: int = 224
    drop: float = 0.5
    rounding_rate: float = 2e-2
    step_rate: float = 1e-3
    weight: float = 1.0
    warm: float = 0.2
    sharpness: tuple[float, float] = (20.0, 2.0)

    def beta(self, iteration: int) -> float | None:
        """Return beta of the regularization at an iteration; None during warm-up."""
        start = self.warm * self.iterations
        if iteration < start:
            return None
        part = (iteration - start) / max(self.iterations - start, 1)
        first, last = self.sharpness
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * part))


class BlockLearner:
    """Learns the blocks one after another, and holds the encodings learned so far.

    Attributes:
        title: of the progress bar.
    """

    title: ClassVar[str] = "reconstruction"

    def __init__(
        self,
        model: ir.Model,
        placement: Placement,
        encodings: dict[str, Encoding],
        settings: Reconstruction,
        generator: torch.Generator,
        device: str,
    ) -> None:
        self.model, self.placement, self.encodings = model, placement, encodings
        self.settings, self.generator, self.device = settings, generator, torch.device(device)
        widths = [encodings[name].qtype.bits for name in placement.activations]
        self.drop = settings.drop if min(widths, default=WIDE) < WIDE else 0.0
        self.groups = {name: group for group in placement.shared for name in group}

    def effort(self, block: Block) -> int:
        """Steps of the progress bar that a block takes."""
        return self.settings.iterations

    def quantized_input(self, name: str, images: Tensor) -> Tensor:
        """Return the samples as the input of the quantized network."""
        hooks = fake_quantizers({name: self.encodings[name]} if name in self.encodings else {})
        return hooks[name](images) if name in hooks else images

    def learn(
        self, twin: Twin, block: Block, exact: Tensor, quantized: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Learn one block.

        Args:
            exact, quantized: input of the block in the float network, and after the quantized blocks before it.

        Returns:
            both inputs of the next block.
        """
        block_twin = twin.part(block.steps, (block.input,), (block.output,)).to(self.device)
        target = self._run(block_twin, exact, {})
        if block.weights:
            initial = self._run(block_twin, quantized, self._fixed(block_twin, block))
            initial_error = max(mean_square(initial, target), 1e-20)
            self._descend(block_twin, block, (exact, quantized, target), initial_error, progress)
        result = self._run(block_twin, quantized, self._fixed(block_twin, block))
        if block.weights:
            error = mean_square(result, target)
            logger.debug(
                "reconstruction: block %s, mean squared error %.4g to %.4g", block.output, initial_error, error
            )
        return target, result

    def _fixed(self, block_twin: Twin, block: Block) -> dict[str, Hook]:
        """Return hooks that quantize the block as the exported file will."""
        encodings = self.encodings | bias_encodings(self.model, self.encodings)
        names = {name for step in block.steps for name in (*step.inputs, *step.outputs)} - {block.input}
        hooks = fake_quantizers({name: encodings[name] for name in names & encodings.keys()}, self.device)
        for name in (*block.weights, *self._layers(block)):  # block_twin holds their values from before learning
            values = self._initializer(name)
            hooks[name] = _constant(hooks[name](values) if name in hooks else values)
        return hooks

    def _initializer(self, name: str) -> Tensor:
        tensor = self.model.graph.initializers[name].const_value
        assert tensor is not None
        return torch.from_numpy(tensor.numpy().copy()).to(self.device)

    def _descend(
        self,
        block_twin: Twin,
        block: Block,
        data: tuple[Tensor, Tensor, Tensor],
        initial_error: float,
        progress: Progress,
    ) -> None:
        settings = self.settings
        exact, quantized, target = data
        weights = {name: LearnedRounding(self._initializer(name), self.encodings[name]) for name in block.weights}
        activations = self._activations(block)
        largest = self._largest(block_twin, block, exact[:1])
        batch_size = max(SMALLEST_BATCH, min(settings.batch, settings.features // largest))
        hooks: dict[str, Hook] = {**self._fixed(block_twin, block), **weights}
        means, batch_indices = self._means(block_twin, block, exact), BatchIndices(slice(0))
        hooks |= {name: self._dropping(activations.get(name, hooks[name])) for name in self._quantized(block)}
        hooks |= {name: correct_means(of_samples, batch_indices, hooks.get(name)) for name, of_samples in means.items()}
        steps = [weight.log_step for weight in weights.values()]
        steps += [quantizer.log_step for quantizer in dict.fromkeys(activations.values())]
        optimizer = torch.optim.Adam(
            [
                {"params": [weight.logit for weight in weights.values()], "lr": settings.rounding_rate},
                {"params": steps, "lr": settings.step_rate},
            ]
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [lambda _: 1.0, lambda index: 0.5 * (1 + math.cos(math.pi * index / settings.iterations))]
        )
        for iteration in range(settings.iterations):
            indices = torch.randint(len(exact), (min(batch_size, len(exact)),), generator=self.generator)
            batch_indices.indices = indices
            input_values = self._mixed(exact[indices].to(self.device), quantized[indices].to(self.device))
            output = block_twin.run({block.input: input_values}, hooks=hooks)[block.output]
            loss = (output - target[indices].to(self.device)).square().mean() / initial_error
            beta = settings.beta(iteration)
            if beta is not None:
                loss = (
                    loss
                    + settings.weight * torch.stack([weight.regularization(beta) for weight in weights.values()]).sum()
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            for quantizer in activations.values():
                quantizer.constrain()
            release_all(exact, quantized, target)
            progress.advance(1, **({"error": loss.item()} if iteration % 50 == 0 else {}))
        self._keep(weights, activations)
        self._correct(block_twin, block, quantized, means, PART_VALUES // largest)

    def _quantized(self, block: Block) -> list[str]:
        """Return the quantized activations that the block writes, in order."""
        return [name for step in block.steps for name in step.outputs if name in self.placement.activations]

    def _activations(self, block: Block) -> dict[str, FakeQuantizer]:
        """Return the quantizers with learned steps: of tensors that share their encoding only within the block."""
        names = self._quantized(block)
        quantizers: dict[str, FakeQuantizer] = {}
        for name in names:
            group = self.groups.get(name, frozenset({name}))
            if group <= set(names):
                leader = min(group)
                if leader not in quantizers:
                    limits = self.placement.limits.get(name, (-math.inf, math.inf))
                    quantizers[leader] = _learned(self.encodings[name], limits).to(self.device)
                quantizers[name] = quantizers[leader]
        return quantizers

    def _dropping(self, hook: Hook) -> Hook:
        def drop(values: Tensor) -> Tensor:
            return self._mixed(values, hook(values))

        return drop

    def _mixed(self, exact: Tensor, quantized: Tensor) -> Tensor:
        """Select each element from ``exact`` with probability ``drop``, else from ``quantized``."""
        return (
            torch.lerp(exact, quantized, random_mask(exact, 1 - self.drop, self.generator)) if self.drop else quantized
        )

    @torch.no_grad()
    def _largest(self, block_twin: Twin, block: Block, sample: Tensor) -> int:
        """Return the number of values of the largest tensor that the block writes for one sample."""
        names = [name for step in block.steps for name in step.outputs if name]
        written = block_twin.run({block.input: sample.to(self.device)}, keep=names)
        return max(1, *(values.numel() for values in written.values()))

    @torch.no_grad()
    def _means(self, block_twin: Twin, block: Block, exact: Tensor) -> dict[str, Tensor]:
        """Compute the channel means (N, C) of each sample in the float network, for layers with a bias."""
        names = [step.outputs[0] for step in self._layers(block).values()]
        means: dict[str, list[Tensor]] = {name: [] for name in names}
        for rows in torch.split(exact, self.settings.batch):
            values = block_twin.run({block.input: rows.to(self.device)}, keep=names)
            for name in names:
                means[name].append(sample_means(values[name], len(rows)))
            release_all(exact)
        return {name: torch.cat(parts) for name, parts in means.items()}

    @torch.no_grad()
    def _correct(
        self, block_twin: Twin, block: Block, quantized: Tensor, means: Mapping[str, Tensor], most: int
    ) -> None:
        """Shift each bias by the remaining mean shift of its channel, layer after layer, ``most`` samples at once."""
        count = max(1, min(len(quantized), CORRECTION_VALUES // quantized[0].numel()))

        def run(part: slice, hooks: Mapping[str, Hook]) -> None:
            block_twin.run({block.input: quantized[part].to(self.device)}, hooks=hooks)
            release_all(quantized)

        shifts = channel_shifts(run, means, self._fixed(block_twin, block), parts_of(count, most))
        for name, step in self._layers(block).items():
            values = self._initializer(name) + shifts[step.outputs[0]]
            self.model.graph.initializers[name].const_value = ir.tensor(values.cpu().numpy(), name=name)

    def _layers(self, block: Block) -> dict[str, Step]:
        """Return the layers of the block with a learned weight and a bias of their own, by name of the bias."""
        layers = {}
        for step in block.steps:
            name = step.inputs[2] if len(step.inputs) > 2 else ""
            weight = step.inputs[1] if is_op(step, CHANNEL_AXIS) else ""
            is_own = self.placement.biases.get(name, ("", weight))[1] == weight
            if weight in block.weights and name in self.model.graph.initializers and is_own:
                layers[name] = step
        return layers

    @torch.no_grad()
    def _keep(self, weights: Mapping[str, LearnedRounding], activations: Mapping[str, FakeQuantizer]) -> None:
        for name, weight in weights.items():
            value = self.model.graph.initializers[name]
            value.const_value = ir.tensor(weight.rounded().cpu().contiguous().numpy(), name=name)
            self.encodings[name] = weight.encoding(self.encodings[name])
        self.encodings |= {name: quantizer.encoding() for name, quantizer in activations.items()}

    @torch.no_grad()
    def _run(self, block_twin: Twin, values: Tensor, hooks: Mapping[str, Hook]) -> Tensor:
        """Compute the output of the block for all samples, batch by batch; it is on disk if large."""
        (name,), (output,) = block_twin.input_names, block_twin.output_names

        def compute(rows: Tensor) -> Tensor:
            return block_twin.run({name: rows.to(self.device)}, hooks=hooks)[output].cpu()

        return computed(values, self.settings.batch, compute)


def _learned(encoding: Encoding, limits: tuple[float, float]) -> FakeQuantizer:
    """Create the quantizer of one activation; its range stays within the limits of the operator before it."""
    low, high = limits
    zero = int(encoding.zero_point)
    ends = ((low, encoding.qtype.qmin - zero), (high, encoding.qtype.qmax - zero))
    largest = min((limit / end for limit, end in ends if end and limit / end > 0), default=math.inf)
    return FakeQuantizer(encoding, largest_step=largest * (1 - 1e-6), by_sample=True)


def _constant(tensor: Tensor) -> Hook:
    return lambda _: tensor
