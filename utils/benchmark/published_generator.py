"""The published generator, to measure against: our reading of it, and the user's checkout of the original code."""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn

from models.dinet import ANGLE, AUDIO_EMBEDDING_DIM, AdaAT, DINet
from utils.errors import UserError

SEED = 456
_OPTION = "--published_code"


class VolumeAdaAT(AdaAT):
    """AdaAT the published way: every channel's grid is a slice of a volume, sampled trilinearly."""

    def blend(self, feature: torch.Tensor) -> torch.Tensor:
        """Nothing: the volume sampling blends neighbouring channels."""
        return feature

    def warp(self, blended: torch.Tensor, embedding: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """See AdaAT."""
        height, width = blended.shape[-2:]
        batch = len(embedding)
        embedding = self.commn_linear(embedding)
        scale = 2 * self.scale(embedding)[..., None, None]
        angle = ANGLE * self.rotation(embedding)[..., None, None]
        translation = self.translation(embedding).view(batch, -1, 1, 1, 2)
        channels = translation.shape[1]
        x = torch.linspace(-1, 1, width, device=embedding.device).expand(height, width)
        y = torch.linspace(-1, 1, height, device=embedding.device)[:, None].expand(height, width)
        moved = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], -1)
        moved = scale[..., None] * moved + translation
        depth = torch.linspace(-1, 1, channels, device=embedding.device).view(1, channels, 1, 1, 1)
        grid = torch.cat([moved, depth.expand(batch, channels, height, width, 1)], -1)
        volume = blended.expand(batch, -1, -1, -1)[:, None]
        return F.grid_sample(volume, grid, align_corners=False)[:, 0, :, first_row:]


def random_dinet(audio_channel: int, width: int, published: bool = False) -> DINet:
    """A generator in eval mode with random weights; `published` with the published sampling of AdaAT."""
    torch.manual_seed(SEED)
    network = DINet(audio_channel=audio_channel, feature_channel=width)
    return (with_published_sampling(network) if published else network).eval()


def with_published_sampling(network: DINet) -> DINet:
    """The generator with the same weights and the published AdaAT, in place; returns it."""
    width = network.feature_channel
    sampling = VolumeAdaAT(width // 2 + AUDIO_EMBEDDING_DIM, width)
    sampling.load_state_dict(network.adaAT.state_dict())
    network.adaAT = sampling
    return network


def load_published_code(folder: Path, audio_channel: int) -> nn.Module:
    """The generator of a checkout of the original repository, in eval mode, with random weights.

    Runs the code in `folder`: `models.DINet.DINet(source_channel, ref_channel, audio_channel)`, whose forward takes
    source, reference and audio.

    Raises:
        UserError: no such code in the folder, or it cannot be run.
    """
    if not (folder / "models" / "DINet.py").is_file():
        raise UserError(f"{_OPTION}: {folder} holds no models/DINet.py; give a checkout of the original repository")
    try:
        with _imports_from(folder):
            module = importlib.import_module("models.DINet")
            torch.manual_seed(SEED)
            network = module.DINet(3, 15, audio_channel)
        return network.eval()
    except Exception as error:  # whatever the code of others raises
        cause = f"{type(error).__name__}: {error}"
        raise UserError(f"{_OPTION}: the generator in {folder} cannot be loaded ({cause})") from error


@contextlib.contextmanager
def _imports_from(folder: Path) -> Iterator[None]:
    """Import the packages of a folder in place of ours of the same names (`models`, `utils`, `config`)."""
    theirs = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}

    def take_away() -> dict:
        names = [name for name in sys.modules if name.partition(".")[0] in theirs]
        return {name: sys.modules.pop(name) for name in names}

    ours = take_away()
    sys.path.insert(0, str(folder))
    for path in folder.iterdir():
        if path.is_dir() and not (path / "__init__.py").exists():
            # Python would prefer a package of ours with an __init__.py.
            sys.modules[path.name] = package = ModuleType(path.name)
            package.__path__ = [str(path)]
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        take_away()
        sys.modules.update(ours)
