"""What a runtime's own compiler says of a file, where it is installed here."""

from dfq_deploy.checking.violation import COMPILER, Violation
from dfq_deploy.errors import DfqError
from dfq_deploy.graph.reading import ModelSource
from dfq_deploy.runtime.plugin_nodes import plugin_nodes
from dfq_deploy.runtime.tagged import tag
from dfq_deploy.runtime.tensorrt import rtx
from dfq_deploy.targets.target import Target

__all__ = ["ASKS", "ask_compiler"]

ASKS = "NVIDIA's own parser and builder accept the file (TensorRT-RTX, where it is installed)"
"""The requirement of the rule :data:`dfq_deploy.checking.violation.COMPILER`."""

WAY_OUT = "mend what it names; TensorRT 10 and 11 share the parser, and may differ in what they build"

NO_PLUGIN = "Plugin not found"
"""What the parser says of an operator that it takes for a plug-in. TensorRT-RTX has none of TensorRT's."""


def ask_compiler(model: ModelSource, target: Target) -> tuple[str, tuple[Violation, ...]]:
    """Compile a file for ``target`` with the runtime's own compiler.

    Returns:
        a sentence on the result, empty if no compiler is installed; and its refusals as violations.

    Raises:
        ModelError: the file does not exist, or is not an ONNX model.
    """
    if target.name != "tensorrt" or not rtx.rtx_version():
        return "", ()
    tagged = tag(model)
    compiler = f"TensorRT-RTX {rtx.rtx_version()}"
    try:
        built = rtx.compiled(tagged.model, rtx.CHECKED)
    except DfqError as problem:
        return f"{compiler} was not asked: {problem}", ()
    if built.plan is not None:
        return f"{compiler} builds it for SM{rtx.CHECKED} (not run: that takes a GPU)", ()
    plugins = {node.op_type for node in plugin_nodes(tagged.model)}
    missing = {entry.operator for entry in built.problems if NO_PLUGIN in entry.words and entry.operator in plugins}
    violations = tuple(
        Violation(COMPILER, tagged.name(problem.node), problem.operator, tagged.restored(problem.words), WAY_OUT)
        for problem in built.problems
        if problem.operator not in missing
    )
    if missing and not violations:
        names = ", ".join(f"'{name}'" for name in sorted(missing))
        return f"{compiler} cannot tell: it has no plug-in {names}, which the TensorRT on the device must have", ()
    return f"{compiler} refuses it for SM{rtx.CHECKED}", violations
