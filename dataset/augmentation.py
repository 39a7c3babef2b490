"""Augmentation of training samples that keeps the geometry: the mouth stays inside the masked square.

All images of a sample have the same flip and colors, since references must look like their source; source frames and
references are shifted and zoomed separately, as differently cropped clips are anyway.
"""

from dataclasses import astuple, dataclass

import numpy as np
import torch
import torch.nn.functional as F

GAIN = 0.2
"""Contrast and saturation are scaled by at most 1 +- this."""
OFFSET = 0.1
"""Maximum shift of the brightness, images being in [0, 1]."""
ZOOM = 0.03
"""Maximum zoom of a crop: half of what a tight crop leaves below the chin."""
SHIFT = 0.01
"""Maximum shift of a crop, as a fraction of its size."""
NOISE = 0.3
"""Standard deviation of noise on the speech features, in units of that of the window itself."""
TILT = 0.3
"""Standard deviation of the gain, and of the tilt from the lowest to the highest channel, in the same units."""
WARP = 0.08
"""Maximum of |log(factor)| by which mel channels are stretched: vocal tract length perturbation."""
MASKED_BANDS = 2
MASKED_CHANNELS, MASKED_ROWS = 0.3, 0.2
"""Maximum fraction of the channels, per band, and of the rows that is masked."""


@dataclass(frozen=True)
class ImageAugment:
    """Augmentation of the images of one sample."""

    flip: float
    contrast: float
    saturation: float
    brightness: float
    source_zoom: float
    source_x: float
    source_y: float
    reference_zoom: float
    reference_x: float
    reference_y: float


def sample_image_augment(rng: np.random.Generator, kind: str = "all") -> torch.Tensor:
    """A random ImageAugment as float32 [10], in the order of its fields; of kind "color" it moves nothing."""
    moves = []
    for _ in ("source", "reference"):
        moves += [1 - rng.uniform(0, ZOOM), *rng.uniform(-SHIFT, SHIFT, 2)]
    if kind == "color":
        moves = [1, 0, 0] * 2
    augment = ImageAugment(
        float(rng.random() < 0.5),
        1 + rng.uniform(-GAIN, GAIN),
        1 + rng.uniform(-GAIN, GAIN),
        rng.uniform(-OFFSET, OFFSET),
        *moves,
    )
    return torch.tensor(astuple(augment), dtype=torch.float32)


def apply_image_augment(images: torch.Tensor, augments: torch.Tensor, sources: int) -> torch.Tensor:
    """Augment the images of a batch.

    Args:
        images: float RGB [B, K, 3, H, W] in [0, 1].
        augments: [B, 10], see `sample_image_augment`.
        sources: number of the K images that are sources, which come first; the others are references.
    """
    augment = ImageAugment(*augments[:, :, None].unbind(1))  # each [B, 1]
    count = images.shape[1]
    is_source = (torch.arange(count, device=images.device) < sources)[None]

    def each(of_source: torch.Tensor, of_reference: torch.Tensor) -> torch.Tensor:
        return torch.where(is_source, of_source, of_reference)

    zoom = each(augment.source_zoom, augment.reference_zoom)
    maps = torch.zeros((*zoom.shape, 2, 3), device=images.device)
    maps[..., 0, 0] = zoom * (1 - 2 * augment.flip)
    maps[..., 1, 1] = zoom
    # A whole image is two units of grid coordinates.
    maps[..., 0, 2] = 2 * each(augment.source_x, augment.reference_x)
    maps[..., 1, 2] = 2 * each(augment.source_y, augment.reference_y)
    flat = images.flatten(0, 1)
    grid = F.affine_grid(maps.flatten(0, 1), list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode="border", align_corners=False).view_as(images)
    contrast, saturation, brightness = (
        value[..., None, None, None] for value in (augment.contrast, augment.saturation, augment.brightness)
    )
    colored = torch.lerp(moved.mean(2, keepdim=True), moved, saturation)
    return ((colored - 0.5) * contrast + 0.5 + brightness).clamp_(0, 1)


def augment_audio_features(speech: np.ndarray, rng: np.random.Generator, kind: str = "") -> np.ndarray:
    """SpecAugment-style augmentation of speech features float32 [T, channels]: gain, tilt, noise, masking by the mean.

    Of the `kind` "mel", whose channels are frequencies in order, also vocal tract length perturbation (Jaitly & Hinton
    2013): other formants. Strong, because on small data the audio encoder otherwise learns the speakers: trained on
    eight of them for three epochs, the lip opening that it predicts for other speakers correlated 0.50 with the true
    one, without augmentation 0.40.
    """
    rows, channels = speech.shape
    if kind == "mel":
        speech = _warp_channels(speech, float(np.exp(rng.uniform(-WARP, WARP))))
    level, slope = TILT * rng.standard_normal(2)
    offset = level + slope * np.linspace(-1, 1, channels) + NOISE * rng.standard_normal(speech.shape)
    changed = speech + (speech.std() * offset).astype(np.float32)
    for _ in range(MASKED_BANDS):
        changed[:, _random_span(channels, MASKED_CHANNELS, rng)] = speech.mean()
    changed[_random_span(rows, MASKED_ROWS, rng)] = speech.mean()
    return changed


def _warp_channels(speech: np.ndarray, factor: float) -> np.ndarray:
    """Channel c of the result is channel c * factor of `speech`, interpolated; the last one is repeated."""
    channels = speech.shape[1]
    position = np.minimum(np.arange(channels) * factor, channels - 1)
    below = position.astype(int)
    fraction = (position - below).astype(np.float32)
    return speech[:, below] * (1 - fraction) + speech[:, np.minimum(below + 1, channels - 1)] * fraction


def _random_span(length: int, fraction: float, rng: np.random.Generator) -> slice:
    """A random slice of 0 .. length, at most this fraction of it."""
    width = int(rng.integers(0, int(length * fraction) + 1))
    first = int(rng.integers(0, length - width + 1))
    return slice(first, first + width)
