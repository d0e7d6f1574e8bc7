"""The script of the child process: shape inference, then one run in ONNX Runtime.

Started as ``python probe.py FILE MEMORY`` by :mod:`dfq_deploy.validation.trial`; imports nothing of the package, so
that it starts fast. Prints one JSON object a line: ``{"stage": NAME}`` before each stage, ``{"refused": MESSAGE}``
where a stage refuses the file, ``{"failed": MESSAGE}`` where the run on zeros fails and no size is
open beyond the batch, ``{"large": [NAME, SHAPE, BYTES]}`` where a tensor does not fit, ``{"done": true}`` at the end.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

OVERHEAD = 2 * 2**30
"""Bytes of address space that the interpreter and the libraries take themselves."""

LARGEST_RUN = 2**31
"""Bytes of a model up to which it is run."""


def _say(**words: Any) -> None:
    print(json.dumps(words), flush=True)


def _limit(memory: int) -> None:
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = memory + OVERHEAD
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _itemsize(kind: int) -> float:
    try:
        return float(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)
    except (KeyError, TypeError, ValueError):
        return 1.0


def _largest(model: onnx.ModelProto) -> tuple[str, list[int], int]:
    """The largest tensor of a known shape that the main graph computes."""
    best: tuple[str, list[int], int] = ("", [], 0)
    for value in (*model.graph.value_info, *model.graph.output):
        kind = value.type.tensor_type
        dims = [dim.dim_value if dim.HasField("dim_value") else 1 for dim in kind.shape.dim]
        size = int(math.prod(dims) * _itemsize(kind.elem_type))
        if size > best[2]:
            best = (value.name, dims, size)
    return best


def _feeds(session: ort.InferenceSession) -> dict[str, Any] | None:
    kinds = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(double)": np.float64,
        "tensor(int64)": np.int64,
        "tensor(int32)": np.int32,
        "tensor(int8)": np.int8,
        "tensor(uint8)": np.uint8,
        "tensor(bool)": np.bool_,
    }
    feeds: dict[str, Any] = {}
    for value in session.get_inputs():
        if value.type not in kinds:
            return None
        shape = [dim if isinstance(dim, int) and dim > 0 else 1 for dim in value.shape]
        feeds[value.name] = np.zeros(shape, kinds[value.type])
    return feeds


def _run(session: ort.InferenceSession, small: bool) -> None:
    feeds = _feeds(session)
    if not small or feeds is None:
        return
    _say(stage="a run in ONNX Runtime")
    is_open = any(not isinstance(dim, int) or dim <= 0 for value in session.get_inputs() for dim in value.shape[1:])
    try:
        session.run(None, feeds)
    except Exception as problem:  # a sound model may refuse these zeros, and other sizes than its own
        if not is_open:
            _say(failed=f"{problem}")


def main(file: str, memory: int) -> None:
    """Infer shapes, open a session, run it once on zeros."""
    path = Path(file)
    _limit(memory)
    small = path.stat().st_size < LARGEST_RUN
    if small:
        _say(stage="shape inference")
        model = onnx.load(path, load_external_data=False)
        try:
            model = onnx.shape_inference.infer_shapes(model)
        except Exception as problem:  # whatever native code raises is what is asked for
            _say(refused=f"{problem}")
        name, shape, size = _largest(model)
        if size > memory:
            _say(large=[name, shape, size])
            return
    _say(stage="loading in ONNX Runtime")
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime's exceptions have no base class
        _say(refused=f"{problem}")
    else:
        _run(session, small)
    _say(done=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
