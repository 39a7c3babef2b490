"""Samples with lip-landmark labels: for the lip regressors, and for SyncNet on small data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dataset.augmentation import augment_audio_features
from dataset.manifest import Video
from dataset.samples import SampleKey, Samples, SampleSpec, VideoChoice
from dataset.sync_samples import SyncSamples
from models.losses import CLIP_FRAMES, CLIP_LENGTH
from utils.errors import UserError, blame
from utils.face.landmarks import absolute_lip_shapes, follow_face, lip_shapes, opening_and_width
from utils.face.openface_csv import read_openface_csv

LANDMARK_OPTION = "--openface_landmark_dir"


class LipSamples:
    """Speech features of five frames and the lip shape in the middle one; without images.

    Batches have audio [B, channels, T] and lips [B, LIP_SHAPE_VALUES]. For `dataset.loading.Batches`.

    Args:
        videos: of the training json; each must have landmarks.
        seed: of the run.
        landmark_dirs: folders with the videos' landmarks, NAME.csv in OpenFace's layout.
        augment_audio: augment the speech features.
        length_power: see VideoChoice.

    Raises:
        UserError: landmarks that are missing or unfit.
    """

    def __init__(
        self,
        videos: list[Video],
        seed: int,
        landmark_dirs: Sequence[Path],
        augment_audio: bool = False,
        length_power: float = 0,
    ):
        self.videos = [video for video in videos if video.clips]
        self._choice = VideoChoice(self.videos, length_power)
        self.seed = seed
        self.augment_audio = augment_audio
        self._lips, self._labelled_frames = {}, {}
        for video in self.videos:
            lips = read_lip_shapes(video, landmark_dirs)
            frames = [(frame, row) for frame, row in _labelled_frames(video) if frame < len(lips)]
            frames = [(frame, row) for frame, row in frames if np.isfinite(lips[frame]).all()]
            if not frames:
                raise _no_landmarks(video)
            self._lips[video.name], self._labelled_frames[video.name] = lips, frames

    def __getitem__(self, keys: Sequence[SampleKey]) -> dict[str, torch.Tensor] | UserError:
        """A batch: tensors with the samples on their first dimension; errors are returned, as by `Samples`."""
        try:
            samples = [self._sample(key) for key in keys]
        except UserError as error:
            return error
        audio, lips = zip(*samples, strict=True)
        return {
            "audio": torch.from_numpy(np.ascontiguousarray(np.stack(audio).swapaxes(1, 2))),
            "lips": torch.from_numpy(np.stack(lips)),
        }

    def _sample(self, key: SampleKey) -> tuple[np.ndarray, np.ndarray]:
        video = self._choice(key, self.seed)
        rng = np.random.default_rng((self.seed, key.epoch, key.index))
        frames = self._labelled_frames[video.name]
        frame, row = frames[rng.integers(len(frames))]
        speech = video.speech_rows(row, CLIP_FRAMES * video.kind.rows_per_frame)
        if self.augment_audio:
            speech = augment_audio_features(speech, rng, video.kind.name)
        return speech, self._lips[video.name][frame]

    def prepare(self, batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
        """Move a batch to the device."""
        return {name: value.to(device, non_blocking=True) for name, value in batch.items()}


class MouthSamples(Samples):
    """A mouth image with its lip opening and width.

    Batches have mouths [B, 3, m, m], RGB in [0, 1], and lips [B, 2], opening and width, without subtracting the
    person's resting shape.

    Args:
        landmark_dirs: see LipSamples.
    """

    def __init__(self, *args, landmark_dirs: Sequence[Path], **options):
        super().__init__(*args, **options)
        self._lips: dict[str, np.ndarray] = {}
        self._paths: dict[str, list[str]] = {}
        for video in self.videos:
            lips = _measures(absolute_lip_shapes(read_points(video, landmark_dirs)))
            known = {frame for frame in range(len(lips)) if np.isfinite(lips[frame]).all()}
            paths = [path for clip in video.clips for path in clip.frame_paths if _frame_number(path) in known]
            if not paths:
                raise _no_landmarks(video)
            self._lips[video.name], self._paths[video.name] = lips, paths

    def _draw(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        path = self._paths[video.name][rng.integers(len(self._paths[video.name]))]
        return SampleSpec([path], {}, {"lips": self._lips[video.name][_frame_number(path)]})

    def _arrange(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        rows, columns = self.mouth
        return {"mouths": images[:, 0, :, rows, columns]}


class LipSyncSamples(SyncSamples):
    """SyncSamples with the lip motion: opening and width in five frames, minus their mean.

    Batches also have lips [B, 10], for the mouths' frames, and audio_lips [B, 1 + negatives, 10], for the frames that
    each audio window belongs to, that in sync first; NaN where unknown.

    Args:
        landmark_dirs: see LipSamples.
    """

    def __init__(self, *args, landmark_dirs: Sequence[Path], **options):
        super().__init__(*args, **options)
        self._measures = {video.name: _measures(read_lip_shapes(video, landmark_dirs)) for video in self.videos}

    def _labels(self, windows: list[tuple[Video, int]], paths: list[str]) -> dict[str, np.ndarray]:
        (video, own_row), frame = windows[0], _frame_number(paths[0])
        motions = [self._motion(video, frame)]
        for other, row in windows[1:]:
            # With the speech of the whole video, a row further is a frame further.
            steps, rest = divmod(row - own_row, video.kind.rows_per_frame)
            known = other is video and video.feature_path is not None and not rest
            motions.append(self._motion(video, frame + steps) if known else np.full_like(motions[0], np.nan))
        return {"lips": motions[0], "audio_lips": np.stack(motions)}

    def _motion(self, video: Video, frame: int) -> np.ndarray:
        """Lip opening and width in five frames, minus their mean, float32 [10]; NaN where unknown."""
        measures = self._measures[video.name][max(frame, 0) : frame + CLIP_FRAMES]
        if len(measures) < CLIP_FRAMES or frame < 0:
            return np.full(2 * CLIP_FRAMES, np.nan, np.float32)
        return (measures - measures.mean(0)).ravel()


def _no_landmarks(video: Video) -> UserError:
    return UserError(
        f"{LANDMARK_OPTION}: no frame of {video.name}'s clips has landmarks; detect them again, or leave the video out"
    )


def _labelled_frames(video: Video) -> list[tuple[int, int]]:
    """Frame numbers from the video's first clip to its last, each with the first row of its speech features.

    Frames without a crop are included if the speech features of the whole video are known.
    """
    starts = [
        (_frame_number(clip.frame_paths[0]), row) for clip, row in zip(video.clips, video.first_rows, strict=True)
    ]
    step, before = video.kind.rows_per_frame, CLIP_FRAMES // 2
    if video.feature_path is None:
        inside = range(before, CLIP_LENGTH - before)
        return [(frame + i, row + (i - before) * step) for frame, row in starts for i in inside]
    (first, first_row), (last, _) = starts[0], starts[-1]
    rows = {frame: first_row + (frame - first - before) * step for frame in range(first, last + CLIP_LENGTH)}
    end = len(video.speech) - CLIP_FRAMES * step
    return [(frame, row) for frame, row in rows.items() if 0 <= row <= end]


def read_lip_shapes(video: Video, folders: Sequence[Path]) -> np.ndarray:
    """Lip shapes of all frames of a video; see lip_shapes and read_points."""
    return lip_shapes(read_points(video, folders))


def read_points(video: Video, folders: Sequence[Path]) -> np.ndarray:
    """The 68 landmarks of all frames of a video, [N, 68, 2], from its csv in one of the folders.

    Raises:
        UserError: there is none, or none that can be read.
    """
    path = next((path for path in (folder / f"{video.name}.csv" for folder in folders) if path.is_file()), None)
    if path is None:
        raise UserError(
            f"{LANDMARK_OPTION}: there is no {video.name}.csv in {', '.join(map(str, folders))}; "
            "run data_processing.py --detect_landmark"
        )
    with blame(LANDMARK_OPTION, "where there is no csv, data_processing.py --detect_landmark makes one"):
        return follow_face(read_openface_csv(path))


def _measures(shapes: np.ndarray) -> np.ndarray:
    """Opening and width of the lips, [..., 2], from lip shapes [..., LIP_SHAPE_VALUES]."""
    return np.stack(opening_and_width(shapes), -1)


def _frame_number(path: str) -> int:
    """The frame that a crop is of, from its name.

    Raises:
        UserError: its name is no number.
    """
    stem = Path(path).stem
    if not (stem.isascii() and stem.isdecimal()) or len(stem) > 9:
        raise UserError(f"--train_data: crop {path!r} is not named by its frame number; make the json again")
    return int(stem)
