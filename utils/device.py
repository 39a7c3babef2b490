"""Device and number format of the networks, and the memory they take."""

import sys

import torch

from utils.errors import UserError


def choose_device(name: str) -> torch.device:
    """Return the device of `--device`: auto takes CUDA where there is one.

    Raises:
        UserError: an unknown name, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"--device: {name!r} is not a device; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"--device: {name!r} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError("--device: no CUDA GPU can be used here (driver or CUDA build missing); use --device cpu")
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(
                f"--device: there is no {name}, only {torch.cuda.device_count()} GPU(s), counted from 0; "
                "give cuda:0, cuda or cpu"
            )
    return device


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the number format of `--precision` on a device.

    Raises:
        UserError: fp16 on a CPU, whose convolutions have no fast fp16.
    """
    if precision == "auto":
        if device.type == "cpu":
            return torch.float32
        return cuda_half_dtype()
    if precision == "fp16" and device.type == "cpu":
        raise UserError("--precision: fp16 is slow and inexact on a CPU; use fp32 or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def cuda_half_dtype() -> torch.dtype:
    """bfloat16 where the GPU computes in it, else float16: before compute capability 8, bfloat16 is emulated."""
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def default_batch_size(device: torch.device, threads: int) -> int:
    """Frames at a time where `--batch_size` is not given; on a CPU two for each thread, so that none waits long."""
    return 2 * threads if device.type == "cpu" else 16


def peak_memory(device: torch.device) -> int:
    """Peak memory in MiB: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    import resource  # Unix only

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)
