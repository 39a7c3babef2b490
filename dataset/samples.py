"""Training samples of the DINet stages: which crops and speech features make one, and how batches are assembled.

Every sample is drawn by a random generator seeded with the run's seed, the epoch and the sample's index in it: it is
the same in every process and after every interruption.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from dataset.augmentation import apply_image_augment, augment_audio_features, sample_image_augment
from dataset.crops import Crops, UnreadableCropError
from dataset.manifest import Video
from models.losses import CLIP_FRAMES, CLIP_LENGTH
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region

logger = logging.getLogger(__name__)

MARGIN = (CLIP_LENGTH - CLIP_FRAMES) // 2
"""Frames of audio on each side of the five frames whose images are used."""
REFERENCES = 5
MAX_RETRIES = 20
"""Give up after this many unreadable crops in a row."""


@dataclass(frozen=True)
class SampleKey:
    """Identifies a sample of an epoch."""

    epoch: int
    index: int


class SampleSpec(NamedTuple):
    """What a sample is made of: paths of the crops and, by name, speech features [..., T, channels] and labels."""

    paths: list[str]
    speech: dict[str, np.ndarray]
    labels: Mapping[str, np.ndarray] = MappingProxyType({})


def split_videos(videos: list[Video], fraction: float) -> tuple[list[Video], list[Video]]:
    """Split off the last `fraction` of every video's clips, rounded down: (remaining, split off)."""
    held = {video.name: int(len(video.clips) * fraction) for video in videos}
    rest = [replace(video, clips=video.clips[: len(video.clips) - held[video.name]]) for video in videos]
    parts = [
        replace(video, clips=video.clips[len(video.clips) - held[video.name] :]) for video in videos if held[video.name]
    ]
    return rest, parts


class VideoChoice:
    """Chooses the video of a sample.

    Args:
        videos: to choose from.
        length_power: a video with n clips is drawn with a probability proportional to n ** length_power; with 0 sample
            `index` takes video `index` modulo the number of videos, as published.
    """

    def __init__(self, videos: list[Video], length_power: float = 0):
        self._videos = videos
        self._probabilities = None
        if length_power:
            weights = np.array([len(video.clips) for video in videos]) ** float(length_power)
            self._probabilities = weights / weights.sum()

    def __call__(self, key: SampleKey, seed: int) -> Video:
        """The video of the sample `key` in a run with this seed."""
        if self._probabilities is None:
            return self._videos[key.index % len(self._videos)]
        rng = np.random.default_rng((seed, key.epoch, key.index, MAX_RETRIES))
        return self._videos[rng.choice(len(self._videos), p=self._probabilities)]


