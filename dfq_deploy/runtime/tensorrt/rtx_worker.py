"""The process in which TensorRT-RTX compiles, started by ``rtx``.

``python -m dfq_deploy.runtime.tensorrt.rtx_worker FOLDER``. The library prints to the standard error stream, and a
file that it does not expect may end the process: both stay here. :mod:`dfq_deploy.runtime.tensorrt.rtx` writes
``request.json`` into the folder, and reads ``answer.json`` from it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from dfq_deploy.errors import DfqError
from dfq_deploy.runtime.tensorrt.package import Draft, add_profile, log_of

__all__ = ["answer"]


def answer(request: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Compile the model of ``request`` for its capabilities.

    Args:
        request: ``model``, its path; ``capabilities``, e.g. ``[86, 120]``; ``shapes``, for dynamic inputs: name ->
            smallest, usual and largest shape; ``level`` and ``workspace_mib``.
        folder: gets the ``engine``.

    Returns:
        ``problems``: what the parser or the builder refuses (``operator``, ``node``, ``words``); ``layers``: messages
        of the log that list layers.
    """
    import tensorrt_rtx as trt

    log = log_of(trt)
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(request["model"]):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        found = [(error.node_operator(), error.node_name(), error.desc()) for error in errors]
        return _answer(found or [("", "", "the parser gives no reason")], [])
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = len(request["capabilities"])
    for index, capability in enumerate(request["capabilities"]):
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{capability}"), index)
    config.builder_optimization_level = request["level"]
    if request["workspace_mib"]:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request["workspace_mib"] << 20)
    draft = Draft(trt, log, builder, network, config, parser)
    try:
        add_profile(draft, {name: tuple(map(tuple, shapes)) for name, shapes in request["shapes"].items()})
    except DfqError as problem:
        return _answer([("", "", str(problem))], [])
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return _answer([("", "", reason) for reason in log.errors or ["the builder gives no reason"]], [])
    (folder / "engine").write_bytes(bytes(plan))
    return _answer([], log.layers)


def _answer(problems: list[tuple[str, str, str]], layers: list[str]) -> dict[str, Any]:
    keys = ("operator", "node", "words")
    return {"problems": [dict(zip(keys, problem, strict=True)) for problem in problems], "layers": layers}


if __name__ == "__main__":
    place = Path(sys.argv[1])
    question = json.loads((place / "request.json").read_text(encoding="utf-8"))
    (place / "answer.json").write_text(json.dumps(answer(question, place)), encoding="utf-8")
