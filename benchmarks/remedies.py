"""What remedies do for networks that plain calibration hurts, against real pictures.

``python -m benchmarks.remedies`` trains two small networks on the digits that scikit-learn carries: one of hard swishes
and squeeze-and-excitation gates behind global pooling, and the same with an outlier channel in one layer. Each is
calibrated with and without a floor; the agreement on 500 digits that nothing was trained on says what was gained.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from dfq_deploy import Samples, calibrate
from dfq_deploy.evaluation.compare import compare
from examples.digits import data

__all__ = ["Gated", "main", "train", "with_outlier"]

EPOCHS, BATCH, RATE = 12, 64, 4e-3

OUTLIER = 40.0
"""How many times larger one channel of a layer is made; the layer behind it takes that back."""


class Gate(nn.Module):
    """Squeeze and excitation: channels are scaled by what their means say (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = nn.functional.adaptive_avg_pool2d(x, 1)
        scaled: Tensor = x * nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(means))))
        return scaled


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """As in PP-LCNet: a depthwise and a pointwise convolution, hard swishes, a gate between."""
    depthwise = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
    return nn.Sequential(
        *(depthwise, nn.BatchNorm2d(inputs), nn.Hardswish(), Gate(inputs)),
        *(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.Hardswish()),
    )


class Gated(nn.Sequential):
    """A classifier of digits, 16x16 pixels."""

    def __init__(self) -> None:
        stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        body = (_block(16, 32, 2), _block(32, 32, 1), _block(32, 64, 2), _block(64, 64, 1))
        head = (nn.AdaptiveAvgPool2d(1), nn.Conv2d(64, 128, 1), nn.Hardswish(), nn.Flatten(), nn.Linear(128, 10))
        super().__init__(stem, *body, *head)


def train(seed: int = 0) -> Gated:
    """Train on the 1,297 training digits, shifted by up to two pixels."""
    torch.manual_seed(seed)
    model, pictures = Gated(), data.training()
    images, labels = torch.from_numpy(data.PREPROCESS.apply(pictures.images)), torch.from_numpy(pictures.labels)
    steps = EPOCHS * (len(images) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    for _ in range(EPOCHS):
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


class Plain(nn.Sequential):
    """The same without gates and hard swishes: convolutions and Relu, the first layers of which an outlier fits."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def with_outlier(model: nn.Sequential, factor: float = OUTLIER) -> nn.Sequential:
    """Make one channel of the second layer's output ``factor`` times as large, and its readers as much smaller."""
    normalization, reader = model[4], model[6]
    assert isinstance(normalization, nn.BatchNorm2d) and isinstance(reader, nn.Conv2d)
    with torch.no_grad():
        normalization.weight[0] *= factor
        normalization.bias[0] *= factor
        reader.weight[:, 0] /= factor
    return model


def main() -> None:
    """Print a table."""
    held = Samples(data.PREPROCESS.apply(data.held_out().images), data.held_out().labels)
    torch.set_num_threads(1)
    network = train()
    with TemporaryDirectory() as folder, torch.no_grad():
        file = Path(folder) / "gated.onnx"
        torch.onnx.export(
            network,
            (torch.zeros(1, 1, 16, 16),),
            file,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "n"}, "scores": {0: "n"}},
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
        for synth in sys.argv[1:] or ("procedural",):
            for floor in ("none", "ok", "agreement=99"):
                result = calibrate(
                    file,
                    synth=synth,
                    count=128,
                    preprocess=data.PREPROCESS,
                    floor=floor,
                    output=Path(folder) / f"{synth}-{floor}",
                )
                figures = compare(file, result.model_path or "", held).to_json()
                print(
                    synth,
                    floor,
                    {key: figures[key] for key in ("agreement", "float_top1", "quantized_top1")},
                    result.report.verdict,
                )
                found = result.report.remedies
                for step in () if found is None else found.steps:
                    print("   ", step)
                print("   ", found and (found.first, found.last, found.said))


if __name__ == "__main__":
    main()
