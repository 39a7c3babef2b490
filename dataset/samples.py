"""Training samples: which crops and which speech make one, and how a batch of them becomes the networks' input.

Every sample is drawn by a generator seeded with the run's seed, the epoch and the sample's index in it, so that it is
the same in every process, after every interruption.
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
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region

logger = logging.getLogger(__name__)

CLIP_LENGTH = 9
"""Frames of a clip, and slots of speech that SyncNet hears."""
CLIP_FRAMES = 5
"""Frames that SyncNet and the clip discriminator see, and slots of speech that the generator hears."""
MARGIN = (CLIP_LENGTH - CLIP_FRAMES) // 2
"""Slots of speech on each side of what is seen."""
REFERENCES = 5
MIN_SHIFT, MAX_SHIFT = 5, 15
"""Frames by which speech is shifted against the mouth to make a negative of the same video."""
OTHER_VIDEO_SHARE = 0.25
"""Share of SyncNet's training negatives that take the speech of another video: easier than shifted ones."""
NEGATIVES = 16
"""Stretches of speech that do not belong to a mouth, in SyncNet's training: hearing them costs little."""
MAX_RETRIES = 20
"""Samples in a row with an unreadable crop after which the data is taken to be unusable."""


@dataclass(frozen=True)
class SampleKey:
    """Names a sample: number `index` of the epoch takes video `index` modulo the number of videos."""

    epoch: int
    index: int


class SampleSpec(NamedTuple):
    """What a sample is made of: the crops' paths, and, by name, its speech float32 [..., T, channels] and labels."""

    paths: list[str]
    speech: dict[str, np.ndarray]
    labels: Mapping[str, np.ndarray] = MappingProxyType({})


def split_videos(videos: list[Video], share: float) -> tuple[list[Video], list[Video]]:
    """Split off the last `share` of every video's clips, rounded down: (what is left, what was split off)."""
    held = {video.name: int(len(video.clips) * share) for video in videos}
    rest = [replace(video, clips=video.clips[: len(video.clips) - held[video.name]]) for video in videos]
    parts = [
        replace(video, clips=video.clips[len(video.clips) - held[video.name] :]) for video in videos if held[video.name]
    ]
    return rest, parts


class VideoChoice:
    """Chooses the video of a sample.

    Args:
        videos: to choose from.
        length_power: a video with n clips is drawn with a probability in proportion to n ** length_power; with 0, each
            video as often as the others, as published.
    """

    def __init__(self, videos: list[Video], length_power: float = 0):
        self._videos = videos
        self._shares = None
        if length_power:
            weights = np.array([len(video.clips) for video in videos]) ** float(length_power)
            self._shares = weights / weights.sum()

    def __call__(self, key: SampleKey, seed: int) -> Video:
        """The video of the sample `key` in a run with this seed."""
        if self._shares is None:
            return self._videos[key.index % len(self._videos)]
        rng = np.random.default_rng((seed, key.epoch, key.index, MAX_RETRIES))
        return self._videos[rng.choice(len(self._videos), p=self._shares)]


