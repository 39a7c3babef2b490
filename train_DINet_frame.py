"""Train DINet on single frames: python train_DINet_frame.py --mouth_region_size 64 --batch_size 24."""

import argparse
from functools import partial

import torch

from config.parser import pick
from config.training import FrameTrainingParser
from dataset.loading import LoadingSettings, open_training_data
from dataset.samples import FrameSamples
from models.dinet_networks import NetworkSettings, make_dinet_networks
from models.perceptual import PerceptualNetwork
from models.steps import FrameStep, LossWeights
from utils.crop_geometry import mouth_region
from utils.distributed import Processes, training_processes
from utils.errors import run_script
from utils.perceptual_weights import load_perceptual_network
from utils.trained_networks import OptimisationSettings, TrainedNetworks
from utils.training import TrainingLoop, TrainingSettings, coarse_checkpoint, describe_networks


def train(options: argparse.Namespace, processes: Processes, device: torch.device) -> None:
    """Train as the options say.

    Raises:
        UserError: data, weights or options that do not fit.
    """
    coarse = coarse_checkpoint(options.coarse2fine, options.coarse_model_path)
    perceptual = load_perceptual_network(PerceptualNetwork, options.perceptual_weights, processes)
    samples = partial(FrameSamples, may_repeat_source=options.reference_may_repeat_source)
    data = open_training_data(samples, pick(LoadingSettings, options), processes, device)

    torch.manual_seed(options.seed)
    networks = TrainedNetworks(
        make_dinet_networks(pick(NetworkSettings, options), data.kind.channels),
        {"net_g": options.lr_g, "net_dI": options.lr_dI},
        pick(OptimisationSettings, options),
        processes,
        device,
    )
    mouth = mouth_region(options.mouth_region_size)
    step = FrameStep(networks, networks.place(perceptual), mouth, pick(LossWeights, options))
    metadata = describe_networks(options.mouth_region_size, data.kind)
    settings = pick(TrainingSettings, options)
    loop = TrainingLoop("frame", step, networks, data.train, data.held_out, settings, metadata, processes)
    if not loop.resume() and coarse is not None:
        loop.start_from(coarse, ["net_g", "net_dI"], "--coarse_model_path", any_size=True)
    loop.run(vars(options))


def main() -> None:
    """Run the script."""
    options = FrameTrainingParser().parse_args()
    with training_processes(options.device) as (processes, device):
        train(options, processes, device)


if __name__ == "__main__":
    run_script(main)
