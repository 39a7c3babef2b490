"""The published training loop of the frame stage, to compare with."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from utils.benchmark.published_generator import SEED, with_published_sampling
from utils.benchmark.settings import TrainingBenchmark
from utils.face.crop_geometry import mouth_region, network_size
from utils.training.build import make_dinet_networks
from utils.training.settings import NetworkSettings


class PublishedSamples(Dataset):
    """Frame-stage samples the published way: crops read, resized and turned into floats one by one when needed.

    Args:
        videos: `dataset.manifest.Video`s.
        count: samples in all.
        mouth_region_size: side of the mouth region in pixels.
    """

    def __init__(self, videos: Sequence[Any], count: int, mouth_region_size: int):
        self.videos = videos
        self.count = count
        self.height, self.width = network_size(mouth_region_size)
        self.mouth = mouth_region(mouth_region_size)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        """Source, masked source, references and speech."""
        random = np.random.default_rng((SEED, index))
        video = self.videos[index % len(self.videos)]
        source, *references = random.choice(len(video.clips), 6, replace=len(video.clips) < 6)
        frame = int(random.integers(2, 7))
        rows = video.kind.rows_per_frame
        speech = video.clip_features(video.clips[source])[(frame - 2) * rows : (frame + 3) * rows]
        image = self._read(video.clips[source].frame_paths[frame])
        masked = image.copy()
        masked[self.mouth] = 0
        stacked = np.concatenate([self._read(video.clips[i].frame_paths[random.integers(9)]) for i in references], 2)
        images = (torch.from_numpy(part).float().permute(2, 0, 1) for part in (image, masked, stacked))
        return *images, torch.from_numpy(speech.T.copy())

    def _read(self, path: str) -> np.ndarray:
        return cv2.resize(cv2.imread(path)[:, :, ::-1], (self.width, self.height)) / 255


class PublishedLoop:
    """The published frame stage: all in float32, one process, every gradient computed, wanted or not.

    Args:
        settings: see TrainingBenchmark.
        videos: `dataset.manifest.Video`s.
        vgg: perceptual network.
        device: where to train.
    """

    waited = 0.0

    def __init__(self, settings: TrainingBenchmark, videos: Sequence[Any], vgg: nn.Module, device: torch.device):
        networks = make_dinet_networks(NetworkSettings(), videos[0].kind.channels)
        with_published_sampling(networks["net_g"])
        self.net_g, self.net_dI = (network.to(device) for network in networks.values())
        self.vgg = vgg.to(device)
        self.device = device
        self.optimizer_g = torch.optim.Adam(self.net_g.parameters(), lr=1e-4)
        self.optimizer_dI = torch.optim.Adam(self.net_dI.parameters(), lr=1e-4)
        count = settings.batch_size * (1 + settings.steps * settings.rounds)
        samples = PublishedSamples(videos, count, settings.mouth_region_size)
        self.batches = iter(DataLoader(samples, settings.batch_size, shuffle=True, drop_last=True))

    def step(self) -> None:
        """Train on the next batch."""
        source, masked, reference, audio = (part.to(self.device) for part in next(self.batches))
        fake = self.net_g(masked, reference, audio)
        half_fake = F.avg_pool2d(fake, 3, stride=2, padding=1, count_include_pad=False)
        half_source = F.interpolate(source, scale_factor=0.5, mode="bilinear")

        self.optimizer_dI.zero_grad()
        _, fake_score = self.net_dI(fake)
        _, real_score = self.net_dI(source)
        loss_dI = (self._mse(fake_score, 0) + self._mse(real_score, 1)) * 0.5
        loss_dI.backward(retain_graph=True)
        self.optimizer_dI.step()

        _, fake_score = self.net_dI(fake)
        self.optimizer_g.zero_grad()
        distances = []
        for fake_scale, real_scale in ((fake, source), (half_fake, half_source)):
            pairs = zip(self.vgg(fake_scale), self.vgg(real_scale), strict=True)
            distances += [F.l1_loss(one, two.detach()) for one, two in pairs]
        loss_g = 10 * torch.stack(distances).mean() + self._mse(fake_score, 1)
        loss_g.backward()
        self.optimizer_g.step()
        for loss in (loss_dI, loss_g):
            loss.item()  # shown after every step

    @staticmethod
    def _mse(score: torch.Tensor, target: float) -> torch.Tensor:
        return F.mse_loss(score, torch.full_like(score, target))
