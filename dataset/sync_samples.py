"""Training samples of SyncNet: mouths with audio in sync and out of sync."""

import numpy as np
import torch

from dataset.manifest import Video
from dataset.samples import MARGIN, Samples, SampleSpec, draw_clip
from models.losses import CLIP_FRAMES, CLIP_LENGTH
from utils.errors import UserError

MIN_SHIFT, MAX_SHIFT = 5, 15
"""Frames by which audio is shifted against the mouth to make a negative of the same video."""
OTHER_VIDEO_FRACTION = 0.25
"""Fraction of easy negatives (audio of another video) in SyncNet's training; the others are time-shifted."""
NEGATIVES = 16
"""Audio windows out of sync per mouth clip in SyncNet's training; encoding them costs little."""


class SyncSamples(Samples):
    """SyncNet: the mouth in five frames, the audio of nine frames in sync with it, and audio windows that are not.

    A negative is the video's own audio, shifted by 5 to 15 frames, or that of another video (the fraction
    `other_video_fraction`, and all if a video is too short).
    Batches have mouths [B, 15, m, m], RGB in [0, 1], audio [B, channels, T] and negative_audio [B, `negatives`,
    channels, T].
    """

    _source_count = CLIP_FRAMES

    def __init__(
        self, *args, other_video_fraction: float = OTHER_VIDEO_FRACTION, negatives: int = NEGATIVES, **options
    ):
        super().__init__(*args, **options)
        self.other_video_fraction = other_video_fraction
        self.negatives = negatives
        only = self.videos[0]
        # In two clips of audio, every window of nine frames has five more frames before or after it.
        if len(self.videos) == 1 and len(only.speech) < 2 * CLIP_LENGTH * only.kind.rows_per_frame:
            raise UserError(
                f"{self.option}: {only.name}, its only video, is too short to shift the audio; prepare more videos"
            )

    def _draw(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        clip, first = draw_clip(video, rng)
        frame, step = first + MARGIN, video.kind.rows_per_frame
        if video.feature_path is not None:
            # With the audio of the whole video any five frames of the clip can be used, if the audio is long enough.
            start = video.first_rows[clip] + (first - MARGIN) * step
            last = len(video.speech) - CLIP_LENGTH * step
            fits = [i for i in range(2 * MARGIN + 1) if 0 <= start + i * step <= last]
            frame = first + int(rng.choice(fits or [MARGIN]))
        row = video.first_rows[clip] + (frame - MARGIN) * step
        paths = video.clips[clip].frame_paths[frame : frame + CLIP_FRAMES]
        windows = [(video, row), *self._negative_windows(video, row, rng)]
        audio = np.stack([video.speech_rows(row, CLIP_LENGTH * step) for video, row in windows])
        return SampleSpec(paths, {"audio": audio[0], "negative_audio": audio[1:]}, self._labels(windows, paths))

    def _labels(self, windows: list[tuple[Video, int]], paths: list[str]) -> dict[str, np.ndarray]:
        """Labels of the mouths and the audio windows, by name: none."""
        del windows, paths
        return {}

    def _negative_windows(self, video: Video, row: int, rng: np.random.Generator) -> list[tuple[Video, int]]:
        """Video and first row of each audio window that is out of sync with the one at `row`."""
        shifted = self._shifted_rows(video, row)
        others = [other for other in self.videos if other is not video]
        foreign = rng.random(self.negatives) < self.other_video_fraction if others else np.zeros(self.negatives, bool)
        if not shifted:
            foreign[:] = True
        windows = []
        for _ in range(foreign.sum()):
            other = others[rng.integers(len(others))]
            clip, first = draw_clip(other, rng)
            windows.append((other, other.first_rows[clip] + first * other.kind.rows_per_frame))
        own = self.negatives - len(windows)
        return windows + [(video, int(row)) for row in rng.choice(shifted, own, replace=own > len(shifted))]

    @staticmethod
    def _shifted_rows(video: Video, row: int) -> list[int]:
        """First rows of the windows of nine frames that are 5 to 15 frames before or after that at `row`."""
        step = video.kind.rows_per_frame
        last = len(video.speech) - CLIP_LENGTH * step
        shifts = [*range(-MAX_SHIFT, 1 - MIN_SHIFT), *range(MIN_SHIFT, MAX_SHIFT + 1)]
        return [row + shift * step for shift in shifts if 0 <= row + shift * step <= last]

    def _arrange(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        rows, columns = self.mouth
        return {"mouths": images[..., rows, columns].flatten(1, 2)}
