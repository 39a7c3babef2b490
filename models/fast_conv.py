"""Convolutions that need fewer multiplications than the direct one, for inference in float32 on a processor.

Which way is quickest depends on the layer, the picture's size and the processor. `FastConv2d` times them on the first
input of each shape, compares the quickest with the direct result, and remembers the choice for the process.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from fractions import Fraction
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import nn

logger = logging.getLogger(__name__)

KINDS = ("nnpack", "winograd", "fourier")
"""Ways other than the direct one."""
TOLERANCE = 1e-4
"""Largest difference from the direct result that is accepted, as a share of the largest magnitude in it."""
MAX_NNPACK_KERNEL = 16
MAX_WINOGRAD_KERNEL = 3
WINOGRAD_OUTPUTS = 4
"""Side of the output tiles of `WinogradConv`."""
FOURIER_SIDES = (16, 24, 32, 48, 64)
"""Sides of the input tiles that `FourierConv` chooses from."""
MIN_FOURIER_KERNEL = 5

_CHECKED_CHANNELS = 8
_CLEAR_GAIN = 0.9
"""A way takes the place of an earlier one if its time is below this share: so that two runs choose the same."""

Way = Callable[[torch.Tensor], torch.Tensor]
"""Computes [B, cin, H, W] to [B, cout, H', W']."""

_choices: dict[tuple, str] = {}
_lock = threading.RLock()


class FastConv2d(nn.Module):
    """A convolution that takes the quickest correct way for each shape of its input.

    The result equals that of `F.conv2d` up to rounding. Inputs that no other way serves (other number formats, other
    devices, gradients wanted) take the direct one, as do those where another way fails or gives other numbers.

    Args:
        conv: stride 1, one group, no dilation, a square kernel and the same padding on all sides.
        direct: a quicker way of the direct convolution, where the kernel allows one; None: `F.conv2d`.
        kinds: other ways that may be taken, of KINDS.
    """

    def __init__(self, conv: nn.Conv2d, direct: Way | None = None, kinds: Collection[str] = KINDS):
        super().__init__()
        if not can_be_fast(conv):
            raise ValueError(f"{conv} has no fast form")
        self.conv = conv
        self.direct = direct or conv
        self.kinds = frozenset(kinds)
        self._ways: dict[tuple[int, ...], Way] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, H, W] to [B, cout, H', W']."""
        if x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_grad_enabled() or x.numel() == 0:
            return self.direct(x)
        way = self._ways.get(tuple(x.shape))
        if way is None:
            way = self._ways[tuple(x.shape)] = self._set_up(x)
        return way(x)

    def _set_up(self, x: torch.Tensor) -> Way:
        """The quickest correct way for inputs like `x`."""
        x = x.contiguous()
        weight = self.conv.weight
        key = (weight.shape, self.conv.padding, x.shape, torch.get_num_threads(), self.direct is self.conv, self.kinds)
        # One thread at a time: others would disturb the timing, and need its result.
        with _lock:
            candidates = self._candidates()
            if key not in _choices:
                _choices[key], way = self._quickest(candidates, x)
                return way
            name = _choices[key]
            return self.direct if name == "direct" else self._attempt(candidates[name], x) or self.direct

    def _candidates(self) -> dict[str, Callable[[], Way]]:
        """Makers of the ways other than the direct one, by name."""
        kernel = self.conv.kernel_size[0]
        made: dict[str, Callable[[], Way]] = {}
        if kernel <= MAX_NNPACK_KERNEL and nnpack_is_there():
            made["nnpack"] = lambda: NnpackConv(self.conv)
        if kernel <= MAX_WINOGRAD_KERNEL:
            made["winograd"] = lambda: WinogradConv(self.conv)
        elif kernel >= MIN_FOURIER_KERNEL:
            made["fourier"] = lambda: FourierConv(self.conv)
        return {name: make for name, make in made.items() if name in self.kinds}

    def _quickest(self, candidates: dict[str, Callable[[], Way]], x: torch.Tensor) -> tuple[str, Way]:
        best, chosen, least = "direct", self.direct, self._direct_seconds(x)
        for name, make in candidates.items():
            if name == "winograd" and best == "nnpack":
                continue  # NNPACK's Winograd has larger tiles and no copies between its steps
            way = self._attempt(make, x)
            if way is None:
                continue
            seconds = _seconds(way, x)
            layer = f"{list(self.conv.weight.shape)} on {list(x.shape)}"
            logger.debug(f"{layer}: {name} {seconds:.4f} s, {best} {least:.4f} s")
            if seconds < _CLEAR_GAIN * least:
                best, chosen, least = name, way, seconds
        return best, chosen

    def _direct_seconds(self, x: torch.Tensor) -> float:
        """Seconds of the direct way; for many channels those of a share of them, times as many."""
        if self.direct is not self.conv or self.conv.out_channels < 4 * _CHECKED_CHANNELS:
            return _seconds(self.direct, x)
        channels = self.conv.out_channels // 4
        weight, bias = (None if part is None else part[:channels] for part in (self.conv.weight, self.conv.bias))
        return 4 * _seconds(lambda x: F.conv2d(x, weight, bias, padding=self.conv.padding), x)

    def _attempt(self, make: Callable[[], Way], x: torch.Tensor) -> Way | None:
        """The way that `make` makes, if it works and agrees with the direct result on some of the channels."""
        step = max(1, self.conv.out_channels // _CHECKED_CHANNELS)
        weight, bias = (None if part is None else part[::step] for part in (self.conv.weight, self.conv.bias))
        try:
            way = make()
            result = way(x)
        except (RuntimeError, NotImplementedError) as error:
            logger.debug(f"{self.conv}: {error}")
            return None
        expected = F.conv2d(x, weight, bias, padding=self.conv.padding)
        result = result[:, ::step]
        # Written so that a comparison with NaN refuses the way.
        if result.shape == expected.shape and (result - expected).abs().max() <= TOLERANCE * expected.abs().max():
            return way
        logger.debug(f"{self.conv}: {type(way).__name__} differs from the direct result")
        return None


def can_be_fast(conv: nn.Module) -> bool:
    """Whether `FastConv2d` takes a layer: stride 1, a square kernel above 1 x 1, one group, no dilation."""
    return (
        isinstance(conv, nn.Conv2d)
        and conv.stride == (1, 1)
        and conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.kernel_size[0] == conv.kernel_size[1] > 1
        and not isinstance(conv.padding, str)
        and conv.padding[0] == conv.padding[1]
        and conv.padding_mode == "zeros"
    )


def _seconds(way: Way, x: torch.Tensor) -> float:
    """Seconds that a run takes; with one thread those of the thread, whatever else the processor does."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    way(x)
    return clock() - began


@lru_cache(maxsize=1)
def nnpack_is_there() -> bool:
    """Start NNPACK, with one thread: whether PyTorch was built with it and it knows this processor."""
    threads = torch.get_num_threads()
    # NNPACK keeps the number of threads of its first call. With more than one, calls from several threads (frames in
    # parallel) would wait for each other.
    torch.set_num_threads(1)
    try:
        if not torch._nnpack_available():
            return False
        with torch.inference_mode():
            torch._nnpack_spatial_convolution(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3), torch.zeros(1), 1)
        return True
    except (AttributeError, RuntimeError):
        return False
    finally:
        torch.set_num_threads(threads)


class NnpackConv:
    """By NNPACK, which PyTorch brings along: Winograd for 3 x 3, Fourier transforms of small tiles for larger kernels.

    One picture at a time: for more at once NNPACK has a slower way.
    """

    def __init__(self, conv: nn.Conv2d):
        self.weight = conv.weight.detach().contiguous()
        self.bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.padding = conv.padding

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See Way."""
        x = x.contiguous()
        made = [torch._nnpack_spatial_convolution(one, self.weight, self.bias, self.padding) for one in x.split(1)]
        return made[0] if len(made) == 1 else torch.cat(made)


class WinogradConv:
    """Winograd's F(m x m, r x r) (Lavin and Gray 2015), m = WINOGRAD_OUTPUTS, the kernels transformed once.

    Tiles of (m + r - 1)^2 pixels are transformed, each of their numbers is a product of matrices over the channels,
    and m^2 results are transformed back: for 3 x 3 kernels 36 products instead of 144.
    """

    def __init__(self, conv: nn.Conv2d, outputs: int = WINOGRAD_OUTPUTS):
        kernel = conv.kernel_size[0]
        self.outputs, self.side = outputs, outputs + kernel - 1
        self.kernel, self.padding, self.bias = kernel, conv.padding[0], conv.bias
        output, kernels, inputs = (torch.kron(matrix, matrix) for matrix in winograd_matrices(outputs, kernel))
        self.input_transform, self.output_transform = inputs.float(), output.float()
        weight = conv.weight.detach().double().flatten(2)
        self.weight = torch.einsum("pq,kcq->pkc", kernels, weight).float().contiguous()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See Way."""
        tiles, (height, width) = _tiles(x, self.side, self.outputs, self.kernel, self.padding)
        batch, channels, down, across = tiles.shape[:4]
        tiles = tiles.permute(1, 4, 5, 0, 2, 3).reshape(channels, self.side**2, -1)
        products = torch.bmm(self.weight, torch.matmul(self.input_transform, tiles).transpose(0, 1))
        made = self.output_transform @ products.flatten(1)
        made = made.view(self.outputs, self.outputs, -1, batch, down, across).permute(3, 2, 4, 0, 5, 1)
        return _joined(made, height, width, self.bias)


class FourierConv:
    """By Fourier transforms of overlapping tiles, the kernels transformed once: for large kernels.

    The convolution theorem makes a product of matrices over the channels of each frequency.
    """

    def __init__(self, conv: nn.Conv2d):
        self.conv = conv
        self.kernel, self.padding, self.bias = conv.kernel_size[0], conv.padding[0], conv.bias
        self._weights: dict[int, torch.Tensor] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See Way."""
        side = self._best_side(x)
        weight = self._transformed(side)
        outputs = side - self.kernel + 1
        tiles, (height, width) = _tiles(x, side, outputs, self.kernel, self.padding)
        batch, channels, down, across = tiles.shape[:4]
        spectrum = torch.fft.rfft2(tiles).permute(4, 5, 0, 2, 3, 1).reshape(len(weight), -1, channels)
        products = torch.bmm(spectrum, weight)
        products = products.view(side, side // 2 + 1, batch, down, across, -1).permute(2, 5, 3, 4, 0, 1)
        made = torch.fft.irfft2(products.contiguous(), s=(side, side))[..., :outputs, :outputs]
        return _joined(made.transpose(3, 4), height, width, self.bias)

    def _best_side(self, x: torch.Tensor) -> int:
        """The tile side that needs the least arithmetic, the reading of the kernels included."""
        height, width = (size + 2 * self.padding - self.kernel + 1 for size in x.shape[-2:])
        channels = self.conv.in_channels + self.conv.out_channels
        pairs = self.conv.in_channels * self.conv.out_channels

        def cost(side: int) -> float:
            outputs = side - self.kernel + 1
            tiles = x.shape[0] * -(-height // outputs) * -(-width // outputs)
            frequencies = side * (side // 2 + 1)
            # 8 operations a complex product; a kernel's number costs about as much to read as ten products; a point
            # of a transform costs about 100 operations' time, moving included.
            return frequencies * pairs * 8 * (tiles + 10) + 100 * tiles * side**2 * channels

        return min((side for side in FOURIER_SIDES if side >= 2 * self.kernel - 1), key=cost, default=4 * self.kernel)

    def _transformed(self, side: int) -> torch.Tensor:
        """[frequencies, cin, cout], conjugated: a network's convolution is a correlation."""
        if side not in self._weights:
            weight = torch.fft.rfft2(self.conv.weight.detach(), s=(side, side)).conj()
            self._weights[side] = weight.permute(2, 3, 1, 0).flatten(0, 1).resolve_conj().contiguous()
        return self._weights[side]


def _tiles(x: torch.Tensor, side: int, outputs: int, kernel: int, padding: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Overlapping tiles [B, C, down, across, side, side], a view, and height and width of the convolution's result."""
    height, width = (size + 2 * padding - kernel + 1 for size in x.shape[-2:])
    below, right = (-(-size // outputs) * outputs + kernel - 1 - padding for size in (height, width))
    x = F.pad(x, (padding, right - x.shape[3], padding, below - x.shape[2]))
    return x.unfold(2, side, outputs).unfold(3, side, outputs), (height, width)


def _joined(tiles: torch.Tensor, height: int, width: int, bias: torch.Tensor | None) -> torch.Tensor:
    """[B, C, height, width] of tiles [B, C, down, rows, across, columns], with the bias added."""
    shape = tiles.shape
    joined = tiles.new_empty(shape)
    if bias is None:
        joined.copy_(tiles)
    else:
        torch.add(tiles, bias.detach().view(-1, 1, 1, 1, 1), out=joined)
    joined = joined.view(shape[0], shape[1], shape[2] * shape[3], shape[4] * shape[5])
    return joined[:, :, :height, :width]


@lru_cache
def winograd_matrices(outputs: int, kernel: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cook and Toom's matrices A' [m, t], G [t, r], B' [t, t] with t = m + r - 1, in float64.

    A' ((G g) * (B' d)) is the correlation of d [t] with g [r]. The points are 0, 1, -1, 1/2, -1/2, 2, -2 ... and
    infinity, in an order that keeps the rounding error small.
    """
    size = outputs + kernel - 1
    steps = [Fraction(value) for value in (1, Fraction(1, 2), 2, Fraction(1, 4), 4)]
    points = [Fraction(0), *(sign * step for step in steps for sign in (1, -1))][: size - 1]
    if len(points) < size - 1:
        raise ValueError(f"no points for {outputs} outputs of {kernel} taps")
    first = [[point**power for point in points] + [Fraction(power == outputs - 1)] for power in range(outputs)]
    kernels, inputs = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = Fraction(1)
        for other in others:
            scale *= point - other
        kernels.append([point**power / scale for power in range(kernel)])
        inputs.append([*_polynomial(others), Fraction(0)])
    kernels.append([Fraction(power == kernel - 1) for power in range(kernel)])
    inputs.append(_polynomial(points))
    return tuple(torch.tensor([[float(v) for v in row] for row in rows], dtype=torch.float64)
                 for rows in (first, kernels, inputs))  # fmt: skip


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients, lowest first, of the product of (x - root)."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [-root * value for value in coefficients] + [Fraction(0)]
        coefficients = [one + two for one, two in zip(shifted, scaled, strict=True)]
    return coefficients
