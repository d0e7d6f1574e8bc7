"""Run a file in each runtime that is installed here, one picture a run, for the table of benchmarks.runtimes."""

import importlib.util
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
from dfq_deploy.exporters.qnn import open_session
from numpy.typing import NDArray

from dfq_deploy.runtime.litert.interpreter import LiteRtModel

__all__ = ["Run", "find_spec", "in_litert", "in_onnx_runtime", "in_openvino", "in_qnn", "in_wasm"]

Pictures = NDArray[np.float32]

Run = Callable[[Pictures], NDArray[np.float32]]

WASM = """
const fs = require('fs'), path = require('path'), ort = require('onnxruntime-web');
const [model, folder, shape] = [process.argv[1], process.argv[2], JSON.parse(process.argv[3])];
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';
(async () => {
  const session = await ort.InferenceSession.create(fs.readFileSync(model));
  const bytes = new Uint8Array(fs.readFileSync(path.join(folder, 'in.bin')));
  const [count, ...sample] = shape, pictures = new Float32Array(bytes.buffer), scores = [];
  const size = pictures.length / count;
  for (let index = 0; index < count; index += 1) {
    const picture = new ort.Tensor('float32', pictures.slice(index * size, (index + 1) * size), [1, ...sample]);
    const outputs = await session.run({ [session.inputNames[0]]: picture });
    scores.push(Array.from(outputs[session.outputNames[0]].data));
  }
  fs.writeFileSync(path.join(folder, 'out.json'), JSON.stringify(scores));
})().catch((problem) => { console.error(problem.message); process.exit(1); });
"""


def find_spec(name: str) -> bool:
    """True where the package is installed."""
    return importlib.util.find_spec(name) is not None


def in_onnx_runtime(path: Path) -> Run:
    """The file in ONNX Runtime's CPU provider, one picture a run."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda picture: np.asarray(session.run(None, {name: picture})[0])


def in_openvino(path: Path) -> Run:
    """The file in OpenVINO's CPU plug-in, one picture a run."""
    import openvino

    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": 1})
    return lambda picture: np.asarray(compiled(picture)[0])


def in_qnn(path: Path) -> Run:
    """The file on the simulator of Qualcomm's NPU, no node of it on the CPU; one picture a run."""
    session = open_session(path)
    name = session.get_inputs()[0].name
    return lambda picture: np.asarray(session.run(None, {name: picture})[0])


def in_litert(source: Path | bytes) -> Run:
    """A .tflite file in LiteRT, one picture a run."""
    model = LiteRtModel(source)
    name = model.inputs[0].name
    return lambda picture: next(iter(model.run({name: picture}).values()))


def in_wasm(path: Path, pictures: Pictures) -> NDArray[np.float32]:
    """The scores of ONNX Runtime Web in Node, one picture after another.

    Raises:
        RuntimeError: it cannot run the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        np.ascontiguousarray(pictures, np.float32).tofile(Path(folder) / "in.bin")
        command = [shutil.which("node") or "node", "-e", WASM, str(path.resolve()), folder, json.dumps(pictures.shape)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RuntimeError(f"onnxruntime-web cannot run {path.name}: {ended.stderr.strip()}")
        return np.asarray(json.loads((Path(folder) / "out.json").read_text(encoding="utf-8")), np.float32)
