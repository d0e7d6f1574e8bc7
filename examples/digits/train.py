"""Train the example's network and export it twice: with its BatchNormalization, and folded.

``python -m examples.digits.train`` takes half a minute on one core and writes ``digits_bn.onnx``
and ``digits.onnx`` beside this file.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.onnx import TrainingMode

from dfq_deploy.files.atomic import atomic_file
from examples.digits import data
from examples.digits.network import DigitNet

__all__ = ["accuracy", "batches", "export", "main", "train"]

EPOCHS = 40
BATCH = 64
RATE = 0.1
SHIFT = 1
"""A training picture is moved by so many pixels at most."""


def _inputs(pictures: data.Pictures) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(data.PREPROCESS.apply(pictures.images)), torch.from_numpy(pictures.labels)


def batches(pictures: data.Pictures, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Shuffled batches, each moved by up to SHIFT pixels; what comes in from the side is black."""
    images, labels = _inputs(pictures)
    black = float(data.PREPROCESS.bounds(1)[0][0])
    padded = functional.pad(images, (SHIFT,) * 4, value=black)
    height, width = images.shape[2:]
    # The ragged last batch is left out: BatchNormalization learns little from a handful of pictures.
    order = torch.randperm(len(images), generator=generator)
    for chosen in order[: len(images) // BATCH * BATCH].reshape(-1, BATCH):
        top, left = torch.randint(0, 2 * SHIFT + 1, (2,), generator=generator).tolist()
        yield padded[chosen, :, top : top + height, left : left + width], labels[chosen]


def train(pictures: data.Pictures, epochs: int = EPOCHS, seed: int = 0) -> tuple[DigitNet, list[float]]:
    """Train a fresh network; the same seed gives the same weights on the same machine.

    Returns:
        the network in evaluation mode, and the mean cross-entropy of each epoch, in nats.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # torch's layers draw their first weights from the global generator
        network = DigitNet()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * (len(pictures.images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
    means = []
    for _ in range(epochs):
        losses = []
        for images, labels in batches(pictures, generator):
            loss = functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    return network.eval(), means


def accuracy(network: nn.Module, pictures: data.Pictures) -> float:
    """Top-1 in percent."""
    images, labels = _inputs(pictures)
    with torch.no_grad():
        return 100 * float((network(images).argmax(1) == labels).double().mean())


def export(network: DigitNet, path: Path, keep_normalization: bool) -> None:
    """Write ``network`` as ONNX with an open batch; BatchNormalization is kept, or folded as is the default."""
    with warnings.catch_warnings(), atomic_file(path) as partial:
        # The newer exporter folds BatchNormalization unless all of its clean-up is switched off too.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 1, *data.SIZE),),
            partial,
            dynamo=False,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
            training=TrainingMode.PRESERVE if keep_normalization else TrainingMode.EVAL,
            do_constant_folding=not keep_normalization,
        )


def main(folder: Path) -> None:
    """Train and write both files into ``folder``."""
    torch.set_num_threads(
        1
    )  # as fast as more for so small a network, and sums then do not depend on the machine's cores
    network, losses = train(data.training())
    print(f"cross-entropy {losses[-1]:.4f} after {len(losses)} epochs")
    print(f"top-1 on {data.HELD_OUT} held-out digits: {accuracy(network, data.held_out()):.2f} %")
    for name, keep in (("digits_bn.onnx", True), ("digits.onnx", False)):
        export(network, folder / name, keep)
        print(folder / name)


if __name__ == "__main__":
    main(Path(__file__).parent)
