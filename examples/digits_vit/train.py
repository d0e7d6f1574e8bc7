"""Train the small transformer on the digits and export it.

``python -m examples.digits_vit.train`` takes a minute or two on one core and writes ``digits_vit.onnx`` beside this
file.
"""

import warnings
from pathlib import Path

import torch
from torch.nn import functional

from dfq_deploy.files.atomic import atomic_file
from examples.digits import data
from examples.digits.train import accuracy, batches
from examples.digits_vit.network import DigitTransformer

__all__ = ["export", "main", "train"]

EPOCHS = 60
RATE = 4e-3


def train(pictures: data.Pictures, epochs: int = EPOCHS, seed: int = 0) -> tuple[DigitTransformer, list[float]]:
    """Train a fresh network; the same seed gives the same weights on the same machine.

    Returns:
        the network in evaluation mode, and the mean cross-entropy of each epoch, in nats.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # torch's layers draw their first weights from the global generator
        network = DigitTransformer()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    steps = epochs * sum(1 for _ in batches(pictures, torch.Generator()))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps, pct_start=0.2)
    means = []
    for _ in range(epochs):
        losses = []
        for images, labels in batches(pictures, generator):
            loss = functional.cross_entropy(network(images), labels, label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    return network.eval(), means


def export(network: DigitTransformer, path: Path) -> None:
    """Write ``network`` as ONNX with an open batch."""
    with warnings.catch_warnings(), atomic_file(path) as partial:
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 1, *data.SIZE),),
            partial,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
        )


def main(folder: Path) -> None:
    """Train and write the file into ``folder``."""
    torch.set_num_threads(1)  # as fast as more for so small a network, and sums do not depend on the machine's cores
    network, losses = train(data.training())
    print(f"cross-entropy {losses[-1]:.4f} after {len(losses)} epochs")
    print(f"top-1 on {data.HELD_OUT} held-out digits: {accuracy(network, data.held_out()):.2f} %")
    export(network, folder / "digits_vit.onnx")
    print(folder / "digits_vit.onnx")


if __name__ == "__main__":
    main(Path(__file__).parent)
