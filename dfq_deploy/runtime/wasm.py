"""Time two models in WebAssembly, with Node and onnxruntime-web, where they are installed."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from dfq_deploy.errors import PluginError, first_line
from dfq_deploy.graph.inputs import Feeds

__all__ = ["times_in_wasm", "web_version"]

VERSION = """
const fs = require('fs'), path = require('path');
let folder = path.dirname(require.resolve('onnxruntime-web'));
while (!fs.existsSync(path.join(folder, 'package.json'))) folder = path.dirname(folder);
console.log(JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf-8')).version);
"""

TIMING = """
const fs = require('fs'), path = require('path'), ort = require('onnxruntime-web');
const folder = process.argv[1];
const request = JSON.parse(fs.readFileSync(path.join(folder, 'request.json'), 'utf-8'));
const arrays = {
  float32: Float32Array, int64: BigInt64Array, int32: Int32Array, uint8: Uint8Array, int8: Int8Array, bool: Uint8Array,
};
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';
(async () => {
  const feeds = {};
  for (const [name, input] of Object.entries(request.feeds)) {
    const bytes = new Uint8Array(fs.readFileSync(path.join(folder, input.file)));
    feeds[name] = new ort.Tensor(input.type, new arrays[input.type](bytes.buffer), input.dims);
  }
  const sessions = [];
  for (const model of request.models) sessions.push(await ort.InferenceSession.create(fs.readFileSync(model)));
  for (const session of sessions) await session.run(feeds);
  const seconds = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; };
  const times = [], started = performance.now();
  while (times.length < request.fewest || performance.now() - started < 1000 * request.seconds) {
    const pair = [0, 0];
    for (const index of times.length % 2 ? [0, 1] : [1, 0]) {
      const before = seconds();
      await sessions[index].run(feeds);
      pair[index] = seconds() - before;
    }
    times.push(pair);
  }
  fs.writeFileSync(path.join(folder, 'answer.json'), JSON.stringify(times));
})().catch((problem) => { console.error(problem.message); process.exit(1); });
"""


@lru_cache(maxsize=1)
def web_version() -> str:
    """Return the version of onnxruntime-web that Node finds from the working folder; empty if there is none."""
    node = shutil.which("node")
    if node is None:
        return ""
    ended = subprocess.run([node, "-e", VERSION], capture_output=True, text=True, check=False)
    return ended.stdout.strip() if ended.returncode == 0 else ""


def times_in_wasm(models: Sequence[Path], feeds: Feeds, *, seconds: float, fewest: int = 5) -> list[list[float]]:
    """Run two model files in turn on one thread of WebAssembly.

    Args:
        feeds: input name -> array, the same for both.
        seconds: about how long, without loading.
        fewest: least number of pairs of runs.

    Returns:
        pairs of seconds of CPU time, one for each model: other work on the machine does not count.

    Raises:
        PluginError: onnxruntime-web cannot run one of them.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        inputs = {}
        for index, (key, array) in enumerate(feeds.items()):
            file = f"{index}.bin"
            np.ascontiguousarray(array).tofile(folder / file)
            inputs[key] = {"file": file, "type": array.dtype.name, "dims": list(array.shape)}
        paths = [str(model.resolve()) for model in models]
        request = {"models": paths, "feeds": inputs, "seconds": seconds, "fewest": fewest}
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        command = [shutil.which("node") or "node", "-e", TIMING, str(folder)]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        answer = folder / "answer.json"
        if ended.returncode or not answer.exists():
            reason = first_line((ended.stderr.strip().splitlines() or ["no message"])[-1])
            raise PluginError(f"onnxruntime-web {web_version()} cannot run the model in Node: {reason}")
        times: list[list[float]] = json.loads(answer.read_text(encoding="utf-8"))
        return times
