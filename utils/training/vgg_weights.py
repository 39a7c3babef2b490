"""Weights of the perception loss: torchvision's VGG19, or a file."""

import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from utils.checkpoints import read_torch_file
from utils.distributed import DistInfo
from utils.errors import UserError

VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
OPTION = "--perceptual_weights"
_CONNECT_SECONDS = 15


def load_perceptual_network(
    make: Callable[[Mapping[str, torch.Tensor]], nn.Module], path: Path | None, dist_info: DistInfo
) -> nn.Module:
    """Return make(weights) with the weights of `path`, or of VGG19 from torchvision's cache, fetched if need be.

    Args:
        make: takes a state dict of torchvision's layout; ValueError if the weights are unfit.
        path: VGG19 or VGG16 weights, or None.
        dist_info: only the main one fetches.

    Raises:
        UserError: no such file, unfit weights, or nothing in the cache and no network.
    """
    if path is None:
        path = Path(torch.hub.get_dir()) / "checkpoints" / VGG19_URL.rsplit("/", 1)[1]
        if dist_info.is_main and not path.exists():
            _fetch(path)
        dist_info.barrier()
    state = read_torch_file(path, OPTION)
    try:
        return make({key: value.float() for key, value in state.items() if isinstance(value, torch.Tensor)})
    except (ValueError, AttributeError) as error:
        raise UserError(f"{OPTION}: {path} is no file of VGG weights ({error}); take {VGG19_URL}") from None


def _fetch(path: Path) -> None:
    try:
        # To fail soon: the download itself knows no time limit.
        with urllib.request.urlopen(VGG19_URL, timeout=_CONNECT_SECONDS):
            pass
        torch.hub.load_state_dict_from_url(VGG19_URL, check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError) as error:
        cause = getattr(error, "reason", None) or error
        raise UserError(
            f"{OPTION}: VGG19 cannot be fetched ({cause}); download {VGG19_URL} elsewhere and put it at {path}, "
            f"or name a file of VGG19 or VGG16 weights with {OPTION}"
        ) from None