class Samples:
    """What all kinds of samples share.

    Args:
        videos: at least one.
        crops: where pictures come from.
        mouth_region_size: side of the mouth region in pixels.
        seed: of the run.
        augment: "look" flips and recolours the pictures, "all" moves them, too, "none" leaves them.
        augment_audio: disturb the speech.
        option: command line option that `videos` came from, for error messages.
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
        """The videos with enough clips, clips of too few frames left out."""
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

        A UserError is returned, not raised: it has to come out of a loader process in one line.
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
            if attempt > MAX_RETRIES // 2:  # nothing of this video can be read, it seems
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
                speech = {name: self._disturb(values, video.kind.name, rng) for name, values in speech.items()}
            # [..., T, channels] to [..., channels, T], the networks' way.
            for name, values in speech.items():
                sample[name] = torch.from_numpy(np.ascontiguousarray(values.swapaxes(-1, -2)))
            if self.augment != "none":
                sample["look"] = sample_image_augment(rng, self.augment)
            return sample
        raise UserError(
            f"{self.option}: too many crops of it cannot be read, such as {problem}; "
            "run data_processing.py --crop_face and --generate_training_json again"
        )

    @staticmethod
    def _disturb(speech: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
        windows = speech.reshape(-1, *speech.shape[-2:])
        return np.stack([augment_audio_features(window, rng, kind) for window in windows]).reshape(speech.shape)

    def _report(self, problem: str) -> None:
        if problem not in self._reported:
            self._reported.add(problem)
            logger.warning(f"{problem}: another sample is taken in its place")

    def _draw(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        """Draw a sample of a video."""
        raise NotImplementedError

    def prepare(self, batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
        """Bring a batch to the device as what the training step takes."""
        pictures = self.crops.pictures(batch["crops"], device).permute(0, 1, 4, 2, 3).float().div_(255)
        if "look" in batch:
            pictures = apply_image_augment(pictures, batch["look"].to(device, non_blocking=True), self._source_count)
        others = {
            name: value.to(device, non_blocking=True) for name, value in batch.items() if name not in ("crops", "look")
        }
        return self._arrange(pictures) | others

    _source_count = 1

    def _arrange(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        """The step's picture arguments from float RGB [B, K, 3, H, W] in [0, 1]."""
        raise NotImplementedError


def draw_clip(video: Video, rng: np.random.Generator) -> tuple[int, int]:
    """A random clip of a video, and a random first frame for CLIP_LENGTH of its frames (0 in clips of that length)."""
    clip = int(rng.integers(len(video.clips)))
    return clip, int(rng.integers(len(video.clips[clip].frame_paths) - CLIP_LENGTH + 1))


def speech_window(video: Video, clip: int, frame: int, frames: int) -> np.ndarray:
    """Speech of `frames` frames of a clip from frame number `frame` on, float32 [frames * rows_per_frame, channels]."""
    rows = video.kind.rows_per_frame
    return video.speech_rows(video.first_rows[clip] + frame * rows, frames * rows)


class _ReferencedSamples(Samples):
    """Samples with references: five crops of other clips of the video (`may_repeat_source`: of any clip)."""

    def __init__(self, *args, may_repeat_source: bool = False, **options):
        self.may_repeat_source = may_repeat_source
        self.min_clips = 1 if may_repeat_source else 2
        super().__init__(*args, **options)

    def _few_clips_hint(self) -> str:
        return "" if self.may_repeat_source else " (or use --reference_may_repeat_source)"

    def _draw_references(self, video: Video, source: int, rng: np.random.Generator) -> list[str]:
        """References from as many different clips as there are, and different frames of a clip that serves twice."""
        clips = [clip for number, clip in enumerate(video.clips) if self.may_repeat_source or number != source]
        order = rng.permutation(len(clips))
        paths = []
        for turn, number in enumerate(order[:REFERENCES]):
            count = len(range(turn, REFERENCES, len(order)))
            frames = clips[number].frame_paths
            paths += [frames[frame] for frame in rng.choice(len(frames), count, replace=False)]
        return paths


