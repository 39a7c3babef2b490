"""Fast convolutions return what the direct one returns, and are left out where they do not apply."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from models import fast_conv
from models.blocks import UpBlock
from models.dinet import DINet
from models.fast_conv import FastConv2d, FourierConv, NnpackConv, WinogradConv, winograd_matrices
from models.inference_form import PolyphaseUpBlock, assume_masked, optimize_for_inference

SHAPES = [
    # cin, cout, kernel, padding, height, width, batch
    (16, 8, 3, 1, 13, 17, 2),
    (5, 7, 3, 0, 9, 8, 1),
    (8, 40, 3, 1, 52, 40, 1),
    (4, 12, 11, 5, 50, 33, 2),
    (3, 8, 7, 3, 20, 21, 1),
    (6, 6, 5, 0, 31, 14, 2),
]


@pytest.fixture(autouse=True)
def forget_choices(monkeypatch):
    monkeypatch.setattr(fast_conv, "_choices", {})


def convolution(cin, cout, kernel, padding, height, width, batch, **named):
    torch.manual_seed(cin + height)
    return nn.Conv2d(cin, cout, kernel, padding=padding, **named).requires_grad_(False), torch.randn(
        batch, cin, height, width
    )


def relative_error(result, expected):
    assert result.shape == expected.shape
    return ((result - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_algorithm_returns_the_direct_result(shape, bias):
    conv, x = convolution(*shape, bias=bias)
    algorithms = [FourierConv(conv), WinogradConv(conv) if shape[2] == 3 else FourierConv(conv)]
    if fast_conv.is_nnpack_available():
        algorithms.append(NnpackConv(conv))
    with torch.inference_mode():
        for algorithm in (*algorithms, FastConv2d(conv)):
            assert relative_error(algorithm(x), conv(x)) < 2e-5


@pytest.mark.parametrize("outputs", [2, 4, 6])
@pytest.mark.parametrize("kernel", [2, 3])
def test_winograd_matrices_correlate(outputs, kernel):
    transform, kernels, inputs = winograd_matrices(outputs, kernel)
    signal = torch.randn(outputs + kernel - 1, dtype=torch.float64)
    taps = torch.randn(kernel, dtype=torch.float64)
    expected = F.conv1d(signal[None, None], taps[None, None])[0, 0]
    assert torch.allclose(transform @ ((kernels @ taps) * (inputs @ signal)), expected, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 8, 13, 10), (2, 8, 26, 20)])
def test_a_fast_up_block_gives_the_upsampled_convolution(shape):
    torch.manual_seed(0)
    block = UpBlock(8, 12, norm=False).requires_grad_(False)
    x = torch.randn(shape)
    with torch.inference_mode():
        assert relative_error(PolyphaseUpBlock(block, fast=True)(x), block(x)) < 2e-5
        assert relative_error(PolyphaseUpBlock(block)(x), block(x)) < 2e-5


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (104, 80, slice(32, 96), slice(8, 72)),
        (208, 160, slice(64, 192), slice(16, 144)),
        (52, 40, slice(16, 48), slice(4, 36)),
        (52, 40, slice(16, 28), slice(4, 36)),  # no feature sees the mask alone
        (64, 64, slice(0, 64), slice(0, 40)),
    ],
)
def test_a_masked_encoder_returns_the_features_of_the_whole_image(height, width, rows, columns):
    torch.manual_seed(0)
    network = optimize_for_inference(DINet(audio_channel=29, feature_channel=16), torch.device("cpu"), torch.float32)
    whole = network.source_in_conv
    assume_masked(network, rows, columns)
    with torch.inference_mode():
        for batch in (1, 2, 1):
            x = torch.rand(batch, 3, height, width)
            x[:, :, rows, columns] = 0
            assert relative_error(network.source_in_conv(x), whole(x)) < 2e-5


@pytest.mark.parametrize("wrong", ["numbers", "nan", "shape", "error"])
def test_an_algorithm_that_returns_something_else_is_not_used(monkeypatch, wrong):
    conv, x = convolution(*SHAPES[0])

    class Wrong:
        def __init__(self, conv):
            self.conv = conv

        def __call__(self, x):
            if wrong == "error":
                raise RuntimeError("not on this processor")
            result = self.conv(x)
            if wrong == "shape":
                return result[..., 1:]
            result[0, 0, 3, 3] = float("nan") if wrong == "nan" else 1.01 * result.abs().max()
            return result

    monkeypatch.setattr(fast_conv, "is_nnpack_available", lambda: True)
    monkeypatch.setattr(fast_conv, "NnpackConv", Wrong)
    monkeypatch.setattr(fast_conv, "WinogradConv", Wrong)
    monkeypatch.setattr(FastConv2d, "_direct_seconds", lambda self, x: 1e9)
    with torch.inference_mode():
        assert torch.equal(FastConv2d(conv)(x), conv(x))
    assert list(fast_conv._choices.values()) == ["direct"]


def test_without_nnpack_another_algorithm_is_used(monkeypatch):
    conv, x = convolution(*SHAPES[0])
    monkeypatch.setattr(fast_conv, "is_nnpack_available", lambda: False)
    monkeypatch.setattr(FastConv2d, "_direct_seconds", lambda self, x: 1e9)
    with torch.inference_mode():
        assert relative_error(FastConv2d(conv)(x), conv(x)) < 2e-5
    assert list(fast_conv._choices.values()) == ["winograd"]


def test_the_choice_holds_for_every_layer_of_the_shape(monkeypatch):
    conv, x = convolution(*SHAPES[0])
    timed = []
    monkeypatch.setattr(FastConv2d, "_direct_seconds", lambda self, x: timed.append(x) or 1e9)
    with torch.inference_mode():
        for _ in range(2):
            fast = FastConv2d(conv)
            assert torch.equal(fast(x), fast(x))
    assert len(timed) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_number_formats_use_the_direct_algorithm(dtype):
    conv, x = convolution(*SHAPES[0])
    conv, x = conv.to(dtype), x.to(dtype)
    with torch.inference_mode():
        assert torch.equal(FastConv2d(conv)(x), conv(x))
    assert not fast_conv._choices


def test_gradients_flow_through_the_direct_algorithm():
    conv, x = convolution(*SHAPES[0])
    x.requires_grad_(True)
    FastConv2d(conv)(x).sum().backward()
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, stride=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, (3, 5)),
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_layers_of_another_kind_are_refused(conv):
    assert not fast_conv.can_be_fast(conv)
    with pytest.raises(ValueError, match="has no fast form"):
        FastConv2d(conv)
