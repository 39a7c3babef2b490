"""Convolution algorithms with fewer multiplications than the direct one, for inference in float32 on a CPU.

Which algorithm is fastest depends on the layer, the image size and the CPU. `FastConv2d` times them on the first input
of each shape (as torch.backends.cudnn.benchmark does on GPUs), compares the fastest with the direct result, and keeps
the choice for the process.
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

ALGORITHMS = ("nnpack", "winograd", "fourier")
"""Algorithms other than the direct one."""
TOLERANCE = 1e-4
"""Maximum difference from the direct result, as a fraction of the largest magnitude in it."""
MAX_NNPACK_KERNEL = 16
MAX_WINOGRAD_KERNEL = 3
WINOGRAD_OUTPUTS = 4
"""Side of the output tiles of `WinogradConv`."""
FOURIER_SIDES = (16, 24, 32, 48, 64)
"""Sides of the input tiles that `FourierConv` chooses from."""
MIN_FOURIER_KERNEL = 5

_CHECKED_CHANNELS = 8
_CLEAR_GAIN = 0.9
"""An algorithm replaces an earlier one if its time is below this fraction: two runs then make the same choice."""

Algorithm = Callable[[torch.Tensor], torch.Tensor]
"""Computes [B, cin, H, W] to [B, cout, H', W']."""

_choices: dict[tuple, str] = {}
_lock = threading.RLock()


class FastConv2d(nn.Module):
    """A convolution that uses the fastest correct algorithm for each shape of its input.

    The result equals that of `F.conv2d` up to rounding. The direct algorithm is used for other number formats, other
    devices and where gradients are needed, and also if another algorithm fails or returns other numbers.

    Args:
        conv: stride 1, one group, no dilation, a square kernel and the same padding on all sides.
        direct: a faster form of the direct convolution, where the kernel allows one; None: `F.conv2d`.
        algorithms: those that may be used besides the direct one, of ALGORITHMS.
    """

    def __init__(self, conv: nn.Conv2d, direct: Algorithm | None = None, algorithms: Collection[str] = ALGORITHMS):
        super().__init__()
        if not can_be_fast(conv):
            raise ValueError(f"{conv} has no fast form")
        self.conv = conv
        self.direct = direct or conv
        self.algorithms = frozenset(algorithms)
        self._chosen: dict[tuple[int, ...], Algorithm] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, cin, H, W] to [B, cout, H', W']."""
        if x.dtype != torch.float32 or x.device.type != "cpu" or torch.is_grad_enabled() or x.numel() == 0:
            return self.direct(x)
        algorithm = self._chosen.get(tuple(x.shape))
        if algorithm is None:
            algorithm = self._chosen[tuple(x.shape)] = self._choose(x)
        return algorithm(x)

    def _choose(self, x: torch.Tensor) -> Algorithm:
        """The fastest correct algorithm for inputs like `x`."""
        x = x.contiguous()
        weight = self.conv.weight
        key = (
            weight.shape,
            self.conv.padding,
            x.shape,
            torch.get_num_threads(),
            self.direct is self.conv,
            self.algorithms,
        )
        # One thread at a time: others would disturb the timing, and need its result.
        with _lock:
            candidates = self._candidates()
            if key not in _choices:
                _choices[key], algorithm = self._fastest(candidates, x)
                return algorithm
            name = _choices[key]
            return self.direct if name == "direct" else self._make_checked(candidates[name], x) or self.direct

    def _candidates(self) -> dict[str, Callable[[], Algorithm]]:
        """Constructors of the algorithms besides the direct one, by name."""
        kernel = self.conv.kernel_size[0]
        candidates: dict[str, Callable[[], Algorithm]] = {}
        if kernel <= MAX_NNPACK_KERNEL and is_nnpack_available():
            candidates["nnpack"] = lambda: NnpackConv(self.conv)
        if kernel <= MAX_WINOGRAD_KERNEL:
            candidates["winograd"] = lambda: WinogradConv(self.conv)
        elif kernel >= MIN_FOURIER_KERNEL:
            candidates["fourier"] = lambda: FourierConv(self.conv)
        return {name: make for name, make in candidates.items() if name in self.algorithms}

    def _fastest(self, candidates: dict[str, Callable[[], Algorithm]], x: torch.Tensor) -> tuple[str, Algorithm]:
        best, chosen, best_seconds = "direct", self.direct, self._direct_seconds(x)
        for name, make in candidates.items():
            if name == "winograd" and best == "nnpack":
                continue  # NNPACK's Winograd has larger tiles and no copies between its steps
            algorithm = self._make_checked(make, x)
            if algorithm is None:
                continue
            seconds = _seconds(algorithm, x)
            layer = f"{list(self.conv.weight.shape)} on {list(x.shape)}"
            logger.debug(f"{layer}: {name} {seconds:.4f} s, {best} {best_seconds:.4f} s")
            if seconds < _CLEAR_GAIN * best_seconds:
                best, chosen, best_seconds = name, algorithm, seconds
        return best, chosen

    def _direct_seconds(self, x: torch.Tensor) -> float:
        """Seconds of the direct algorithm; with many output channels, four times those of a quarter of them."""
        if self.direct is not self.conv or self.conv.out_channels < 4 * _CHECKED_CHANNELS:
            return _seconds(self.direct, x)
        channels = self.conv.out_channels // 4
        weight, bias = (None if part is None else part[:channels] for part in (self.conv.weight, self.conv.bias))
        return 4 * _seconds(lambda x: F.conv2d(x, weight, bias, padding=self.conv.padding), x)

    def _make_checked(self, make: Callable[[], Algorithm], x: torch.Tensor) -> Algorithm | None:
        """The algorithm made by `make`, or None if it fails or differs from the direct result on some channels."""
        step = max(1, self.conv.out_channels // _CHECKED_CHANNELS)
        weight, bias = (None if part is None else part[::step] for part in (self.conv.weight, self.conv.bias))
        try:
            algorithm = make()
            result = algorithm(x)
        except (RuntimeError, NotImplementedError) as error:
            logger.debug(f"{self.conv}: {error}")
            return None
        expected = F.conv2d(x, weight, bias, padding=self.conv.padding)
        result = result[:, ::step]
        # A NaN fails this comparison, and so the check.
        if result.shape == expected.shape and (result - expected).abs().max() <= TOLERANCE * expected.abs().max():
            return algorithm
        logger.debug(f"{self.conv}: {type(algorithm).__name__} differs from the direct result")
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


def _seconds(algorithm: Algorithm, x: torch.Tensor) -> float:
    """Seconds of one run; with one thread its processor time, which other programs do not disturb."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    began = clock()
    algorithm(x)
    return clock() - began


@lru_cache(maxsize=1)
def is_nnpack_available() -> bool:
    """Start NNPACK, with one thread; False if PyTorch was built without it or it does not support this CPU."""
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
    """NNPACK, part of PyTorch: Winograd for 3 x 3, Fourier transforms of small tiles for larger kernels.

    One image at a time: NNPACK computes batches by a slower algorithm.
    """

    def __init__(self, conv: nn.Conv2d):
        self.weight = conv.weight.detach().contiguous()
        self.bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.padding = conv.padding

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See Algorithm."""
        x = x.contiguous()
        results = [
            torch._nnpack_spatial_convolution(image, self.weight, self.bias, self.padding) for image in x.split(1)
        ]
        return results[0] if len(results) == 1 else torch.cat(results)


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
        """See Algorithm."""
        tiles, (height, width) = _tiles(x, self.side, self.outputs, self.kernel, self.padding)
        batch, channels, down, across = tiles.shape[:4]
        tiles = tiles.permute(1, 4, 5, 0, 2, 3).reshape(channels, self.side**2, -1)
        products = torch.bmm(self.weight, torch.matmul(self.input_transform, tiles).transpose(0, 1))
        outputs = self.output_transform @ products.flatten(1)
        outputs = outputs.view(self.outputs, self.outputs, -1, batch, down, across).permute(3, 2, 4, 0, 5, 1)
        return _join_tiles(outputs, height, width, self.bias)


class FourierConv:
    """Fourier transforms of overlapping tiles, the kernels transformed once: for large kernels.

    By the convolution theorem, each frequency is a matrix product over the channels.
    """

    def __init__(self, conv: nn.Conv2d):
        self.conv = conv
        self.kernel, self.padding, self.bias = conv.kernel_size[0], conv.padding[0], conv.bias
        self._weights: dict[int, torch.Tensor] = {}

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """See Algorithm."""
        side = self._best_side(x)
        weight = self._transformed_weight(side)
        outputs = side - self.kernel + 1
        tiles, (height, width) = _tiles(x, side, outputs, self.kernel, self.padding)
        batch, channels, down, across = tiles.shape[:4]
        spectrum = torch.fft.rfft2(tiles).permute(4, 5, 0, 2, 3, 1).reshape(len(weight), -1, channels)
        products = torch.bmm(spectrum, weight)
        products = products.view(side, side // 2 + 1, batch, down, across, -1).permute(2, 5, 3, 4, 0, 1)
        tiles = torch.fft.irfft2(products.contiguous(), s=(side, side))[..., :outputs, :outputs]
        return _join_tiles(tiles.transpose(3, 4), height, width, self.bias)

    def _best_side(self, x: torch.Tensor) -> int:
        """The tile side with the lowest cost in arithmetic and in reading the kernels."""
        height, width = (size + 2 * self.padding - self.kernel + 1 for size in x.shape[-2:])
        channels = self.conv.in_channels + self.conv.out_channels
        pairs = self.conv.in_channels * self.conv.out_channels

        def cost(side: int) -> float:
            outputs = side - self.kernel + 1
            tiles = x.shape[0] * -(-height // outputs) * -(-width // outputs)
            frequencies = side * (side // 2 + 1)
            # A complex product takes 8 operations; reading a number of a kernel costs about ten products; a point of a
            # transform costs about 100 operations, with moving it.
            return frequencies * pairs * 8 * (tiles + 10) + 100 * tiles * side**2 * channels

        return min((side for side in FOURIER_SIDES if side >= 2 * self.kernel - 1), key=cost, default=4 * self.kernel)

    def _transformed_weight(self, side: int) -> torch.Tensor:
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


def _join_tiles(tiles: torch.Tensor, height: int, width: int, bias: torch.Tensor | None) -> torch.Tensor:
    """[B, C, height, width] of tiles [B, C, down, rows, across, columns], with the bias added."""
    shape = tiles.shape
    result = tiles.new_empty(shape)
    if bias is None:
        result.copy_(tiles)
    else:
        torch.add(tiles, bias.detach().view(-1, 1, 1, 1, 1), out=result)
    result = result.view(shape[0], shape[1], shape[2] * shape[3], shape[4] * shape[5])
    return result[:, :, :height, :width]


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
