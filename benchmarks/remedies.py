"""What remedies do for networks that plain calibration hurts, against real pictures.

``python -m benchmarks.remedies [--networks NAME...]`` trains three small networks on the digits that scikit-learn
carries: one of hard swishes and squeeze-and-excitation gates behind global pooling (``gated``, as PP-LCNet), one that
writes embeddings, with streams of several scales behind shared gates (``embedding``, as OSNet and other
re-identification networks), and a plain one of which one channel is made an outlier. Each is calibrated with and
without a floor. 500 digits that nothing was trained on say what was gained: the agreement is that of the classes, or
for embeddings that of the nearest neighbour among the other digits.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from dfq_deploy import Samples, calibrate
from dfq_deploy.evaluation.compare import compare
from dfq_deploy.runtime.runner import Runner
from examples.digits import data

__all__ = ["CASES", "NETWORKS", "Case", "embedding", "export", "gated", "main", "outlier", "plain", "train"]

EPOCHS, BATCH, RATE = 12, 64, 4e-3

OUTLIER = 200.0
"""How many times larger one channel of a layer is made; the layer behind it takes that back."""


class Gate(nn.Module):
    """Squeeze and excitation: channels are scaled by what their means say (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of (N, C, H, W)."""
        means = nn.functional.adaptive_avg_pool2d(x, 1)
        scaled: Tensor = x * nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(means))))
        return scaled


def gated() -> nn.Sequential:
    """Depthwise and pointwise convolutions, hard swishes and gates, as in PP-LCNet."""
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
    for inputs, outputs, stride in ((16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        layers += [depthwise, nn.BatchNorm2d(inputs), nn.Hardswish(), Gate(inputs)]
        layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.Hardswish()]
    head = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(64, 128, 1), nn.Hardswish(), nn.Flatten(), nn.Linear(128, 10))
    return nn.Sequential(*layers, *head)


class Streams(nn.Module):
    """One to three depthwise separable convolutions in a row, each behind one shared gate (Zhou et al. 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(
            nn.Sequential(*(layer for _ in range(depth) for layer in _separable(channels))) for depth in (1, 2, 3)
        )
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """The gated sum of the streams and of ``x``, of the same shape (N, C, H, W)."""
        total = x
        for stream in self.streams:
            found = stream(x)
            means = nn.functional.adaptive_avg_pool2d(found, 1)
            total = total + found * torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))
        return torch.relu(total)


