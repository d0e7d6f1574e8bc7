"""Block-wise reconstruction: learn roundings and steps.

Li et al., "BRECQ", ICLR 2021, arXiv 2102.05426 (blocks as the unit, each behind the quantized ones before it); Wei et
al., "QDrop", ICLR 2022, arXiv 2203.05740 (activations are quantized at random while weights are learned); learned
rounding and steps: :mod:`dfq_deploy.refinement.adaround` and :mod:`dfq_deploy.quantization.learned_fake_quant`. All
on synthetic samples.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.passes.own_biases import CHANNEL_AXIS
from dfq_deploy.progress import SILENT, Progress
from dfq_deploy.quantization.fake_quant import bias_encodings, fake_quantizers
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.refinement.adaround import LearnedRounding
from dfq_deploy.refinement.blocks import Block, blocks_of
from dfq_deploy.refinement.mean_correction import Rows, correct_means
from dfq_deploy.refinement.more_samples import with_more_samples
from dfq_deploy.samples.samples import Samples
from dfq_deploy.twin import Hook, Step, Twin
from dfq_deploy.twin.teacher import teacher_of, twin_images

__all__ = ["Reconstruction", "reconstruct"]

logger = logging.getLogger(__name__)

MEMORY = 2**31
"""Bytes that the features at one cut of the network may take, for all samples together."""

CORRECTED = 2**25
"""Numbers of a block's input that the means of its layers are taken over, about."""

SMALLEST_BATCH = 4

WIDE = 8
"""Bits of activations that need no dropping."""

LARGEST_EXPANSION = 16
"""How many times as large as the input such features are taken to be."""


