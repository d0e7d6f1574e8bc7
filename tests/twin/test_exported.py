"""Networks as torch's exporter writes them, against ONNX Runtime: one small net for each family."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from dfq_deploy.graph.loading import load
from dfq_deploy.twin import Twin


class MobileBlock(nn.Module):
    """MobileNet v3 and EfficientNet: depthwise convolution, squeeze and excitation, hard and soft swish."""

    def __init__(self) -> None:
        super().__init__()
        self.expand, self.norm = nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8)
        self.squeeze, self.excite, self.project = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.expand(x)))
        x = F.silu(self.depthwise(x))
        gate = F.hardsigmoid(self.excite(F.relu6(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        return torch.flatten(F.adaptive_avg_pool2d(self.project(x * gate), 1), 1)


class ShuffleBlock(nn.Module):
    """ShuffleNet: channel split and shuffle; Inception: pooling branches; DenseNet: growing concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, (1, 3), padding=(0, 1))
        self.dense, self.head = nn.Conv2d(8, 4, 3, padding=1), nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.first(x).chunk(2, 1)
        y = torch.cat([left, F.relu(self.second(right))], 1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        pooled = [F.max_pool2d(y, 3, 2, ceil_mode=True), F.avg_pool2d(y, 3, 2, 1, count_include_pad=False)]
        y = torch.cat([pooled[0][..., :8, :8], pooled[1]], 1)
        y = torch.cat([y, F.elu(self.dense(y[:, :8]))], 1)
        return F.log_softmax(self.head(y.mean((2, 3))), 1)


class Segmenter(nn.Module):
    """Encoder and decoder: transposed convolution, resizing to another tensor's size, pixel shuffle, padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.slope = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(4, 8), nn.PReLU(8)
        self.down, self.up = nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 8, 2, 2)
        self.out = nn.InstanceNorm2d(4, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        a = self.slope(self.norm(self.first(x)))
        b = F.gelu(self.down(a))
        c = F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False) + self.up(b)
        c = F.leaky_relu(F.interpolate(b, scale_factor=2.0, mode="nearest")) + F.pad(c, (1, -1, 0, 0), mode="replicate")
        result: Tensor = self.out(F.pixel_shuffle(torch.cat([a, c], 1), 2))
        return result


class Recogniser(nn.Module):
    """Audio: 1-D convolution, gated units, LSTM in both directions, GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(3, 16, 5, stride=2)
        self.lstm = nn.LSTM(8, 6, 2, bidirectional=True, batch_first=True)
        self.gru, self.head = nn.GRU(12, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.glu(self.front(x.flatten(2)[..., :40]), 1).transpose(1, 2)
        y = self.gru(self.lstm(y)[0])[0]
        result: Tensor = self.head(y.mean(1))
        return result


class Encoder(nn.Module):
    """Vision transformer: patches, class token, position embedding, attention by hand, layer normalization."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 4, stride=4), nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Embedding(32, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu", norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(y.shape[0], -1, -1), y], 1)
        y = y + self.positions(torch.arange(y.shape[1]))
        result: Tensor = self.layers(y)[:, 0]
        return result


NETWORKS = (MobileBlock, ShuffleBlock, Segmenter, Recogniser, Encoder)


@pytest.fixture(autouse=True)
def _plain_attention() -> Iterator[None]:
    """The exporter has no operator for torch's fused encoder layer."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def _exported(network: nn.Module, x: Tensor, opset: int, path: Path) -> onnx.ModelProto:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    keep = torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        network.eval(), (x,), path, dynamo=False, opset_version=opset, training=keep, input_names=["x"],
        dynamic_axes={"x": {0: "n"}},
    )  # fmt: skip
    return onnx.load(path)


@pytest.mark.filterwarnings("ignore")  # the exporter's own
@pytest.mark.parametrize("opset", [14, 18])
@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_equal_those_of_onnx_runtime(network: type[nn.Module], opset: int, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.randn(3, 3, 16, 16)
        model = _exported(network(), x[:2], opset, tmp_path / "model.onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    expected = ort.InferenceSession(model.SerializeToString(), options).run(None, {"x": x.numpy()})[0]
    for twin in (Twin.from_model(ir.from_proto(model)), Twin.from_model(load(model))):
        assert any(parameter.shape for parameter in twin.parameters())
        result = twin(x)
        assert isinstance(result, Tensor)
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-4, atol=1e-5)
        # no value is read to find a shape: the meta device has none
        assert twin.to("meta")(x.to("meta")).shape == result.shape
