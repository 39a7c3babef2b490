"""The DINet generator: deforms reference features by the audio (AdaAT) and inpaints the mouth with them.

Names, shapes and arithmetic follow the published weights, which load unchanged.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .blocks import DownBlock, ResBlock, SameBlock, UpBlock

FEATURE_CHANNELS = 256
"""Channels of the source and reference feature maps of the published network; the others' follow from them."""
AUDIO_EMBEDDING_DIM = 128
"""Channels of the audio embedding."""
APPEARANCE_RECEPTIVE_ROWS = 8
"""Receptive-field radius (rows of the feature map) of the second appearance block: eight 3 x 3 convolutions."""
OUT_RECEPTIVE_ROWS = 4
"""Receptive-field radius of out_conv, rounded up: its kernels reach 3 + 1 + 2 (2 + 1) + 4 pixels, below 16."""
MAX_STRIDE = 64
"""Pixels of the crop per pixel of the smallest feature map, the last one of trans_conv."""
ANGLE = 3.14159  # the published constant, not pi: it is in the weights


def _sampling_grid(maps: torch.Tensor, height: int, width: int, first_row: int) -> torch.Tensor:
    """`F.affine_grid` with align_corners=True for maps [N, 2, 3]: [N, height - first_row, width, 2].

    The grid's end points lie on the outermost pixel centres while sampling counts from the pixel edges: the published
    mismatch of align_corners, which rescales x and y a little. Products of rows and columns before their sum take a
    quarter of the time of affine_grid.
    """
    x = torch.linspace(-1, 1, width, dtype=maps.dtype, device=maps.device)
    y = torch.linspace(-1, 1, height, dtype=maps.dtype, device=maps.device)[first_row:]
    rows = maps[..., 1:2] * y + maps[..., 2:]
    columns = maps[..., :1] * x
    return torch.stack([rows[:, axis, :, None] + columns[:, axis, None] for axis in range(2)], -1)


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """`x` in float32, or in float64 if it has that."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class AdaAT(nn.Module):
    """Adaptive affine transformation: each channel of a feature map is moved by its own affine map.

    The published model samples the map as a volume with trilinear `grid_sample` and align_corners=False. A channel's
    depth coordinate 2c/(C-1) - 1 then falls between channels, c*C/(C-1) - 1/2, so neighbours are blended. The depth
    does not depend on x and y, hence the volume sampling is exactly `blend` (once) followed by a 2-d sampling.
    """

    def __init__(
        self, embedding_dim: int = FEATURE_CHANNELS // 2 + AUDIO_EMBEDDING_DIM, channels: int = FEATURE_CHANNELS
    ):
        super().__init__()
        self.commn_linear = nn.Sequential(nn.Linear(embedding_dim, channels), nn.ReLU())
        self.scale = nn.Sequential(nn.Linear(channels, channels), nn.Sigmoid())
        self.rotation = nn.Sequential(nn.Linear(channels, channels), nn.Tanh())
        self.translation = nn.Sequential(nn.Linear(channels, 2 * channels), nn.Tanh())
        # Near the identity at the start: fits a single batch 10 % faster.
        for layer in (self.scale[0], self.rotation[0], self.translation[0]):
            if layer.weight.is_meta:
                continue  # nothing to fill, and normal_ would import all of torch.compile
            nn.init.normal_(layer.weight, std=0.1 * channels**-0.5)
            nn.init.zeros_(layer.bias)
        # Python's numbers: torch.arange imports all of torch.compile where the device is "meta".
        depth = [channel * channels / (channels - 1) - 0.5 for channel in range(channels)]
        floor = [math.floor(value) for value in depth]
        fraction = [value - below for value, below in zip(depth, floor, strict=True)]
        self.register_buffer("depth_floor", torch.tensor(floor), persistent=False)
        self.register_buffer("depth_fraction", torch.tensor(fraction), persistent=False)

    def blend(self, feature: torch.Tensor) -> torch.Tensor:
        """The depth half of the sampling, [B, C, H, W] to the same; channels outside the volume count as zero."""
        padded = F.pad(feature, (0, 0, 0, 0, 1, 1))
        below = padded[:, self.depth_floor + 1]
        above = padded[:, self.depth_floor + 2]
        return torch.lerp(below, above, self.depth_fraction.to(feature.dtype)[:, None, None])

    def affine(self, embedding: torch.Tensor) -> torch.Tensor:
        """Affine maps of the sampling grid, [B, C, 2, 3] in at least float32, from the embeddings [B, embedding_dim].

        point' = scale * R(angle) * point + translation, with scale in (0, 2), angle in (-ANGLE, ANGLE) and
        translation in (-1, 1) of grid coordinates, (x, y).
        """
        embedding = self.commn_linear(embedding.to(self.commn_linear[0].weight.dtype))
        scale = 2 * _at_least_float32(self.scale(embedding))
        angle = ANGLE * _at_least_float32(self.rotation(embedding))
        translation = _at_least_float32(self.translation(embedding)).unflatten(1, (-1, 2))
        cos, sin = scale * angle.cos(), scale * angle.sin()
        rotation = torch.stack([cos, -sin, sin, cos], -1).unflatten(-1, (2, 2))
        return torch.cat([rotation, translation[..., None]], -1)

    def warp(self, blended: torch.Tensor, embedding: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """The x, y half of the sampling: [B or 1, C, H, W], embeddings [B, embedding_dim] to [B, C, H - first_row, W].

        At least in float32: eight bits of a bf16 coordinate are half a pixel on a large map.
        """
        height, width = blended.shape[-2:]
        with torch.autocast(blended.device.type, enabled=False):
            maps = self.affine(embedding)
            batch, channels = maps.shape[:2]
            grid = _sampling_grid(maps.flatten(0, 1), height, width, first_row)
            planes = _at_least_float32(blended).expand(batch, -1, -1, -1).reshape(batch * channels, 1, height, width)
            moved = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
        return moved.view(batch, channels, height - first_row, width).to(blended.dtype)

    def forward(self, feature: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Feature map [B, C, H, W] and embedding [B, embedding_dim] to the deformed map [B, C, H, W]."""
        return self.warp(self.blend(feature), embedding)


