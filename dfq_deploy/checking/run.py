"""Check one quantized file against one target."""

# The rules register themselves where they are defined.
from dfq_deploy.checking.registry import RULES
from dfq_deploy.checking.rules import placement, scales, shapes, types  # noqa: F401
from dfq_deploy.checking.view import view_of
from dfq_deploy.checking.violation import Report
from dfq_deploy.graph.reading import ModelSource, source_name
from dfq_deploy.runtime.kernels import count_kernels
from dfq_deploy.targets.catalog import find_target

__all__ = ["check"]


def check(model: ModelSource, target: str = "cpu") -> Report:
    """Every place where ``model``, of this tool or any other, breaks a rule of ``target``.

    Raises:
        ModelError: there is no such file, or it is no ONNX model.
        TargetError: the target is unknown, or refused.
    """
    chosen = find_target(target)
    view = view_of(model)
    rules = [RULES[name] for name in chosen.rules]
    return Report(
        model=source_name(model),
        target=chosen.name,
        rules={rule.name: rule.asks for rule in rules},
        violations=tuple(violation for rule in rules for violation in rule.violations(view, chosen)),
        kernels=count_kernels(model, chosen.name),
    )
