"""Timing, counting of arithmetic, and the chart of where the time goes."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from models.dinet import ReferenceFeatures
from utils.dubbing.generator import DINetMouthGenerator
from utils.files import atomic_path


def timed(steps: int, step: Callable[[], object], device: torch.device) -> float:
    """Seconds that some steps take."""
    began = time.perf_counter()
    for _ in range(steps):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def rounds_in_turn(
    variants: Mapping[str, Callable[[], object]], rounds: int, steps: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of `steps` steps of each variant, round by round in turn, after a step of each to warm up."""
    for step in variants.values():
        timed(1, step, device)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, step in variants.items():
            seconds[name].append(timed(steps, step, device))
    return seconds


def device_name(device: torch.device) -> str:
    """The device, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP per second of a large matrix product, the fastest of ten: the peak of the device."""
    size = 8192 if device.type == "cuda" else 1536
    one, two = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    (seconds,) = rounds_in_turn({"product": lambda: one @ two}, 10, 1, device).values()
    return 2 * size**3 / min(seconds)


def counted_flops(step: Callable[[], object]) -> int:
    """FLOP of one call, run in this thread."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def direct_flops(generator: DINetMouthGenerator, masked: torch.Tensor, audio: torch.Tensor, first_row: int) -> int:
    """FLOP of a frame if all convolutions were direct; fast ones need fewer, and PyTorch does not count them."""
    network, dtype, device = generator.network, generator.dtype, generator.device
    # Copies: tensors made in inference mode are of no use outside it.
    features = ReferenceFeatures(**{name: value.clone() for name, value in vars(generator.reference_features).items()})

    def frame() -> None:
        with torch.enable_grad():  # convolutions are direct where gradients may be wanted
            network.generate(masked.to(device, dtype), features, audio.to(device, dtype), first_row)

    return counted_flops(frame)


def draw_stages(dubbing: dict[str, dict], path: Path) -> None:
    """Draw where the time goes: busy seconds of each stage, one bar per variant."""
    from matplotlib.figure import Figure

    bars = [
        (f"{case}\n{name}", stages) for case, dub in dubbing.items() for name, stages in dub["busy_seconds"].items()
    ]
    names = list(dict.fromkeys(name for _, stages in bars for name in stages))
    figure = Figure(figsize=(10, 1.2 + 0.8 * len(bars)), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(bars))
    for number, name in enumerate(names):
        seconds = np.array([stages.get(name, 0.0) for _, stages in bars])
        axes.barh([label for label, _ in bars], seconds, left=left, label=name, color=f"C{number % 10}",
                  hatch="//" if number >= 10 else None)  # fmt: skip
        left += seconds
    axes.invert_yaxis()
    axes.set_xlabel("busy seconds (stages of ours overlap)")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.25), fontsize="small", frameon=False)
    with atomic_path(path) as partial:
        figure.savefig(partial, format=path.suffix[1:] or "png", dpi=120)
