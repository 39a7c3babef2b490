"""What test_training_distributed.py runs, in its own process and in spawned ones.

Spawned processes find a module by its name. That of a test module is known to pytest alone.
"""

import os
from pathlib import Path

import torch
from torch import nn

from models.blocks import SameBlock
from models.perceptual import PerceptualNetwork
from models.syncnet import SyncNet
from utils.distributed import DistInfo, init_distributed
from utils.training.build import make_dinet_networks
from utils.training.dinet_step import ClipStep, FrameStep
from utils.training.networks import TrainingNetworks
from utils.training.settings import LossWeights, NetworkSettings, OptimisationSettings
from utils.training.syncnet_step import SyncStep

STAGES = ("frame", "clip", "sync")
SIDE, MOUTH, CHANNELS, BATCH, STEPS = 40, 32, 8, 2, 3
"""Of pictures and mouths in pixels; of speech; samples of a batch; steps to take."""
REGION = (slice(4, 36), slice(4, 36))


class SmallGenerator(nn.Module):
    """Batch norms as in DINet's encoders, and little else: double precision is slow."""

    def __init__(self):
        super().__init__()
        self.pictures = SameBlock(18, 8, 3, 1)
        self.audio = SameBlock(CHANNELS, 8, 3, 1, dims=1)
        self.out = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        code = self.audio(audio).mean(2)[..., None, None]
        return torch.sigmoid(self.out(self.pictures(torch.cat([source, reference], 1)) + code))


NARROW = NetworkSettings(D_num_blocks=3, D_block_expansion=8)


def make_step(stage: str, dist_info: DistInfo, device: torch.device):
    """The stage's step and networks, the same in every process, in double precision.

    In float32 Adam would turn rounding into steps of the learning rate: behind a bias that a batch norm cancels there
    is no other gradient.
    """
    torch.manual_seed(0)
    if stage == "sync":
        networks = {"net": SyncNet(in_channel_audio=CHANNELS)}
    else:
        networks = make_dinet_networks(NARROW, CHANNELS, clip=stage == "clip") | {"net_g": SmallGenerator()}
    syncnet = SyncNet(in_channel_audio=CHANNELS).double()
    weights = {"features.0.weight": torch.randn(64, 3, 3, 3) / 5, "features.0.bias": torch.zeros(64)}
    perceptual = PerceptualNetwork(weights).double()
    trained = TrainingNetworks(
        {name: network.double() for name, network in networks.items()},
        dict.fromkeys(networks, 1e-4),
        OptimisationSettings(clip_grad=1.0),
        dist_info,
        device,
    )
    if stage == "sync":
        return SyncStep(trained, lamb_contrast=1.0), trained
    arguments = (trained, REGION, LossWeights(lamb_mouth=1), perceptual)
    return (FrameStep(*arguments) if stage == "frame" else ClipStep(*arguments, syncnet)), trained


def make_batch(stage: str, number: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(number)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(BATCH, *shape, generator=random, dtype=torch.float64)

    if stage == "sync":
        return {"mouths": rand(15, MOUTH, MOUTH), "audio": rand(CHANNELS, 9), "negative_audio": rand(2, CHANNELS, 9)}
    frames = (5,) if stage == "clip" else ()
    batch = {
        "source": rand(*frames, 3, SIDE, SIDE),
        "reference": rand(*frames, 15, SIDE, SIDE),
        "audio": rand(*frames, CHANNELS, 5),
    }
    return batch | ({"clip_audio": rand(CHANNELS, 9)} if stage == "clip" else {})


def train(stage: str, dist_info: DistInfo, device: torch.device) -> tuple[dict, list[dict[str, float]]]:
    """State of the networks and mean losses after some steps."""
    step, trained = make_step(stage, dist_info, device)
    records = []
    own = BATCH // dist_info.world_size
    for number in range(STEPS):
        share = slice(dist_info.rank * own, (dist_info.rank + 1) * own)
        losses = step(**{name: value[share] for name, value in make_batch(stage, number).items()})
        sums = {name: dist_info.all_reduce_sum(value) for name, value in losses.items()}
        records.append({name: (value / dist_info.world_size).item() for name, value in sums.items()})
    return {name: network.state_dict() for name, network in trained.modules.items()}, records


def train_in_process(rank: int, port: int, folder: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    with init_distributed("cpu") as (dist_info, device):
        for stage in STAGES:
            torch.save(train(stage, dist_info, device), folder / f"{stage}_{rank}.pth")
