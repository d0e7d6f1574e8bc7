"""The operators, one file for each family; importing this package fills the registry."""

from dfq_deploy.twin.ops import (
    activation,
    arithmetic,
    casting,
    convolution,
    creation,
    indexing,
    joining,
    logic,
    matrix,
    normalization,
    padding,
    pooling,
    reduction,
    shaping,
)

__all__ = [
    "activation",
    "arithmetic",
    "casting",
    "convolution",
    "creation",
    "indexing",
    "joining",
    "logic",
    "matrix",
    "normalization",
    "padding",
    "pooling",
    "reduction",
    "shaping",
]
