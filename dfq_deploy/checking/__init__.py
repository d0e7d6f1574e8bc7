"""Check any quantized ONNX file against the rules of a runtime: ``dfq-deploy check``.

============= ============================================================================================
``compilers`` What a runtime's own compiler says of a file, where it is installed here.
``registry``  Registry of checker rules.
``run``       Check one quantized file against one target.
``view``      The quantized graph for the rules: integer kernels and the quantization of their tensors.
``violation`` Violations of rules, and the report that lists them.
``rules``     The rules that a quantized file must obey, by subject; each runtime names those that it has.
============= ============================================================================================
"""

from dfq_deploy.checking.registry import RULES, Rule
from dfq_deploy.checking.run import check
from dfq_deploy.checking.violation import Report, Violation

__all__ = ["RULES", "Report", "Rule", "Violation", "check"]
