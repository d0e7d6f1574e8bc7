"""The student: the fake-quantized twin with learned parameters."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import inf

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from dfq_deploy.encodings import Encoding
from dfq_deploy.graph.operators import is_op
from dfq_deploy.graph.query import constant_of
from dfq_deploy.qat.parameters import LearnedBias, LearnedWeight
from dfq_deploy.quantization.learned_fake_quant import FakeQuantizer
from dfq_deploy.quantization.placement.place import Placement
from dfq_deploy.twin import Hook, Step, Twin
from dfq_deploy.twin.teacher import teacher_of

__all__ = ["QuantizedStudent"]


class QuantizedStudent(nn.Module):
    """What the quantized file will compute; weights, biases, steps and zero points are learned.

    Rules: (1) a tensor with an encoding is fake-quantized where it appears; a shared group has one quantizer, and what
    only moves quantized values is not quantized again; (2) zero points are learned where the type leaves them open and
    the values lie on both sides of zero; (3) a Relu whose output has no integers below zero is left to the quantizer,
    which cuts the same values off with the same gradients.

    Args:
        model: prepared for the target: BatchNormalization folded, lowered.
        placement, encodings: where learning starts.
        integer_bias: biases are stored as int32, in steps of activation and weight.
        extra: rows for the model's other inputs, as :func:`dfq_deploy.twin.teacher.teacher_of` takes them.
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
                shared[leader] = _of_activation(encodings[name], placement.limits.get(name, (-inf, inf)))
                self.activations[_key(leader)] = shared[leader]
            self._members[name] = shared[leader]
            if name not in moved:
                hooks[name] = shared[leader]
        for name in placement.weights:
            weight = LearnedWeight(self.twin.initializer(name).detach().cpu().clone(), encodings[name])
            self.weights[_key(name)], hooks[name] = weight, weight
            self._names[name] = _key(name)
        for name, (activation, weight_name) in placement.biases.items():
            bias = self._bias(name, activation, weight_name, integer_bias)
            self.biases[_key(name)], hooks[name] = bias, bias
            self._names[name] = _key(name)
        for name in self.twin.input_names:  # what the network is fed is known, and nothing is learned from it
            if name in self._members:
                self._members[name].requires_grad_(False)
        _leave_out_relus(self.twin, {name: q for name, q in self._members.items() if name in hooks})
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
        """The first output, for the main input (N, ...), pictures as (N, C, H, W)."""
        return self.run(images)[self.twin.output_names[0]]

    def run(self, images: Tensor, keep: Iterable[str] = ()) -> dict[str, Tensor]:
        """All outputs and the tensors named in ``keep``, by name."""
        return self.twin.run({self.twin.input_names[0]: images}, keep=tuple(keep), hooks=self._hooks)

    def quantizer(self, name: str) -> FakeQuantizer | None:
        """What quantizes an activation or a weight; None where nothing does."""
        if name in self._members:
            return self._members[name]
        weight = self.weights[self._names[name]] if self._names.get(name, "") in self.weights else None
        return weight.quantizer if isinstance(weight, LearnedWeight) else None

    def is_left_out(self, step: Step) -> bool:
        """True for a Relu that is left to the quantizer behind it."""
        return step.operator is _same

    def learned(self) -> dict[str, nn.Parameter]:
        """What an optimizer changes, by name: weights and biases in their units, logarithms of steps, zero points."""
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and not name.startswith("twin.")
        }

    def joints(self) -> tuple[str, ...]:
        """The activations that several nodes read, where blocks begin; all of them where none is."""
        readers = Counter(name for step in self.twin.steps for name in set(step.inputs))
        names = [name for name in self._members if name not in self.twin.input_names]
        return tuple(name for name in names if readers[name] > 1) or tuple(names)

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring steps and zero points back to what an encoding can be; call it after each step of an optimizer."""
        for quantizer in self.activations.values():
            assert isinstance(quantizer, FakeQuantizer)
            quantizer.constrain()
        for bias in self.biases.values():
            assert isinstance(bias, LearnedBias)
            bias.make_room()

    def encodings(self) -> dict[str, Encoding]:
        """What has been learned, by tensor name, moved tensors included."""
        found = {name: quantizer.encoding() for name, quantizer in self._members.items()}
        for name, key in self._names.items():
            if key in self.weights:
                weight = self.weights[key]
                assert isinstance(weight, LearnedWeight)
                found[name] = weight.quantizer.encoding()
        return found

    @torch.no_grad()
    def write_back(self, model: ir.Model) -> None:
        """Put the learned weights and biases into ``model``, the one that the student was made of."""
        for name, key in self._names.items():
            module = self.weights[key] if key in self.weights else self.biases[key]
            assert isinstance(module, LearnedWeight | LearnedBias)
            value = model.graph.initializers[name]
            old = constant_of(value)
            assert old is not None
            array = module.values().cpu().numpy().astype(old.numpy().dtype)
            value.const_value = ir.tensor(np.ascontiguousarray(array), name=name)


def _key(name: str) -> str:
    """A name for a module: those of torch hold no dots, and are no attributes of a ModuleDict (``values``)."""
    return "tensor " + name.replace(".", "\u00b7")


def _of_activation(encoding: Encoding, limits: tuple[float, float]) -> FakeQuantizer:
    low, high = limits
    zero = int(encoding.zero_point)
    room = [
        limit / end for limit, end in ((low, encoding.qtype.qmin - zero), (high, encoding.qtype.qmax - zero)) if end
    ]
    largest = min((size for size in room if size > 0), default=inf)
    free = not encoding.qtype.symmetric and zero > encoding.qtype.qmin and limits == (-inf, inf)
    # A hair below, so that rounding never reaches beyond.
    return FakeQuantizer(encoding, learn_zero_point=free, largest_step=largest * (1 - 1e-6), by_sample=True)


def _moved(twin: Twin, placement: Placement) -> set[str]:
    """Tensors that a node only moves from tensors of the same shared group: they are on its grid already."""
    groups = {name: group for group in placement.shared for name in group}
    found = set()
    for step in twin.steps:
        for output in step.outputs:
            group = groups.get(output, frozenset())
            if any(name in group for name in step.inputs):
                found.add(output)
    return found


def _leave_out_relus(twin: Twin, quantizers: Mapping[str, FakeQuantizer]) -> None:
    for step in twin.steps:
        quantizer = quantizers.get(step.outputs[0])
        if not is_op(step, "Relu") or quantizer is None or isinstance(quantizer.zero_point, nn.Parameter):
            continue
        if float(quantizer.zero_point) == quantizer.limits[0]:
            twin.replace(step.name, _same)


def _same(values: Tensor) -> Tensor:
    return values