def make_audio_encoder(audio_channel: int) -> nn.Sequential:
    """Speech features [B, audio_channel, T] to [B, AUDIO_EMBEDDING_DIM, T'], whose mean over T' is the embedding."""
    return nn.Sequential(
        SameBlock(audio_channel, AUDIO_EMBEDDING_DIM, 5, 2, dims=1),
        ResBlock(AUDIO_EMBEDDING_DIM, AUDIO_EMBEDDING_DIM, 3, 1, dims=1),
        DownBlock(AUDIO_EMBEDDING_DIM, AUDIO_EMBEDDING_DIM, dims=1),
        ResBlock(AUDIO_EMBEDDING_DIM, AUDIO_EMBEDDING_DIM, 3, 1, dims=1),
        DownBlock(AUDIO_EMBEDDING_DIM, AUDIO_EMBEDDING_DIM, dims=1),
        SameBlock(AUDIO_EMBEDDING_DIM, AUDIO_EMBEDDING_DIM, 3, 1, dims=1),
    )


@dataclass(frozen=True)
class ReferenceFeatures:
    """Features of the reference crops for a generator in eval mode, constant over a video. Batch R is 1 or B."""

    features: torch.Tensor
    """[R, feature_channel, H/4, W/4]: after the first appearance blocks and AdaAT's depth blend."""
    trans: torch.Tensor
    """[R, feature_channel / 2, H/4, W/4]: the references' part of trans_conv's first convolution, without bias."""


