"""RNN, GRU and LSTM, in both directions, with sequence lengths, peepholes and any of ONNX's activations."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []

Function = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]

DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@dataclass(frozen=True)
class _Cell:
    """One direction of one node."""

    kind: str
    functions: tuple[Function, ...]
    clip: float
    reset_after: bool
    coupled: bool


def _function(name: str, alpha: float | None, beta: float | None) -> Function:
    a, b = alpha, beta
    table: dict[str, Function] = {
        "relu": torch.relu,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "softsign": F.softsign,
        "softplus": F.softplus,
        "affine": lambda x: x * (1.0 if a is None else a) + (0.0 if b is None else b),
        "leakyrelu": lambda x: F.leaky_relu(x, 0.01 if a is None else a),
        "thresholdedrelu": lambda x: torch.where(x > (1.0 if a is None else a), x, torch.zeros_like(x)),
        "scaledtanh": lambda x: (1.0 if a is None else a) * torch.tanh((1.0 if b is None else b) * x),
        "hardsigmoid": lambda x: (x * (0.2 if a is None else a) + (0.5 if b is None else b)).clamp(0, 1),
        "elu": lambda x: F.elu(x, 1.0 if a is None else a),
    }
    return table[name.lower()]


def _functions(node: Node, directions: int) -> list[tuple[Function, ...]]:
    defaults = DEFAULTS[node.op_type]
    names = node.texts("activations") or defaults * directions
    alphas = list(node.numbers("activation_alpha") or ())
    betas = list(node.numbers("activation_beta") or ())
    made = []
    for name in names:  # the lists of parameters hold entries for the functions that take them only, in order
        takes_alpha = name.lower() in {"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"}
        takes_beta = name.lower() in {"affine", "scaledtanh", "hardsigmoid"}
        alpha = alphas.pop(0) if takes_alpha and alphas else None
        beta = betas.pop(0) if takes_beta and betas else None
        made.append(_function(name, alpha, beta))
    size = len(defaults)
    return [tuple(made[size * index : size * (index + 1)]) for index in range(directions)]


@register("RNN", "GRU", "LSTM")
def recurrent(node: Node) -> Operator:
    """Y (L, directions, N, H), the last hidden state and, for LSTM, the last cell state."""
    direction = node.text("direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    cells = [
        _Cell(
            kind=node.op_type,
            functions=functions,
            clip=node.number("clip"),
            reset_after=bool(node.integer("linear_before_reset")),
            coupled=bool(node.integer("input_forget")),
        )
        for functions in _functions(node, count)
    ]
    batch_first = bool(node.integer("layout"))

    def run(x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, *rest: Tensor | None) -> tuple[Tensor, ...]:
        lengths, hidden, memory, peepholes = (*rest, None, None, None, None)[:4]
        if batch_first:
            x = x.transpose(0, 1)
            hidden = None if hidden is None else hidden.transpose(0, 1)
            memory = None if memory is None else memory.transpose(0, 1)
        size, results = r.shape[-1], []
        for index, cell in enumerate(cells):
            zeros = x.new_zeros(x.shape[1], size)
            state: State = (zeros if hidden is None else hidden[index],)
            if cell.kind == "LSTM":
                state = (*state, zeros if memory is None else memory[index])
            bias = x.new_zeros(2 * GATES[cell.kind] * size) if b is None else b[index]
            peep = x.new_zeros(3 * size) if peepholes is None else peepholes[index]
            backwards = direction == "reverse" or index == 1
            results.append(_sequence(cell, x, (w[index], r[index], bias, peep), state, lengths, backwards))
        y = torch.stack([outputs for outputs, _ in results], 1)
        last = tuple(torch.stack(parts) for parts in zip(*(state for _, state in results), strict=True))
        if batch_first:
            return y.permute(2, 0, 1, 3), *(part.transpose(0, 1) for part in last)
        return y, *last

    return run


def _sequence(
    cell: _Cell, x: Tensor, weights: State, state: State, lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, State]:
    """All outputs of one direction, and the last state; steps beyond a sample's length leave the state alone."""
    inputs = F.linear(x, weights[0])
    outputs: list[Tensor] = []
    for step in reversed(range(x.shape[0])) if backwards else range(x.shape[0]):
        new = CELLS[cell.kind](cell, inputs[step], weights, state)
        shown = new[0]
        if lengths is not None:
            running = (lengths > step).unsqueeze(1)
            new = tuple(torch.where(running, after, before) for after, before in zip(new, state, strict=True))
            shown = torch.where(running, shown, torch.zeros_like(shown))
        state = new
        outputs.append(shown)
    return torch.stack(outputs[::-1] if backwards else outputs), state


def _clipped(cell: _Cell, x: Tensor) -> Tensor:
    return x.clamp(-cell.clip, cell.clip) if cell.clip else x


def _rnn(cell: _Cell, x: Tensor, weights: State, state: State) -> State:
    _, r, bias, _ = weights
    input_bias, hidden_bias = bias.chunk(2)
    return (cell.functions[0](_clipped(cell, x + F.linear(state[0], r) + input_bias + hidden_bias)),)


def _gru(cell: _Cell, x: Tensor, weights: State, state: State) -> State:
    _, r, bias, _ = weights
    (hidden,), size = state, state[0].shape[-1]
    gate, candidate = cell.functions
    input_bias, hidden_bias = bias.chunk(2)
    x = x + input_bias
    two = F.linear(hidden, r[: 2 * size]) + hidden_bias[: 2 * size]
    update, reset = gate(_clipped(cell, x[:, : 2 * size] + two)).chunk(2, 1)
    if cell.reset_after:
        recurrent_part = reset * (F.linear(hidden, r[2 * size :]) + hidden_bias[2 * size :])
    else:
        recurrent_part = F.linear(reset * hidden, r[2 * size :]) + hidden_bias[2 * size :]
    new = candidate(_clipped(cell, x[:, 2 * size :] + recurrent_part))
    return ((1 - update) * new + update * hidden,)


def _lstm(cell: _Cell, x: Tensor, weights: State, state: State) -> State:
    _, r, bias, peep = weights
    hidden, memory = state
    gate, candidate, output_function = cell.functions
    input_bias, hidden_bias = bias.chunk(2)
    parts = (x + F.linear(hidden, r) + input_bias + hidden_bias).chunk(4, 1)  # input, output, forget, cell
    peep_input, peep_output, peep_forget = peep.chunk(3)
    enter = gate(_clipped(cell, parts[0] + peep_input * memory))
    forget = 1 - enter if cell.coupled else gate(_clipped(cell, parts[2] + peep_forget * memory))
    memory = forget * memory + enter * candidate(_clipped(cell, parts[3]))
    leave = gate(_clipped(cell, parts[1] + peep_output * memory))
    return leave * output_function(memory), memory


CELLS: dict[str, Callable[[_Cell, Tensor, State, State], State]] = {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}
