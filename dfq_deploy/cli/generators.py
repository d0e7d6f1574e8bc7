"""Keep the generator that ``dfq-deploy synthesize`` trained."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfq_deploy.cli.plugin_options import method_fields
from dfq_deploy.plugins.registry import AUTO, synthesizer_of

if TYPE_CHECKING:
    from dfq_deploy.plugins.contracts import Synthesizer

__all__ = ["save_generator_beside"]


def save_generator_beside(synth: "str | Synthesizer", samples: Path) -> "tuple[str | Synthesizer, Path | None]":
    """The method with its option ``save`` set to the samples' path with ``.pt``, and the file it will write.

    A method without that option stays as it is, and so does one that loads its generator from a file.
    """
    if synth == AUTO:
        return synth, None
    method: Any = synthesizer_of(synth)
    if not {"save", "generator"} <= {field.name for field, _ in method_fields(type(method))}:
        return synth, None
    if method.generator is None and method.save is None:
        method = replace(method, save=str(samples.with_suffix(".pt")))
    return method, None if method.save is None else Path(method.save)
