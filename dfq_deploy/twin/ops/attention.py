"""Scaled dot-product attention, rotary position embedding, gated units of transformers."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from dfq_deploy.twin.dtypes import dtype_of
from dfq_deploy.twin.node import Node
from dfq_deploy.twin.registry import Operator, register

__all__: list[str] = []


@dataclass(frozen=True)
class _Form:
    """The attributes of one Attention node."""

    query_heads: int
    key_heads: int
    scale: float | None
    softcap: float
    causal: bool
    left: int
    right: int
    shown: int
    precision: torch.dtype | None


@register("Attention", since=23)
def attention(node: Node) -> Operator:
    """Multi-head, grouped-query and multi-query attention (Vaswani 2017), with masks and a key-value cache."""
    code, scale = node.integer("softmax_precision"), node.number("scale", math.nan)
    form = _Form(
        query_heads=node.integer("q_num_heads"),
        key_heads=node.integer("kv_num_heads"),
        scale=None if math.isnan(scale) else scale,
        softcap=node.number("softcap"),
        causal=bool(node.integer("is_causal")),
        left=node.integer("left_window_size", -1),
        right=node.integer("right_window_size", -1),
        shown=node.integer("qk_matmul_output_mode"),
        precision=dtype_of(code, str(node)) if code else None,
    )
    return lambda *inputs: _attend(form, *inputs)[: len(node.outputs)]


def _heads(x: Tensor, count: int) -> Tensor:
    """(N, L, heads * size) as (N, heads, L, size)."""
    return x if x.dim() == 4 else x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def _attend(
    form: _Form,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *cache: Tensor | None,
) -> tuple[Tensor, ...]:
    past_key, past_value, valid = (*cache, None, None, None)[:3]
    flat = query.dim() == 3
    query, key, value = _heads(query, form.query_heads), _heads(key, form.key_heads), _heads(value, form.key_heads)
    past = 0
    if past_key is not None and past_value is not None:
        past = past_key.shape[2]
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    scores, bias, shown = _scores(form, query, key, _bias(form, query, key, mask, past, valid))
    weights = torch.softmax(scores if form.precision is None else scores.to(form.precision), -1)
    # a query that may look nowhere gives zeros, not NaN
    weights = torch.where(torch.isneginf(bias.amax(-1, keepdim=True)), torch.zeros_like(weights), weights)
    weights = weights.to(query.dtype)
    y = weights @ value.repeat_interleave(query.shape[1] // value.shape[1], 1)
    return y.transpose(1, 2).flatten(2) if flat else y, key, value, weights if form.shown == 3 else shown


def _scores(form: _Form, query: Tensor, key: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scores with bias, the bias, and the scores as the fourth output shows them."""
    scale = math.sqrt(1 / math.sqrt(query.shape[-1]) if form.scale is None else form.scale)
    factor = torch.tensor(scale, dtype=query.dtype).item()  # rounded to the input's type, as the standard has it
    spread = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
    raw = (query * factor) @ (spread.transpose(-1, -2) * factor)
    capped = form.softcap * torch.tanh(raw / form.softcap) if form.softcap else raw
    scores = capped + bias
    return scores, bias, (raw, capped, scores, scores)[form.shown]


def _bias(form: _Form, query: Tensor, key: Tensor, mask: Tensor | None, past: int, valid: Tensor | None) -> Tensor:
    """What is added to the scores: minus infinity where a query may not look; broadcasts to (N, heads, L, K)."""
    length, total = query.shape[2], key.shape[2]
    bias = query.new_zeros(length, total)
    allowed = torch.ones(length, total, dtype=torch.bool, device=query.device)
    keys = torch.arange(total, device=query.device)
    if mask is not None:
        missing = total - mask.shape[-1]
        if mask.dtype is torch.bool:
            allowed = allowed & F.pad(mask, (0, missing), value=False)
        else:
            bias = bias + F.pad(mask, (0, missing), value=-math.inf)
    offset: Tensor | int = past if valid is None else (valid.reshape(-1, 1, 1, 1) - length)
    ahead = keys - (torch.arange(length, device=query.device).unsqueeze(1) + offset)
    if form.causal:
        allowed = allowed & (ahead <= 0)
    if form.left >= 0:
        allowed = allowed & (-ahead <= form.left)
    if form.right >= 0:
        allowed = allowed & (ahead <= form.right)
    if valid is not None:
        allowed = allowed & (keys < valid.reshape(-1, 1, 1, 1))
    return torch.where(allowed, bias, torch.full_like(bias, -math.inf))


@register("RotaryEmbedding", since=23)
def rotary_embedding(node: Node) -> Operator:
    """Rotation of pairs of features by their position (Su 2021), over the first ``rotary_embedding_dim`` features."""
    heads, width = node.integer("num_heads"), node.integer("rotary_embedding_dim")
    interleaved = bool(node.integer("interleaved"))

    def run(x: Tensor, cosine: Tensor, sine: Tensor, positions: Tensor | None = None) -> Tensor:
        y = _heads(x, heads)
        turned, rest = y[..., : width or y.shape[-1]], y[..., width or y.shape[-1] :]
        if positions is not None:
            cosine, sine = cosine[positions], sine[positions]
        cosine, sine = cosine.unsqueeze(1), sine.unsqueeze(1)
        first, second = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
        parts = (cosine * first - sine * second, sine * first + cosine * second)
        turned = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
        y = torch.cat([turned, rest], -1)
        return y.transpose(1, 2).flatten(2) if x.dim() == 3 else y

    return run


@register("SwiGLU", since=28)
def swiglu(node: Node) -> Operator:
    """A linear input gated by Swish (Shazeer 2020)."""
    alpha = node.number("alpha", 1.0)
    return lambda gate, linear: gate * torch.sigmoid(alpha * gate) * linear


@register("CausalConvWithState", since=27)
def causal_convolution(node: Node) -> Operator:
    """Depthwise convolution over the past; the last inputs are handed on as state."""
    active = node.text("activation", "none") in {"silu", "swish"}

    def run(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        before = weight.shape[-1] - 1
        padded = F.pad(x, (before, 0)) if state is None else torch.cat([state, x], -1)
        y = F.conv1d(padded, weight, bias, groups=x.shape[1])
        return F.silu(y) if active else y, padded[..., padded.shape[-1] - before :]

    return run


@register("TensorScatter", since=24)
def tensor_scatter(node: Node) -> Operator:
    """Write an update into a cache, at a place of its own for each sample."""
    axis, circular = node.integer("axis", -2), node.text("mode", "linear") == "circular"

    def run(cache: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
        dim, length = axis % cache.dim(), cache.shape[axis]
        first = torch.zeros(cache.shape[0], 1, dtype=torch.int64) if starts is None else starts.reshape(-1, 1)
        places = first.to(cache.device) + torch.arange(update.shape[dim], device=cache.device)
        places = places % length if circular else places
        shape = [cache.shape[0] if d == 0 else update.shape[d] if d == dim else 1 for d in range(cache.dim())]
        return cache.scatter(dim, places.reshape(shape).expand(update.shape), update)

    return run
