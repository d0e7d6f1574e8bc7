"""A float ONNX model in, an accurate INT8 model out, and not one training image.

The pipeline; each step can be called alone, and hands on a plain file::

    model = dfq_deploy.load("model.onnx")                           # check, upgrade, infer shapes
    print(dfq_deploy.inspect(model))                                # what is in it, what will hurt
    pixels = dfq_deploy.PREPROCESSES["imagenet"]                    # bounds what is synthesized
    samples = dfq_deploy.synthesize(model, preprocess=pixels)       # inputs, from the model alone
    samples.save(Path("samples.npz"))
    result = dfq_deploy.calibrate(model, data=samples, preprocess=pixels, output=Path("int8"))
    print(result.model_path, result.report)                         # what ONNX Runtime loads
    print(dfq_deploy.evaluate("model.onnx", result.model_path, preprocess=pixels))

Wherever a model is, a torch.nn.Module can be, with ``input_shape=(3, 224, 224)`` beside it.

Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfq_deploy.checking import check
    from dfq_deploy.encodings import Encoding, QuantType, Range
    from dfq_deploy.errors import (
        DfqError,
        ModelError,
        OutputError,
        PluginError,
        SamplesError,
        TargetError,
        UnsupportedOperators,
    )
    from dfq_deploy.evaluation import evaluate
    from dfq_deploy.exporting import export
    from dfq_deploy.graph import load
    from dfq_deploy.inspection import inspect
    from dfq_deploy.interop import OnnxRuntimeReader, PolygraphyLoader
    from dfq_deploy.pipeline import calibrate, synthesize
    from dfq_deploy.preprocess import PREPROCESSES, Preprocess
    from dfq_deploy.qat.recipe import Recipe
    from dfq_deploy.qat.session import finetune
    from dfq_deploy.samples import Samples
    from dfq_deploy.targets import TARGETS, find_target
    from dfq_deploy.teachers import Teacher
    from dfq_deploy.torch_export import from_torch

    __version__: str

__all__ = [  # noqa: RUF022 - in groups
    # the steps
    "load",
    "from_torch",
    "inspect",
    "synthesize",
    "calibrate",
    "finetune",
    "export",
    "check",
    "evaluate",
    # what they take and give
    "Samples",
    "Preprocess",
    "PREPROCESSES",
    "Teacher",
    "Recipe",
    "Encoding",
    "QuantType",
    "Range",
    "TARGETS",
    "find_target",
    # our samples for other tools
    "OnnxRuntimeReader",
    "PolygraphyLoader",
    # what can go wrong
    "DfqError",
    "ModelError",
    "UnsupportedOperators",
    "SamplesError",
    "TargetError",
    "PluginError",
    "OutputError",
    "__version__",
]

_MODULES = {
    "checking": ("check",),
    "encodings": ("Encoding", "QuantType", "Range"),
    "errors": (
        "DfqError",
        "ModelError",
        "OutputError",
        "PluginError",
        "SamplesError",
        "TargetError",
        "UnsupportedOperators",
    ),
    "evaluation": ("evaluate",),
    "exporting": ("export",),
    "graph": ("load",),
    "inspection": ("inspect",),
    "interop": ("OnnxRuntimeReader", "PolygraphyLoader"),
    "pipeline": ("calibrate", "synthesize"),
    "preprocess": ("PREPROCESSES", "Preprocess"),
    "qat.recipe": ("Recipe",),
    "qat.session": ("finetune",),
    "samples": ("Samples",),
    "targets": ("TARGETS", "find_target"),
    "teachers": ("Teacher",),
    "torch_export": ("from_torch",),
}

if not TYPE_CHECKING:  # type checkers read the imports above, and so find misspelt names

    def __getattr__(name: str) -> Any:
        """Import what is asked for when it is asked for (PEP 562)."""
        if name == "__version__":
            return import_module("importlib.metadata").version("dfq-deploy")
        for module, names in _MODULES.items():
            if name in names:
                return getattr(import_module(f"dfq_deploy.{module}"), name)
        raise AttributeError(f"module 'dfq_deploy' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
