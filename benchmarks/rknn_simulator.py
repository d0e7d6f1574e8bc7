"""The simulator of RKNN-Toolkit2 against ONNX Runtime, on the same file and samples.

usage: PYTHON_WITH_RKNN benchmarks/rknn_simulator.py MODEL.qdq.onnx SAMPLES.npz [--platform rk3588] [--count N]

It runs in the environment of RKNN-Toolkit2, whose NumPy, onnx and torch are older than those of this project: it
imports nothing of this project. The first input of the model takes float32 samples (N, C, H, W).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main() -> None:
    """Build for a platform, run the samples, and print the agreement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--platform", default="rk3588")
    parser.add_argument("--count", type=int, default=64)
    args = parser.parse_args()
    from rknn.api import RKNN

    images = np.load(args.samples)["images"][: args.count].astype(np.float32)
    session = ort.InferenceSession(str(args.model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    expected = np.concatenate([session.run(None, {name: image[None]})[0] for image in images])
    rknn = RKNN(verbose=False)
    rknn.config(target_platform=args.platform)
    for step in (
        lambda: rknn.load_onnx(model=str(args.model)),
        lambda: rknn.build(do_quantization=False),
        rknn.init_runtime,
    ):
        if step() != 0:
            sys.exit(f"RKNN-Toolkit2 refuses {args.model} for {args.platform}")
    found = np.concatenate([rknn.inference(inputs=[image[None]], data_format=["nchw"])[0] for image in images])
    noise = np.square(expected - found).mean()
    snr = 10 * np.log10(np.square(expected).mean() / noise) if noise else np.inf
    same = 100 * (expected.argmax(-1) == found.argmax(-1)).mean()
    print(f"{args.platform}: {len(images)} samples, the same class in {same:.1f} %, {snr:.1f} dB")
    rknn.release()


if __name__ == "__main__":
    main()
