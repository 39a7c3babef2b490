"""Weights of the perceptual loss: torchvision's VGG19, or a file."""

import urllib.error
import urllib.request
from pathlib import Path

import torch

from models.perceptual import PerceptualNetwork
from utils.distributed import DistInfo
from utils.errors import UserError
from utils.pickle_check import read_torch_file
from utils.training.settings import PERCEPTUAL_OPTION

VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
_CONNECT_SECONDS = 15


def load_perceptual_network(path: Path | None, dist_info: DistInfo) -> PerceptualNetwork:
    """Load the perceptual network from `path`, or VGG19 from torchvision's cache, downloaded if it is not there.

    Args:
        path: VGG19 or VGG16 weights, or None.
        dist_info: only the main process downloads.

    Raises:
        UserError: no such file, unfit weights, or nothing in the cache and offline.
    """
    if path is None:
        path = Path(torch.hub.get_dir()) / "checkpoints" / VGG19_URL.rsplit("/", 1)[1]
        if dist_info.is_main and not path.exists():
            _fetch(path)
        dist_info.barrier()
    state = read_torch_file(path, PERCEPTUAL_OPTION)
    try:
        return PerceptualNetwork(
            {key: value.float() for key, value in state.items() if isinstance(value, torch.Tensor)}
        )
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{PERCEPTUAL_OPTION}: {path} is not a file of VGG weights ({error}); take {VGG19_URL}"
        ) from None


def _fetch(path: Path) -> None:
    try:
        # load_state_dict_from_url has no timeout: check first that the server can be reached.
        with urllib.request.urlopen(VGG19_URL, timeout=_CONNECT_SECONDS):
            pass
        torch.hub.load_state_dict_from_url(VGG19_URL, check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError) as error:
        cause = getattr(error, "reason", None) or error
        raise UserError(
            f"{PERCEPTUAL_OPTION}: VGG19 cannot be downloaded ({cause}); download {VGG19_URL} elsewhere and put it at "
            f"{path}, or name a file of VGG19 or VGG16 weights with {PERCEPTUAL_OPTION}"
        ) from None