def _separable(channels: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.Conv2d(channels, channels, 3, 1, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


class Normalized(nn.Module):
    """Embeddings of length 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Divide each row of (N, D) by its norm."""
        return nn.functional.normalize(x)


def embedding() -> nn.Sequential:
    """Embeddings of 64 values and length 1, from streams of several scales."""
    layers: list[nn.Module] = [nn.Conv2d(1, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Streams(32)]
    layers += [nn.Conv2d(32, 64, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(2), Streams(64)]
    neck = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), Normalized())
    return nn.Sequential(*layers, *neck)


def trained_embedding() -> nn.Sequential:
    """:func:`embedding`, trained to tell the digits apart by a cosine classifier that is then left out."""
    model = embedding()
    train(nn.Sequential(model, Scaled(64, 10)))
    return model


class Scaled(nn.Linear):
    """Cosines with a vector for each class, times 16."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of embeddings (N, D)."""
        return 16 * nn.functional.linear(x, nn.functional.normalize(self.weight))


def plain() -> nn.Sequential:
    """Four convolutions with BatchNormalization and Relu."""
    layers: list[nn.Module] = []
    for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def train(model: nn.Sequential, epochs: int = EPOCHS) -> nn.Sequential:
    """Train on the 1,297 training digits, shifted by up to two pixels."""
    pictures = data.training()
    images, labels = torch.from_numpy(data.PREPROCESS.apply(pictures.images)), torch.from_numpy(pictures.labels)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(steps // (len(images) // BATCH)):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            index = order[start : start + BATCH]
            shift = tuple(torch.randint(-2, 3, (2,)).tolist())
            loss = nn.functional.cross_entropy(model(images[index].roll(shift, (2, 3))), labels[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval()


def outlier(model: nn.Sequential, factor: float = OUTLIER) -> nn.Sequential:
    """Make one channel of the second layer of :func:`plain` ``factor`` times as large, its readers as much smaller.

    In float the network stays what it was.
    """
    normalization, reader = model[4], model[6]
    assert isinstance(normalization, nn.BatchNorm2d)
    assert isinstance(reader, nn.Conv2d)
    with torch.no_grad():
        normalization.weight[0] *= factor
        normalization.bias[0] *= factor
        reader.weight[:, 0] /= factor
    return model


def export(model: nn.Sequential, file: Path, output: str = "scores") -> Path:
    """Write the network with its BatchNormalization folded, as exporters do by default."""
    axes = {"image": {0: "n"}, output: {0: "n"}}
    torch.onnx.export(
        model, (torch.zeros(1, 1, *data.SIZE),), file, input_names=["image"], output_names=[output],
        dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    return file


NETWORKS: Mapping[str, Callable[[], nn.Sequential]] = {
    "outlier": lambda: outlier(train(plain())),
    "gated": lambda: train(gated()),
    "embedding": trained_embedding,
}
"""Name -> the trained network."""


@dataclass(frozen=True)
class Case:
    """A network and how it is calibrated.

    Args:
        synth, count: the samples; noise, and few of them, are what samples of the wrong kind are like.
        target, bits, floor: of ``calibrate``.
    """

    network: str
    synth: str
    count: int
    target: str = "cpu"
    bits: str | None = None
    floor: str = "ok"


CASES = (
    Case("outlier", "procedural", 64),
    Case("outlier", "procedural", 64, "tensorrt"),
    Case("outlier", "procedural", 64, "qnn"),
    Case("gated", "noise", 16, floor="snr=30"),
    Case("gated", "procedural", 64, bits="w4a8"),
    Case("gated", "procedural", 64),
    Case("embedding", "procedural", 64),
    Case("embedding", "procedural", 64, "tensorrt"),
)


def rows(case: Case, file: Path, held: Samples) -> Iterator[str]:
    """Real agreement without and with the floor, and the steps between."""
    for floor in ("none", case.floor):
        with TemporaryDirectory() as folder:
            result = calibrate(
                file, synth=case.synth, count=case.count, preprocess=data.PREPROCESS, target=case.target,
                bits=case.bits, floor=floor, output=Path(folder) / "out",
            )  # fmt: skip
            model = result.model_path or ""
            found = compare(file, model, held)
            agreement = neighbours_agree(file, model, held) if found.scores is None else found.scores.agreement
        snr = found.outputs[0].snr
        remedies = result.report.remedies
        kept = [step for step in (remedies.to_json()["steps"] if remedies is not None else ()) if step["kept"]]
        steps = "; ".join(f"{step['what']} ({step['slowdown']}x, {step['added_bytes']:+} bytes)" for step in kept)
        said = "" if remedies is None else remedies.to_json()["said"]
        level = result.report.verdict.status if result.report.verdict else ""
        yield f"| {case} | {floor} | {agreement:.1f} | {snr:.1f} | {level} | {steps} | {said} |"


def neighbours_agree(file: Path, quantized: str | Path, held: Samples) -> float:
    """Percent of the pictures whose nearest neighbour among the others is of the same class by both files."""
    if held.labels is None:
        raise ValueError("the classes of the pictures are needed")
    classes = []
    for path in (file, quantized):
        rows = np.asarray(Runner(path).run(Samples(held.images))[0])
        near = rows @ rows.T
        np.fill_diagonal(near, -np.inf)
        classes.append(held.labels[near.argmax(axis=1)])
    return 100 * float((classes[0] == classes[1]).mean())


def main() -> None:
    """Train, calibrate, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    wanted = parser.parse_args().networks
    torch.set_num_threads(1)
    held = Samples(data.PREPROCESS.apply(data.held_out().images), data.held_out().labels)
    with TemporaryDirectory() as folder:
        print("| case | floor | real agreement (%) | SNR (dB) | verdict | kept | end |\n|---|---|---|---|---|---|---|")
        for name in wanted:
            torch.manual_seed(0)
            output = "embedding" if name == "embedding" else "scores"
            file = export(NETWORKS[name](), Path(folder) / f"{name}.onnx", output)
            for case in (case for case in CASES if case.network == name):
                for row in rows(case, file, held):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
