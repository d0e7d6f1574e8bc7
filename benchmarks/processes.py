"""``finetune`` on one, two and four processes of this machine, and on two hosts, as a table.

usage: python -m benchmarks.processes [--counts 1,2,4] [--hosts]

The samples are made once and sent to all, so that they must be the same bytes. The networks differ: each process trains
on batches of its own, so that more processes take fewer steps of larger batches. The table has a hash of the samples
and of the trained network, and its agreement and signal to noise against float on the held-out samples.

``--hosts`` also runs two processes in two network namespaces (Linux, as root), which share no address: two hosts with a
cable between them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COMMAND = (
    *("-m", "dfq_deploy", "finetune", str(ROOT / "examples/digits/digits_bn.onnx"), "--synth", "zeroq"),
    *("--option", "iterations=24", "--option", "batch=32", "--bits", "w8a8", "--refine", "none"),
    *("--samples", "64", "--epochs", "8", "--quiet"),
)

HOSTS = """
set -e
ip link set lo up
unshare -n sleep 600 & other=$!
sleep 1
ip link add cable type veth peer name cable netns $other
ip address add 10.77.0.1/24 dev cable && ip link set cable up
nsenter -n -t $other sh -c 'ip link set lo up; ip address add 10.77.0.2/24 dev cable; ip link set cable up'
export GLOO_SOCKET_IFNAME=cable MASTER_ADDR=10.77.0.1 MASTER_PORT=29555 WORLD_SIZE=2
RANK=1 nsenter -n -t $other "$@" >/dev/null & second=$!
status=0
RANK=0 "$@" || status=$?
wait $second || true
kill $other
exit $status
"""
"""Two namespaces with a cable between them; the arguments are the command of both processes."""


def run(label: str, command: list[str], folder: Path) -> str:
    """Run a training that writes to ``folder``; a row of the table."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not (folder / "report.json").is_file():
        raise RuntimeError(f"{label}: {done.stderr[-500:]}")
    comparison = json.loads((folder / "report.json").read_text(encoding="utf-8"))["comparison"]
    digests = [sha256((folder / name).read_bytes()).hexdigest()[:12] for name in ("samples.npz", "model.qdq.onnx")]
    figures = f"{comparison['agreement']:.1f} % | {comparison['outputs'][0]['snr_db']:.1f} dB"
    return f"| {label} | {' | '.join(digests)} | {figures} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--counts", default="1,2,4")
    parser.add_argument("--hosts", action="store_true", help="also two network namespaces; needs root")
    args = parser.parse_args()
    print("| processes | samples | network | agreement | signal to noise |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for count in args.counts.split(","):
            folder = Path(temporary) / count
            start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count]
            print(run(count, [*start, *COMMAND, "-o", str(folder)], folder), flush=True)
        if args.hosts:
            folder = Path(temporary) / "hosts"
            start = ["unshare", "-n", "bash", "-c", HOSTS, "hosts", sys.executable]
            print(run("2 hosts", [*start, *COMMAND, "-o", str(folder)], folder), flush=True)


if __name__ == "__main__":
    main()