class DINet(nn.Module):
    """The generator.

    Args:
        source_channel: channels of the source image.
        ref_channel: channels of all reference images.
        audio_channel: number of values per audio row (29 DeepSpeech, 80 mel).
        feature_channel: channels of the feature maps, a multiple of 4; 256 as published, fewer for a smaller network.
    """

    def __init__(
        self,
        source_channel: int = 3,
        ref_channel: int = 15,
        audio_channel: int = 29,
        feature_channel: int = FEATURE_CHANNELS,
    ):
        super().__init__()
        self.feature_channel = feature_channel
        half = feature_channel // 2
        self.source_in_conv = self._in_conv(source_channel, feature_channel)
        self.ref_in_conv = self._in_conv(ref_channel, feature_channel)
        self.trans_conv = nn.Sequential(
            SameBlock(2 * feature_channel, half, 3, 1),
            SameBlock(half, half, 11, 5),
            SameBlock(half, half, 11, 5),
            DownBlock(half, half),
            SameBlock(half, half, 7, 3),
            SameBlock(half, half, 7, 3),
            DownBlock(half, half),
            SameBlock(half, half, 3, 1),
            DownBlock(half, half),
            SameBlock(half, half, 3, 1),
            DownBlock(half, half),
        )
        self.audio_encoder = make_audio_encoder(audio_channel)
        self.max_audio_norm: float | None = None
        """Maximum norm of an audio embedding, set for inference; None: no limit, as published."""
        self.appearance_conv_list = nn.ModuleList(
            nn.Sequential(*(ResBlock(feature_channel, feature_channel, 3, 1) for _ in range(4))) for _ in range(2)
        )
        self.adaAT = AdaAT(half + AUDIO_EMBEDDING_DIM, feature_channel)
        self.out_conv = nn.Sequential(
            SameBlock(2 * feature_channel, half, 3, 1),
            UpBlock(half, half),
            ResBlock(half, half, 3, 1),
            UpBlock(half, half),
            nn.Conv2d(half, 3, 7, padding=3),
            nn.Sigmoid(),
        )

    @staticmethod
    def _in_conv(channels: int, features: int) -> nn.Sequential:
        return nn.Sequential(
            SameBlock(channels, features // 4, 7, 3),
            DownBlock(features // 4, features // 2),
            DownBlock(features // 2, features),
        )

    def forward(self, source: torch.Tensor, reference: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Inpaint the mouth.

        Args:
            source: masked crop, RGB in [0, 1], [B, source_channel, H, W]; the sizes are multiples of 4.
            reference: reference crops stacked on channels, RGB in [0, 1], [R, ref_channel, H, W]; R is B, or B / K
                where each set of references serves K successive images: its features are then computed once.
            audio: speech features around the frame, [B, audio_channel, T], any T.

        Returns:
            The face, RGB in (0, 1), [B, 3, H, W].
        """
        source_feature = self.source_in_conv(source)
        reference_feature = self.ref_in_conv(reference)
        blended = self.adaAT.blend(self.appearance_conv_list[0](reference_feature))
        repeats = len(source) // len(reference)
        if repeats > 1:
            reference_feature = reference_feature.repeat_interleave(repeats, 0)
            blended = blended.repeat_interleave(repeats, 0)
        image_embedding = self.trans_conv(torch.cat([source_feature, reference_feature], 1)).mean((2, 3))
        return self._render(source_feature, blended, image_embedding, audio)

    def encode_reference(self, reference: torch.Tensor) -> ReferenceFeatures:
        """Compute, in eval mode, everything that depends on the references only.

        Args:
            reference: [B, ref_channel, H, W], or [1, ref_channel, H, W] for all frames of a video, RGB in [0, 1].
        """
        self._require_eval()
        feature = self.ref_in_conv(reference)
        return ReferenceFeatures(
            features=self.adaAT.blend(self.appearance_conv_list[0](feature)),
            trans=self.trans_conv[0].partial(feature, self.feature_channel),
        )

    def generate(
        self, source: torch.Tensor, reference_features: ReferenceFeatures, audio: torch.Tensor, first_row: int = 0
    ) -> torch.Tensor:
        """The eval-mode result of `forward`, the references already encoded.

        Args:
            source: as for `forward`.
            reference_features: see encode_reference.
            audio: as for `forward`.
            first_row: a multiple of 4; what only rows above it depend on is not computed.

        Returns:
            Rows `first_row` to the last of the faces, [B, 3, H - first_row, W] in (0, 1).
        """
        self._require_eval()
        source_feature = self.source_in_conv(source)
        first = self.trans_conv[0]
        joint = first.partial(source_feature, 0) + reference_features.trans
        image_embedding = self.trans_conv[1:](first.activate(joint)).mean((2, 3))
        return self._render(source_feature, reference_features.features, image_embedding, audio, first_row)

    def _render(
        self,
        source_feature: torch.Tensor,
        blended: torch.Tensor,
        image_embedding: torch.Tensor,
        audio: torch.Tensor,
        first_row: int = 0,
    ) -> torch.Tensor:
        # Rows of the feature maps, four image rows each; every part needs its receptive field above the first row.
        first_visible = first_row // 4
        first_out = max(0, first_visible - OUT_RECEPTIVE_ROWS)
        first_deformed = max(0, first_out - APPEARANCE_RECEPTIVE_ROWS)
        audio_embedding = self.encode_audio(audio)
        deformed = self.adaAT.warp(blended, torch.cat([image_embedding, audio_embedding], 1), first_deformed)
        appearance = self.appearance_conv_list[1](deformed)[:, :, first_out - first_deformed :]
        face = self.out_conv(torch.cat([source_feature[:, :, first_out:], appearance], 1))
        return face[:, :, 4 * (first_visible - first_out) :]

    def encode_audio(self, audio: torch.Tensor) -> torch.Tensor:
        """Audio embedding [B, AUDIO_EMBEDDING_DIM] of speech features [B, audio_channel, T].

        Embeddings longer than `max_audio_norm` are scaled down to it: much longer ones than in the training make AdaAT
        move the lips over the nose.
        """
        embedding = self.audio_encoder(audio).mean(2)
        if self.max_audio_norm is None:
            return embedding
        norm = embedding.norm(dim=1, keepdim=True)
        return embedding * (self.max_audio_norm / norm.clamp(min=1e-6)).clamp(max=1)

    def _require_eval(self) -> None:
        if self.training:
            raise RuntimeError("references can be encoded ahead in eval mode only: batch norm needs the whole batch")
