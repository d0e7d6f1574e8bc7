"""A float ONNX model in, an accurate INT8 model out, and not one training image.

The pipeline; each step can be called alone, and hands on a plain file::

    model = dfq_deploy.load("model.onnx")                           # check, upgrade, infer shapes
    print(dfq_deploy.inspect(model))                                # what is in it, what will hurt
    samples = dfq_deploy.synthesize(model, preprocess="imagenet")   # inputs, from the model alone
    samples.save("samples.npz")
    result = dfq_deploy.calibrate(model, data="samples.npz", preprocess="imagenet", output="int8")
    print(result.model_path, result.report["comparison"])           # what ONNX Runtime loads
    print(dfq_deploy.evaluate("model.onnx", result.model_path, "photos", preprocess="imagenet"))

Wherever a model is, a torch.nn.Module can be, with ``input_shape=(3, 224, 224)`` beside it, or a torch.export program.

Where to look; the docstring of each package lists its modules:

================ ============================================================================
``graph``        Read, check, rewrite and write ONNX models.
``samples``      Sample sets, image folders, preprocessing.
``synthesis``    Make samples from a model alone (DeepInversion and others).
``quantization`` Decide which tensors get Q/DQ; turn ranges into scales and zero points.
``targets``      The runtimes to quantize for, as data.
``refinement``   Improve a quantized model after calibration.
``qat``          Train the quantized network on samples.
``checking``     Check a quantized file against the rules of a runtime.
``evaluation``   Compare a quantized model with the float one.
``verdict``      Judge a quantized model without data.
``report``       Write ``report.json`` and ``report.html``.
``inspection``   What ``dfq-deploy inspect`` shows.
``pipeline``     The steps above, in their order.
``cli``          The command line.
``calibrators``  Turn observed values into ranges; one algorithm a module.
``exporters``    Write the files that runtimes load: Q and DQ, integer weights, int32 biases.
``runtime``      Run models in ONNX Runtime and TensorRT.
``twin``         The same graph as a torch module, for gradients.
``plugins``      The contracts of methods, calibrators and exporters, and how they are found.
``testing``      Tests that a plug-in keeps its contract.
``validation``   Refuse damaged and hostile model files before anything computes with them.
``files``        Files that are written whole or not at all.
================ ============================================================================

torch and ONNX Runtime are imported when they are first used.
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_MODULE_OF = {
    alias.name: node.module
    for node in _STUB.body
    if isinstance(node, ast.ImportFrom) and node.module
    for alias in node.names
}
"""Public name -> the module that defines it, as the stub beside this file lists them."""

__all__ = [*_MODULE_OF, "__version__"]  # noqa: PLE0604 - all of them are strings


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "__version__":
        return import_module("importlib.metadata").version("dfq-deploy")
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'dfq_deploy' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
