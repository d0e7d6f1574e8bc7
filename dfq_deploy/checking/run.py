"""Check one quantized file against one target."""

from dfq_deploy.checking.compilers import ASKS, ask_compiler

# The rules register themselves where they are defined.
from dfq_deploy.checking.registry import RULES
from dfq_deploy.checking.rules import placement, scales, shapes, types  # noqa: F401
from dfq_deploy.checking.view import view_of
from dfq_deploy.checking.violation import COMPILER, Report
from dfq_deploy.graph.reading import ModelSource, blames_the_file, source_name
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.targets.catalog import find_target

__all__ = ["check"]


@blames_the_file
def check(model: ModelSource, target: str = "cpu") -> Report:
    """Check ``model``, which any tool may have quantized, against the rules of ``target``.

    Raises:
        ModelError: the file does not exist, or is not an ONNX model.
        TargetError: the target is unknown or not supported.
    """
    resolved = find_target(target)
    view = view_of(model)
    rules = [RULES[name] for name in resolved.rules]
    compiler, refusals = ask_compiler(model, resolved)
    return Report(
        model=source_name(model),
        target=resolved.name,
        rules={rule.name: rule.asks for rule in rules} | ({COMPILER: ASKS} if compiler else {}),
        violations=(*(violation for rule in rules for violation in rule.violations(view, resolved)), *refusals),
        kernels=count_kernels(model, resolved.name),
        compiler=compiler,
    )
