"""The student: the fake-quantized twin with learned parameters."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import inf

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of, name_of
from dfq_deploy.qat.parameters import LearnedBias, LearnedWeight
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.quantization.weights import saturates_in_sums
from dfq_deploy.twin import Hook, Step, Twin
from dfq_deploy.twin.teacher import teacher_of

__all__ = ["QuantizedStudent"]


class QuantizedStudent(nn.Module):
    """The quantized network with learned weights, biases, steps and zero points.

    Rules: (1) a tensor with an encoding is fake-quantized; a shared group has one quantizer, and a tensor that an
    operator only moves within the group is not quantized again; (2) zero points are learned if the type is asymmetric
    and the values lie on both sides of zero; (3) a Relu whose output has no integers below zero is omitted: the
    quantizer clips the same values, with the same gradients.

    Args:
        model: prepared for the target: BatchNormalization folded, lowered.
        placement, encodings: the quantized tensors and their initial encodings.
        integer_bias: biases are stored as int32, in multiples of activation step times weight step.
        extra: rows for the other inputs of the model, as in :func:`dfq_deploy.twin.teacher.teacher_of`.
    """

    def __init__(
        self,
        model: ir.Model,
        placement: Placement,
        encodings: Mapping[str, Encoding],
        *,
        integer_bias: bool = True,
        extra: Mapping[str, np.ndarray] | None = None,
        device: str = "cpu",
    ) -> None:
        super().__init__()
        self.twin = teacher_of(model, extra or {}, device)
        self.activations = nn.ModuleDict()
        self.weights = nn.ModuleDict()
        self.biases = nn.ModuleDict()
        self._names: dict[str, str] = {}
        hooks: dict[str, Hook] = {}
        groups = {name: sorted(group)[0] for group in placement.shared for name in group}
        moved = _moved(self.twin, placement)
        self._members: dict[str, FakeQuantizer] = {}
        shared: dict[str, FakeQuantizer] = {}
        for name in placement.activations:
            leader = groups.get(name, name)
            if leader not in shared:
                shared[leader] = _activation_quantizer(encodings[name], placement.limits.get(name, (-inf, inf)))
                self.activations[_key(leader)] = shared[leader]
            self._members[name] = shared[leader]
            if name not in moved:
                hooks[name] = shared[leader]
        for name in placement.weights:
            weight = LearnedWeight(self.twin.initializer(name).detach().cpu().clone(), encodings[name])
            self.weights[_key(name)], hooks[name] = weight, weight
            self._names[name] = _key(name)
        self._products = tuple(self._narrow_products(model, placement))
        for name, (activation, weight_name) in placement.biases.items():
            bias = self._bias(name, activation, weight_name, integer_bias)
            self.biases[_key(name)], hooks[name] = bias, bias
            self._names[name] = _key(name)
        for name in self.twin.input_names:  # the range of the input is known, and its encoding is not learned
            if name in self._members:
                self._members[name].requires_grad_(False)
        _fold_relus(self.twin, {name: q for name, q in self._members.items() if name in hooks})
        self._hooks = hooks
        self.to(device)
        self.constrain()

    def _bias(self, name: str, activation: str, weight: str, integer: bool) -> LearnedBias:
        values = self.twin.initializer(name).detach().cpu().clone()
        of_activation, of_weight = self._members[activation], self.weights[_key(weight)]
        assert isinstance(of_weight, LearnedWeight)
        rows = of_weight.values().detach()
        axis = of_weight.quantizer.axis
        norms = rows.square().sum([other for other in range(rows.ndim) if other != axis]).sqrt()
        sizes = norms if axis is not None else norms / values.numel() ** 0.5
        unit = (sizes * of_activation.initial).clamp_min(1e-12).expand(values.shape[-1]).reshape(values.shape)
        return LearnedBias(values, unit.clone(), (of_activation, of_weight.quantizer) if integer else None)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the first output for the main input (N, ...), images as (N, C, H, W)."""
        return self.run(images)[self.twin.output_names[0]]

    def run(self, images: Tensor, keep: Iterable[str] = ()) -> dict[str, Tensor]:
        """Compute all outputs and the tensors named in ``keep``, by name."""
        return self.twin.run({self.twin.input_names[0]: images}, keep=tuple(keep), hooks=self._hooks)

    def quantizer(self, name: str) -> FakeQuantizer | None:
        """Return the quantizer of an activation or a weight; None if it is not quantized."""
        if name in self._members:
            return self._members[name]
        weight = self.weights[self._names[name]] if self._names.get(name, "") in self.weights else None
        return weight.quantizer if isinstance(weight, LearnedWeight) else None

    def is_folded(self, step: Step) -> bool:
        """Return True for a Relu that is omitted, since its quantizer clips the same values."""
        return step.operator is _identity

    def _narrow_products(self, model: ir.Model, placement: Placement) -> Iterator[tuple[LearnedWeight, ir.Node]]:
        """Weights whose sums of two products must fit into 16 bits, with the products."""
        if not placement.narrow_sums:
            return
        for node in model.graph:
            for name in map(name_of, node.inputs):
                weight = self.weights[_key(name)] if name in placement.weights else None
                if isinstance(weight, LearnedWeight) and saturates_in_sums(weight.quantizer.qtype):
                    yield weight, node

    def learned(self) -> dict[str, nn.Parameter]:
        """Return the learned parameters by name: scaled weights and biases, logarithms of steps, zero points."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and not name.startswith("twin.")
        }

    def feature_names(self) -> tuple[str, ...]:
        """Return the activations with several consumers, where blocks begin; all activations if there are none."""
        readers = Counter(name for step in self.twin.steps for name in set(step.inputs))
        names = [name for name in self._members if name not in self.twin.input_names]
        return tuple(name for name in names if readers[name] > 1) or tuple(names)

    @torch.no_grad()
    def constrain(self) -> None:
        """Clamp steps and zero points to valid encodings; call it after each step of the optimizer."""
        for quantizer in self.activations.values():
            assert isinstance(quantizer, FakeQuantizer)
            quantizer.constrain()
        for bias in self.biases.values():
            assert isinstance(bias, LearnedBias)
            bias.raise_step_for_bias()
        for weight, node in self._products:
            weight.raise_step_for_sums(node)

    def encodings(self) -> dict[str, Encoding]:
        """Return the learned encodings by tensor name, moved tensors included."""
        encodings = {name: quantizer.encoding() for name, quantizer in self._members.items()}
        for name, key in self._names.items():
            if key in self.weights:
                weight = self.weights[key]
                assert isinstance(weight, LearnedWeight)
                encodings[name] = weight.quantizer.encoding()
        return encodings

    @torch.no_grad()
    def write_back(self, model: ir.Model) -> None:
        """Write the learned weights and biases to ``model``, from which the student was created."""
        for name, key in self._names.items():
            module = self.weights[key] if key in self.weights else self.biases[key]
            assert isinstance(module, LearnedWeight | LearnedBias)
            value = model.graph.initializers[name]
            old = constant_of(value)
            assert old is not None
            array = module.values().cpu().numpy().astype(old.numpy().dtype)
            value.const_value = ir.tensor(np.ascontiguousarray(array), name=name)


def _key(name: str) -> str:
    """Return a module name without dots that is not an attribute of ModuleDict (such as ``values``)."""
    return "tensor " + name.replace(".", "\u00b7")


def _activation_quantizer(encoding: Encoding, limits: tuple[float, float]) -> FakeQuantizer:
    low, high = limits
    zero = int(encoding.zero_point)
    steps = [
        limit / end for limit, end in ((low, encoding.qtype.qmin - zero), (high, encoding.qtype.qmax - zero)) if end
    ]
    largest = min((size for size in steps if size > 0), default=inf)
    learns_zero_point = not encoding.qtype.symmetric and zero > encoding.qtype.qmin and limits == (-inf, inf)
    # Slightly smaller, so that rounding never exceeds the limits.
    return FakeQuantizer(
        encoding, learn_zero_point=learns_zero_point, largest_step=largest * (1 - 1e-6), by_sample=True
    )


def _moved(twin: Twin, placement: Placement) -> set[str]:
    """Return the tensors that a node only moves within a shared group: they are already quantized."""
    groups = {name: group for group in placement.shared for name in group}
    moved = set()
    for step in twin.steps:
        for output in step.outputs:
            group = groups.get(output, frozenset())
            if any(name in group for name in step.inputs):
                moved.add(output)
    return moved


def _fold_relus(twin: Twin, quantizers: Mapping[str, FakeQuantizer]) -> None:
    for step in twin.steps:
        quantizer = quantizers.get(step.outputs[0])
        if not is_op(step, "Relu") or quantizer is None or isinstance(quantizer.zero_point, nn.Parameter):
            continue
        if float(quantizer.zero_point) == quantizer.limits[0]:
            twin.replace(step.name, _identity)


def _identity(values: Tensor) -> Tensor:
    return values