class Samples:
    """Base class of samples with images.

    Args:
        videos: at least one.
        crops: source of the images.
        mouth_region_size: side of the mouth region in pixels.
        seed: of the run.
        augment: "none", "color" (flips and colors) or "all" (shifts and zooms as well).
        augment_audio: augment the speech features.
        option: that named `videos`, for error messages.
        length_power: see VideoChoice.

    Raises:
        UserError: no video has the clips that a sample needs.
    """

    min_clips = 1

    def __init__(
        self,
        videos: list[Video],
        crops: Crops,
        mouth_region_size: int,
        seed: int,
        augment: str = "none",
        augment_audio: bool = False,
        option: str = "--train_data",
        length_power: float = 0,
    ):
        self.videos = self._usable(videos, option)
        self._choice = VideoChoice(self.videos, length_power)
        self.crops = crops
        self.mouth = mouth_region(mouth_region_size)
        self.seed = seed
        self.augment = augment
        self.augment_audio = augment_audio
        self.option = option
        self._reported: set[str] = set()

    def _usable(self, videos: list[Video], option: str) -> list[Video]:
        """The videos with enough clips, without clips of too few frames."""
        whole = [
            replace(video, clips=[clip for clip in video.clips if len(clip.frame_paths) >= CLIP_LENGTH])
            for video in videos
        ]
        usable = [video for video in whole if len(video.clips) >= self.min_clips]
        if not usable:
            raise UserError(
                f"{option}: no video has {self.min_clips} clips of {CLIP_LENGTH} frames, which a sample needs; "
                f"prepare longer videos{self._few_clips_hint()}"
            )
        left_out = [video.name for video in whole if len(video.clips) < self.min_clips]
        if left_out:
            logger.warning(
                f"{option}: {len(left_out)} of {len(videos)} videos have fewer than {self.min_clips} clips of "
                f"{CLIP_LENGTH} frames and are left out: {', '.join(left_out[:5])}{' ...' if left_out[5:] else ''}"
                f"{self._few_clips_hint()}"
            )
        return usable

    def _few_clips_hint(self) -> str:
        return ""

    def __getitem__(self, keys: Sequence[SampleKey]) -> dict[str, torch.Tensor] | UserError:
        """A batch: tensors with the samples on their first dimension.

        A UserError is returned, not raised, so that it comes out of a loader process in one line.
        """
        try:
            samples = [self._sample(key) for key in keys]
        except UserError as error:
            return error
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self, key: SampleKey) -> dict[str, torch.Tensor]:
        video = self._choice(key, self.seed)
        problem = ""
        for attempt in range(MAX_RETRIES):
            rng = np.random.default_rng((self.seed, key.epoch, key.index, attempt))
            if attempt > MAX_RETRIES // 2:  # this video seems to be unreadable
                video = self.videos[rng.integers(len(self.videos))]
            paths, speech, labels = self._draw(video, rng)
            try:
                sample = {"crops": self.crops.take(paths)}
            except UnreadableCropError as error:
                problem = str(error)
                self._report(problem)
                continue
            for name, values in labels.items():
                sample[name] = torch.from_numpy(values)
            if self.augment_audio:
                kind = video.kind.name
                speech = {name: self._augment_audio(values, kind, rng) for name, values in speech.items()}
            # [..., T, channels] to [..., channels, T], as the networks expect.
            for name, values in speech.items():
                sample[name] = torch.from_numpy(np.ascontiguousarray(values.swapaxes(-1, -2)))
            if self.augment != "none":
                sample["augment"] = sample_image_augment(rng, self.augment)
            return sample
        raise UserError(
            f"{self.option}: too many crops of it cannot be read, such as {problem}; "
            "run data_processing.py --crop_face and --generate_training_json again"
        )

    @staticmethod
    def _augment_audio(speech: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
        windows = speech.reshape(-1, *speech.shape[-2:])
        return np.stack([augment_audio_features(window, rng, kind) for window in windows]).reshape(speech.shape)

    def _report(self, problem: str) -> None:
        if problem not in self._reported:
            self._reported.add(problem)
            logger.warning(f"{problem}: replaced by another sample")

    def _draw(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        """Draw a sample of a video."""
        raise NotImplementedError

    def prepare(self, batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
        """Move a batch to the device, as the arguments of the training step."""
        images = self.crops.images(batch["crops"], device).permute(0, 1, 4, 2, 3).float().div_(255)
        if "augment" in batch:
            images = apply_image_augment(images, batch["augment"].to(device, non_blocking=True), self._source_count)
        others = {
            name: value.to(device, non_blocking=True)
            for name, value in batch.items()
            if name not in ("crops", "augment")
        }
        return self._arrange(images) | others

    _source_count = 1

    def _arrange(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The step's image arguments, from float RGB [B, K, 3, H, W] in [0, 1]."""
        raise NotImplementedError


def draw_clip(video: Video, rng: np.random.Generator) -> tuple[int, int]:
    """A random clip of a video, and a random first frame for CLIP_LENGTH of its frames (0 in clips of that length)."""
    clip = int(rng.integers(len(video.clips)))
    return clip, int(rng.integers(len(video.clips[clip].frame_paths) - CLIP_LENGTH + 1))


def speech_window(video: Video, clip: int, frame: int, frames: int) -> np.ndarray:
    """Speech features of `frames` frames of a clip from `frame` on, float32 [frames * rows_per_frame, channels]."""
    rows = video.kind.rows_per_frame
    return video.speech_rows(video.first_rows[clip] + frame * rows, frames * rows)


class _ReferencedSamples(Samples):
    """Samples with references: five crops of other clips of the video.

    Args:
        may_repeat_source: references may be of the source's own clip.
        still_references: fraction of sets of references that are one crop five times.
    """

    def __init__(self, *args, may_repeat_source: bool = False, still_references: float = 0, **options):
        self.may_repeat_source = may_repeat_source
        self._still_references = still_references
        self.min_clips = 1 if may_repeat_source else 2
        super().__init__(*args, **options)

    def _few_clips_hint(self) -> str:
        return "" if self.may_repeat_source else " (or use --reference_may_repeat_source)"

    def _draw_references(self, video: Video, source: int, rng: np.random.Generator) -> list[str]:
        """References from as many different clips as possible, and different frames of a clip that is used twice."""
        clips = [clip for number, clip in enumerate(video.clips) if self.may_repeat_source or number != source]
        order = rng.permutation(len(clips))
        paths = []
        for turn, number in enumerate(order[:REFERENCES]):
            count = len(range(turn, REFERENCES, len(order)))
            frames = clips[number].frame_paths
            paths += [frames[frame] for frame in rng.choice(len(frames), count, replace=False)]
        return self._perhaps_still(paths, rng)

    def _perhaps_still(self, references: list[str], rng: np.random.Generator) -> list[str]:
        if self._still_references and rng.random() < self._still_references:
            return references[:1] * REFERENCES
        return references


class FrameSamples(_ReferencedSamples):
    """Frame stage: one source frame (of frames 2..6 of a clip), audio of five frames, five references.

    Batches have source [B, 3, H, W] and reference [B, 15, H, W], RGB in [0, 1], and audio [B, channels, T].

    Args:
        frames_per_sample: K source frames that share the references, of different clips if the video has enough;
            with K above 1, source is [B, K, 3, H, W] and audio [B, K, channels, T].
    """

    def __init__(self, *args, frames_per_sample: int = 1, **options):
        self._source_count = frames_per_sample
        super().__init__(*args, **options)

    def _draw(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        if self._source_count > 1:
            return self._draw_several(video, rng)
        clip, first = draw_clip(video, rng)
        frame = first + MARGIN + int(rng.integers(CLIP_FRAMES))
        references = self._draw_references(video, clip, rng)
        audio = speech_window(video, clip, frame - CLIP_FRAMES // 2, CLIP_FRAMES)
        return SampleSpec([video.clips[clip].frame_paths[frame], *references], {"audio": audio})

    def _draw_several(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        """Draw a sample of several source frames; no clip has both a source and a reference if there are two."""
        order = [int(clip) for clip in rng.permutation(len(video.clips))]
        reference_clips = min(REFERENCES, max(1, len(order) - self._source_count))
        source_clips = order[reference_clips:] or order
        sources, references, audio = [], [], []
        for turn in range(self._source_count):
            clip = source_clips[turn % len(source_clips)]
            frame = MARGIN + int(rng.integers(len(video.clips[clip].frame_paths) - 2 * MARGIN))
            sources.append(video.clips[clip].frame_paths[frame])
            audio.append(speech_window(video, clip, frame - CLIP_FRAMES // 2, CLIP_FRAMES))
        for turn, clip in enumerate(order[:reference_clips]):
            count = len(range(turn, REFERENCES, reference_clips))
            frames = video.clips[clip].frame_paths
            references += [frames[frame] for frame in rng.choice(len(frames), count, replace=False)]
        references = self._perhaps_still(references, rng)
        return SampleSpec([*sources, *references], {"audio": np.stack(audio)})

    def _arrange(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        sources, references = images[:, : self._source_count], images[:, self._source_count :]
        return {"source": sources if self._source_count > 1 else sources[:, 0], "reference": references.flatten(1, 2)}


class ClipSamples(_ReferencedSamples):
    """Clip stage: frames 2..6 of a clip, each with its audio and five references, and the audio of all nine frames.

    Batches have source [B, 5, 3, H, W] and reference [B, 5, 15, H, W], RGB in [0, 1], audio [B, 5, channels, T] and
    clip_audio [B, channels, T'].
    """

    _source_count = CLIP_FRAMES

    def _draw(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        clip, first = draw_clip(video, rng)
        frames = range(first + MARGIN, first + MARGIN + CLIP_FRAMES)
        paths = [video.clips[clip].frame_paths[frame] for frame in frames]
        for _ in frames:
            paths += self._draw_references(video, clip, rng)
        speech = {
            "audio": np.stack([speech_window(video, clip, frame - CLIP_FRAMES // 2, CLIP_FRAMES) for frame in frames]),
            "clip_audio": speech_window(video, clip, first, CLIP_LENGTH),
        }
        return SampleSpec(paths, speech)

    def _arrange(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        references = images[:, CLIP_FRAMES:].unflatten(1, (CLIP_FRAMES, REFERENCES))
        return {"source": images[:, :CLIP_FRAMES], "reference": references.flatten(2, 3)}
