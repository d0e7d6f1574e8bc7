"""Sony's Model Compression Toolkit: the samples that it makes from a torch module, and its own quantizer on them.

usage: python -m benchmarks.mct ZOO_CACHE [--zoo FOLDER] [--models NAME...] [--seeds N...] [--cache FOLDER]

MCT matches the statistics of BatchNormalization, as DeepInversion does, but takes torch modules alone: the networks are
built from the files that ``benchmarks.build_zoo --cache ZOO_CACHE`` has brought. 256 samples of each are made with its
default schedule and written to --cache, where ``benchmarks.methods --methods mct`` finds them: that table tells what
our pipeline and ONNX Runtime's quantizer make of them. What is printed here is MCT's own post-training quantization at
W8A8 with its default platform, measured in torch on all test images.

MCT (2.6.1) needs older packages than we do, and torchvision: run this in an environment of its own, with
``pip install model-compression-toolkit torchvision``. Of torchvision it needs transforms alone, so any build will do.
"""

import argparse
import importlib
import json
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.build_zoo import ENTRIES, loaded, networks
from benchmarks.zoo import DEFAULT_ZOO, ZooModel, models
from dfq_deploy import Samples

COUNT = 256
BATCH = 250
SIDE = 32
NAME = "mct"
"""Of the row in benchmarks.methods."""


def toolkit() -> Any:
    """MCT; torchvision without its compiled operators, which a build for another torch does not have."""
    sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    return importlib.import_module("model_compression_toolkit")


def drawn(mct: Any, module: nn.Module, seed: int) -> NDArray[np.float32]:
    """256 samples (256, 3, 32, 32) by MCT's defaults."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    config = mct.data_generation.get_pytorch_data_generation_config()
    made = mct.data_generation.pytorch_data_generation_experimental(
        model=module, n_images=COUNT, output_image_size=SIDE, data_generation_config=config
    )
    images = torch.cat([image.detach().reshape(-1, 3, SIDE, SIDE) for image in made])
    return images.float().cpu().numpy()


def quantized(mct: Any, module: nn.Module, images: NDArray[np.float32]) -> nn.Module:
    """What MCT's post-training quantization makes of ``module``, with its defaults."""

    def feeds() -> Iterator[list[Tensor]]:
        for start in range(0, len(images), 32):
            yield [torch.from_numpy(images[start : start + 32])]

    made, _ = mct.ptq.pytorch_post_training_quantization(module, feeds)
    found: nn.Module = made.eval()
    return found


@torch.no_grad()
def top1(module: nn.Module, model: ZooModel) -> float:
    """Percent of the test images whose class is right."""
    samples = model.images(model.evaluation[0])
    batches = torch.split(torch.from_numpy(samples.images), BATCH)
    classes = np.concatenate([module(batch).argmax(dim=1).cpu().numpy() for batch in batches])
    return 100 * float(np.mean(classes == samples.labels))


def main() -> None:
    """Make the samples, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("zoo_cache", type=Path)
    parser.add_argument("--zoo", type=Path, default=DEFAULT_ZOO)
    parser.add_argument("--models", nargs="*", default=["resnet20", "resnet20_kd", "wrn16_1_kd"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--cache", type=Path, default=Path("methods-cache"))
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    mct, known = toolkit(), dict(networks())
    print("| network | seed | CPU s of the samples | float, torch | MCT's quantizer, W8A8 | drop |")
    print("|---|---|---:|---:|---:|---:|", flush=True)
    for model in models(args.zoo, args.models):
        module = loaded(known[ENTRIES[model.name][0]], args.zoo_cache)
        before = top1(module, model)
        for seed in args.seeds:
            stem = args.cache / f"{model.name}-{NAME}-{COUNT}-{seed}"
            if not stem.with_suffix(".json").exists():
                started = time.process_time()
                try:
                    images = drawn(mct, module, seed)
                except torch.fx.proxy.TraceError as problem:
                    print(f"| {model.name} | | | | left out, torch.fx cannot trace it: {problem} | |", flush=True)
                    break
                seconds = time.process_time() - started
                Samples(images, method=NAME).save(stem.with_suffix(".npz"))
                stem.with_suffix(".json").write_text(json.dumps({"seconds": seconds, "figures": {}}))
            facts = json.loads(stem.with_suffix(".json").read_text())
            after = top1(quantized(mct, module, Samples.load(stem.with_suffix(".npz")).images), model)
            figures = f"{facts['seconds']:.0f} | {before:.2f} | {after:.2f} | {before - after:.2f}"
            print(f"| {model.name} | {seed} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