class FrameSamples(_ReferencedSamples):
    """Frame stage: one source frame (of frames 2..6 of a clip), its five slots of speech, five references.

    Gives source [B, 3, H, W] and reference [B, 15, H, W], RGB in [0, 1], and audio [B, channels, T].

    Args:
        frames_per_sample: K source frames that share the references, of different clips where the video has enough;
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
        """Draw a sample of several source frames; no clip gives both a source and a reference if there are two."""
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
        return SampleSpec([*sources, *references], {"audio": np.stack(audio)})

    def _arrange(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        sources, references = pictures[:, : self._source_count], pictures[:, self._source_count :]
        return {"source": sources if self._source_count > 1 else sources[:, 0], "reference": references.flatten(1, 2)}


class ClipSamples(_ReferencedSamples):
    """Clip stage: frames 2..6 of a clip, each with its speech and five references, and the nine slots of the clip.

    Gives source [B, 5, 3, H, W] and reference [B, 5, 15, H, W], RGB in [0, 1], audio [B, 5, channels, T] and
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

    def _arrange(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        references = pictures[:, CLIP_FRAMES:].unflatten(1, (CLIP_FRAMES, REFERENCES))
        return {"source": pictures[:, :CLIP_FRAMES], "reference": references.flatten(2, 3)}


class SyncSamples(Samples):
    """SyncNet: the mouth in five frames, the nine slots of speech that belong to it, and stretches that do not.

    A negative is the video's own speech, shifted by 5 to 15 frames, or that of another video (`other_video_share` of
    them, and where a video is too short).
    Gives mouths [B, 15, m, m], RGB in [0, 1], audio [B, channels, T] and negative_audio [B, `negatives`, channels, T].
    """

    _source_count = CLIP_FRAMES

    def __init__(self, *args, other_video_share: float = OTHER_VIDEO_SHARE, negatives: int = NEGATIVES, **options):
        super().__init__(*args, **options)
        self.other_video_share = other_video_share
        self.negatives = negatives
        only = self.videos[0]
        # With two clips' worth of speech, every stretch of nine frames has another five frames before or after it.
        if len(self.videos) == 1 and len(only.speech) < 2 * CLIP_LENGTH * only.kind.rows_per_frame:
            raise UserError(
                f"{self.option}: {only.name}, its only video, is too short to shift the speech; prepare more videos"
            )

    def _draw(self, video: Video, rng: np.random.Generator) -> SampleSpec:
        clip, first = draw_clip(video, rng)
        frame, step = first + MARGIN, video.kind.rows_per_frame
        if video.feature_path is not None:
            # The whole video's speech is at hand: any five frames of the clip will do, if the speech goes that far.
            start = video.first_rows[clip] + (first - MARGIN) * step
            last = len(video.speech) - CLIP_LENGTH * step
            fits = [i for i in range(2 * MARGIN + 1) if 0 <= start + i * step <= last]
            frame = first + int(rng.choice(fits or [MARGIN]))
        row = video.first_rows[clip] + (frame - MARGIN) * step
        paths = video.clips[clip].frame_paths[frame : frame + CLIP_FRAMES]
        stretches = [(video, row), *self._negative_stretches(video, row, rng)]
        heard = np.stack([video.speech_rows(row, CLIP_LENGTH * step) for video, row in stretches])
        return SampleSpec(paths, {"audio": heard[0], "negative_audio": heard[1:]}, self._labels(stretches, paths))

    def _labels(self, stretches: list[tuple[Video, int]], paths: list[str]) -> dict[str, np.ndarray]:
        """What else is known of the mouths and the stretches of speech, by name."""
        del stretches, paths
        return {}

    def _negative_stretches(self, video: Video, row: int, rng: np.random.Generator) -> list[tuple[Video, int]]:
        """Video and first row of each of the stretches that do not belong to the one at `row`."""
        shifted = self._shifted_rows(video, row)
        others = [other for other in self.videos if other is not video]
        foreign = rng.random(self.negatives) < self.other_video_share if others else np.zeros(self.negatives, bool)
        if not shifted:
            foreign[:] = True
        stretches = []
        for _ in range(foreign.sum()):
            other = others[rng.integers(len(others))]
            clip, first = draw_clip(other, rng)
            stretches.append((other, other.first_rows[clip] + first * other.kind.rows_per_frame))
        own = self.negatives - len(stretches)
        return stretches + [(video, int(row)) for row in rng.choice(shifted, own, replace=own > len(shifted))]

    @staticmethod
    def _shifted_rows(video: Video, row: int) -> list[int]:
        """First rows of nine slots that lie 5 to 15 frames before or after those at `row`."""
        step = video.kind.rows_per_frame
        last = len(video.speech) - CLIP_LENGTH * step
        shifts = [*range(-MAX_SHIFT, 1 - MIN_SHIFT), *range(MIN_SHIFT, MAX_SHIFT + 1)]
        return [row + shift * step for shift in shifts if 0 <= row + shift * step <= last]

    def _arrange(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        rows, columns = self.mouth
        return {"mouths": pictures[..., rows, columns].flatten(1, 2)}