@dataclass(frozen=True)
class Reconstruction:
    """How a block is learned.

    Args:
        iterations: steps of Adam for each block. The papers take 20,000; a fiftieth is most of the way (on
            resnet20_kd at w4a4, CIFAR-10 training images: 14.7 dB of signal to noise after 200, 14.9 after 400).
        batch: samples in each, at most; and ``features`` of the block's largest tensor, about: where a sample has many
            places, fewer samples say as much.
        samples: that are learned from at least; where there are fewer, pictures are mirrored, shifted, softened and
            mixed, and others made by rule. (Where 224 are given, three times as many of such cost resnet20_kd at w4a4
            1.2 dB on CIFAR-10 training images; where 56 are given they bring mobilenet_v1 at w4a8 from 7.8 dB to 8.8
            on photographs.)
        drop: part of the activations that are left unquantized at random (QDrop's 0.5), where they have fewer than 8
            bits; with more it only keeps layers from making up for the ones before them.
        rounding_rate, step_rate: learning rates of the roundings' inclinations and of the logarithms of the steps.
        weight: of the rounding's regularization, beside the block's error in units of what it is at the start.
        warm: part of the iterations before the regularization sets in (AdaRound's 0.2).
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
        """The sharpness at an iteration; None while it warms up."""
        start = self.warm * self.iterations
        if iteration < start:
            return None
        part = (iteration - start) / max(self.iterations - start, 1)
        first, last = self.sharpness
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * part))


def reconstruct(
    model: ir.Model,
    placement: Placement,
    encodings: Mapping[str, Encoding],
    samples: Samples,
    *,
    how: Reconstruction | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> dict[str, Encoding]:
    """Learn the roundings of all weights of ``model``, in place, and the steps; its biases keep each layer's means.

    Args:
        model: prepared for the target; its weights lie on their grids afterwards.
        placement, encodings: what is quantized, and from where learning starts.
        samples: as many as fit into memory are used; augmented ones are added to few.

    Returns:
        the encodings with their learned steps.
    """
    how = how or Reconstruction()
    twin = teacher_of(model, samples.extra, device)
    blocks = blocks_of(twin, placement.weights)
    generator = torch.Generator().manual_seed(seed)
    room = max(1, MEMORY // (samples.images[0].nbytes * LARGEST_EXPANSION))
    images = with_more_samples(twin_images(model, samples)[:room], min(how.samples, room), generator)
    learner = _Learner(model, placement, dict(encodings), how, generator, device)
    progress.start("reconstruction", sum(how.iterations for block in blocks if block.weights))
    exact, quantized = images, learner.quantized_input(twin.input_names[0], images)
    for block in blocks:
        exact, quantized = learner.learn(twin, block, exact, quantized, progress)
    return learner.encodings


class _Learner:
    """Goes through the blocks; holds what has been learned so far."""

    def __init__(
        self,
        model: ir.Model,
        placement: Placement,
        encodings: dict[str, Encoding],
        how: Reconstruction,
        generator: torch.Generator,
        device: str,
    ) -> None:
        self.model, self.placement, self.encodings = model, placement, encodings
        self.how, self.generator, self.device = how, generator, torch.device(device)
        widths = [encodings[name].qtype.bits for name in placement.activations]
        self.drop = how.drop if min(widths, default=WIDE) < WIDE else 0.0
        self.groups = {name: group for group in placement.shared for name in group}

    def quantized_input(self, name: str, images: Tensor) -> Tensor:
        """The samples as the quantized network reads them."""
        hooks = fake_quantizers({name: self.encodings[name]} if name in self.encodings else {})
        return hooks[name](images) if name in hooks else images

    def learn(
        self, twin: Twin, block: Block, exact: Tensor, quantized: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor]:
        """Learn one block.

        Args:
            exact, quantized: its input in the float network, and behind the quantized blocks before it.

        Returns:
            both for the next block.
        """
        part = twin.part(block.steps, (block.input,), (block.output,)).to(self.device)
        wanted = self._run(part, exact, {})
        if block.weights:
            found = self._run(part, quantized, self._fixed(part, block))
            unit = float((found - wanted).square().mean().clamp_min(1e-20))
            self._descend(part, block, (exact, quantized, wanted), unit, progress)
        result = self._run(part, quantized, self._fixed(part, block))
        if block.weights:
            after = float((result - wanted).square().mean())
            logger.debug("reconstruction: block up to %s, mean squared error %.4g to %.4g", block.output, unit, after)
        return wanted, result

    def _fixed(self, part: Twin, block: Block) -> dict[str, Hook]:
        """Hooks that quantize all of a block as the file will."""
        encodings = self.encodings | bias_encodings(self.model, self.encodings)
        known = {name for step in block.steps for name in (*step.inputs, *step.outputs)} - {block.input}
        hooks = fake_quantizers({name: encodings[name] for name in known & encodings.keys()}, self.device)
        for name in (*block.weights, *self._layers(block)):  # the part was cut out before they were learned
            values = self._initializer(name)
            hooks[name] = _constant(hooks[name](values) if name in hooks else values)
        return hooks

    def _initializer(self, name: str) -> Tensor:
        tensor = self.model.graph.initializers[name].const_value
        assert tensor is not None
        return torch.from_numpy(tensor.numpy().copy()).to(self.device)

    def _descend(
        self, part: Twin, block: Block, data: tuple[Tensor, Tensor, Tensor], unit: float, progress: Progress
    ) -> None:
        how = self.how
        exact, quantized, wanted = data
        weights = {name: LearnedRounding(self._initializer(name), self.encodings[name]) for name in block.weights}
        activations = self._activations(block)
        batch = self._batch(part, block, exact[:1])
        hooks: dict[str, Hook] = {**self._fixed(part, block), **weights}
        means, chosen = self._means(part, block, exact), Rows(slice(0))
        hooks |= {name: self._dropping(activations.get(name, hooks[name])) for name in self._quantized(block)}
        hooks |= {name: correct_means(of_samples, chosen, hooks.get(name)) for name, of_samples in means.items()}
        steps = [weight.log_step for weight in weights.values()]
        steps += [quantizer.log_step for quantizer in dict.fromkeys(activations.values())]
        optimizer = torch.optim.Adam(
            [
                {"params": [weight.inclination for weight in weights.values()], "lr": how.rounding_rate},
                {"params": steps, "lr": how.step_rate},
            ]
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, [lambda _: 1.0, lambda index: 0.5 * (1 + math.cos(math.pi * index / how.iterations))]
        )
        for iteration in range(how.iterations):
            rows = torch.randint(len(exact), (min(batch, len(exact)),), generator=self.generator)
            chosen.rows = rows
            mixed = self._mixed(exact[rows].to(self.device), quantized[rows].to(self.device))
            given = part.run({block.input: mixed}, hooks=hooks)[block.output]
            loss = (given - wanted[rows].to(self.device)).square().mean() / unit
            beta = how.beta(iteration)
            if beta is not None:
                loss = loss + how.weight * torch.stack([weight.openness(beta) for weight in weights.values()]).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            for quantizer in activations.values():
                quantizer.constrain()
            progress.advance(1, **({"error": loss.item()} if iteration % 50 == 0 else {}))
        self._keep(weights, activations)
        self._correct(part, block, quantized, means)

    def _quantized(self, block: Block) -> list[str]:
        """The activations that the block writes and that are quantized, in order."""
        return [name for step in block.steps for name in step.outputs if name in self.placement.activations]

    def _activations(self, block: Block) -> dict[str, FakeQuantizer]:
        """Quantizers whose steps are learned: of tensors that share their encoding with nothing outside the block."""
        names = self._quantized(block)
        found: dict[str, FakeQuantizer] = {}
        for name in names:
            group = self.groups.get(name, frozenset({name}))
            if group <= set(names):
                leader = min(group)
                if leader not in found:
                    limits = self.placement.limits.get(name, (-math.inf, math.inf))
                    found[leader] = _learned(self.encodings[name], limits).to(self.device)
                found[name] = found[leader]
        return found

    def _dropping(self, hook: Hook) -> Hook:
        def drop(values: Tensor) -> Tensor:
            return self._mixed(values, hook(values))

        return drop

    def _mixed(self, exact: Tensor, quantized: Tensor) -> Tensor:
        """Each element exact with probability ``drop``, else quantized."""
        if not self.drop:
            return quantized
        chance = torch.rand(exact.shape, generator=self.generator).to(exact.device)
        return torch.where(chance < self.drop, exact, quantized)

    @torch.no_grad()
    def _batch(self, part: Twin, block: Block, sample: Tensor) -> int:
        """Samples of one iteration, by the largest tensor that the block writes for one."""
        names = [name for step in block.steps for name in step.outputs if name]
        written = part.run({block.input: sample.to(self.device)}, keep=names)
        largest = max(values.numel() for values in written.values())
        return max(SMALLEST_BATCH, min(self.how.batch, self.how.features // largest))

    @torch.no_grad()
    def _means(self, part: Twin, block: Block, exact: Tensor) -> dict[str, Tensor]:
        """What each layer with a bias writes in the float network: its channels' means in each sample, (N, C)."""
        names = [step.outputs[0] for step in self._layers(block).values()]
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        for rows in torch.split(exact, self.how.batch):
            values = part.run({block.input: rows.to(self.device)}, keep=names)
            for name in names:
                found[name].append(values[name].flatten(2).mean(2) if values[name].ndim > 2 else values[name])
        return {name: torch.cat(parts) for name, parts in found.items()}

    @torch.no_grad()
    def _correct(self, part: Twin, block: Block, quantized: Tensor, means: Mapping[str, Tensor]) -> None:
        """Shift each bias by what is left of the shift of its channel's mean, layer after layer in one run."""
        count = max(1, min(len(quantized), CORRECTED // quantized[0].numel()))
        chosen = Rows(slice(count))
        hooks, shifts = self._fixed(part, block), dict[str, Tensor]()
        for name, of_samples in means.items():
            hooks[name] = correct_means(of_samples, chosen, hooks.get(name), partial(shifts.__setitem__, name))
        part.run({block.input: quantized[:count].to(self.device)}, hooks=hooks)
        for name, step in self._layers(block).items():
            values = self._initializer(name) + shifts[step.outputs[0]]
            self.model.graph.initializers[name].const_value = ir.tensor(values.cpu().numpy(), name=name)

    def _layers(self, block: Block) -> dict[str, Step]:
        """Name of each bias that is a learned weight's own -> its layer."""
        found = {}
        for step in block.steps:
            name = step.inputs[2] if len(step.inputs) > 2 else ""
            weight = step.inputs[1] if step.op_type in CHANNEL_AXIS else ""
            is_own = self.placement.biases.get(name, ("", weight))[1] == weight
            if weight in block.weights and name in self.model.graph.initializers and is_own:
                found[name] = step
        return found

    @torch.no_grad()
    def _keep(self, weights: Mapping[str, LearnedRounding], activations: Mapping[str, FakeQuantizer]) -> None:
        for name, weight in weights.items():
            value = self.model.graph.initializers[name]
            value.const_value = ir.tensor(weight.decided().cpu().contiguous().numpy(), name=name)
            self.encodings[name] = weight.encoding(self.encodings[name])
        self.encodings |= {name: quantizer.encoding() for name, quantizer in activations.items()}

    @torch.no_grad()
    def _run(self, part: Twin, values: Tensor, hooks: Mapping[str, Hook]) -> Tensor:
        """The block's output for all samples, batch by batch."""
        (name,), (output,) = part.input_names, part.output_names
        results = []
        for rows in torch.split(values, self.how.batch):
            results.append(part.run({name: rows.to(self.device)}, hooks=hooks)[output].cpu())
        return torch.cat(results)


def _learned(encoding: Encoding, limits: tuple[float, float]) -> FakeQuantizer:
    """The quantizer of one activation; its ends stay within what the operator before it can write."""
    low, high = limits
    zero = int(encoding.zero_point)
    ends = ((low, encoding.qtype.qmin - zero), (high, encoding.qtype.qmax - zero))
    largest = min((limit / end for limit, end in ends if end and limit / end > 0), default=math.inf)
    return FakeQuantizer(encoding, largest_step=largest * (1 - 1e-6), by_sample=True)


def _constant(tensor: Tensor) -> Hook:
    return lambda _: tensor
