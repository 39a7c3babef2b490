"""Image metrics of one row, collected batch by batch over its frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utils.evaluation.comparison import REGION_SLICES, REGIONS, region_of
from utils.evaluation.csim import cosine_similarity
from utils.evaluation.image_metrics import Flicker, ImageScores, compare, mean_scores, sharpness

if TYPE_CHECKING:  # these load PyTorch, which an evaluation without networks does not need
    from utils.evaluation.lpips_fid import FrechetDistance, PerceptualDistance

STRIP_IMAGES = 6
"""Frames of a row that its image strip shows."""


@dataclass(frozen=True)
class FaceView:
    """A face in one frame: crop uint8 [416, 320, 3]; embedding [128] where the identity was measured."""

    crop: np.ndarray
    embedding: np.ndarray | None


Pair = tuple[FaceView | None, FaceView | None]
"""True and scored face of one moment; None twice where the true video has no whole face."""


@dataclass(frozen=True)
class Measured:
    """Metrics of one frame and region; `scores` is None for cross-audio rows."""

    scores: ImageScores | None
    sharpness: float


class RowImages:
    """Collects the image metrics of one row. `measure` may run in another thread than `collect`.

    Args:
        same_audio: the images can be compared with the true ones.
        usable: frames with a whole true face, bool [N]; the strip's frames are spread over them.
        lpips: distance of image pairs, shared by all rows; None leaves it out.
        fids: by region, distance of image sets, shared by all clips of one kind of row; None leaves it out.
    """

    def __init__(
        self,
        same_audio: bool,
        usable: np.ndarray,
        lpips: "PerceptualDistance | None" = None,
        fids: "Mapping[str, FrechetDistance] | None" = None,
    ):
        self._same_audio = same_audio
        self._lpips = lpips if same_audio else None
        self._fids = fids
        frames = np.flatnonzero(usable)
        spread = np.linspace(0, len(frames) - 1, STRIP_IMAGES).round().astype(int) if len(frames) else []
        self._strip_frames = set(frames[spread].tolist()) if len(frames) else set()
        self.strip: list[tuple[np.ndarray, np.ndarray]] = []
        self.frames = 0
        """Frames collected so far."""
        self._similarities: list[float] = []
        self._scores: dict[str, list[ImageScores]] = {region: [] for region in REGIONS}
        self._sharpness: dict[str, list[float]] = {region: [] for region in REGIONS}
        self._flicker = {region: Flicker() for region in REGIONS}
        self._lpips_values: dict[str, list[tuple[float, int]]] = {region: [] for region in REGIONS}

    def measure(self, batch: Sequence[Pair]) -> list[dict[str, Measured] | None]:
        """Metrics of each frame by region; None where there is no face."""
        measured: list[dict[str, Measured] | None] = []
        for true, other in batch:
            if true is None:
                measured.append(None)
                continue
            scores: list[ImageScores | None] = [None] * len(REGIONS)
            if self._same_audio:
                scores = compare(true.crop, other.crop, [REGION_SLICES[region] for region in REGIONS])
            measured.append(
                {
                    region: Measured(score, sharpness(region_of(other.crop, region)))
                    for region, score in zip(REGIONS, scores, strict=True)
                }
            )
        return measured

    def collect(self, batch: Sequence[Pair], measured: Sequence[dict[str, Measured] | None]) -> None:
        """Take a batch, in order, with what `measure` returned for it."""
        for (true, other), figures in zip(batch, measured, strict=True):
            for region in REGIONS:
                self._flicker[region].add(None if other is None else region_of(other.crop, region))
            if figures is not None:
                for region, figure in figures.items():
                    self._sharpness[region].append(figure.sharpness)
                    if figure.scores is not None:
                        self._scores[region].append(figure.scores)
                if true.embedding is not None and other.embedding is not None:
                    self._similarities.append(cosine_similarity(true.embedding, other.embedding))
                if self.frames in self._strip_frames:
                    self.strip.append((true.crop, other.crop))
            self.frames += 1
        seen = [(true.crop, other.crop) for true, other in batch if true is not None]
        for region in REGIONS if seen else ():
            first = [region_of(true, region) for true, _ in seen]
            second = [region_of(other, region) for _, other in seen]
            if self._lpips is not None:
                self._lpips.add(first, second)
                self._lpips_values[region].append((self._lpips.value(), len(seen)))
            if self._fids is not None:
                self._fids[region].add(first, second)

    def values(self) -> dict[str, float]:
        """Means over the frames by column; FID is left to the evaluator, as it is that of all clips."""
        values: dict[str, float] = {}
        for region in REGIONS:
            if self._same_audio:
                mean = mean_scores(self._scores[region])
                values |= {f"{name}_{region}": getattr(mean, name) for name in ("psnr", "ssim", "ms_ssim", "l1")}
            if self._lpips_values[region]:
                distances, counts = zip(*self._lpips_values[region], strict=True)
                values[f"lpips_{region}"] = float(np.average(distances, weights=counts))
            values[f"sharpness_{region}"] = _mean(self._sharpness[region])
            values[f"flicker_{region}"] = _mean(self._flicker[region].values)
        values["csim"] = _mean(self._similarities)
        return values


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
