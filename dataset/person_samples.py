"""Training samples of one person: crops and speech of a single video, in memory (dataset/fitting.py)."""

from dataclasses import dataclass

import numpy as np
import torch

from dataset.augmentation import augment_audio_features
from dataset.samples import REFERENCES
from utils.errors import UserError
from utils.face.analysis import AnalyzedVideo
from utils.face.crop import cut_face
from utils.face.crop_geometry import network_size
from utils.face.landmarks import lip_opening
from utils.progress import Progress
from utils.speech.features import SpeechFeatures

MAX_CROP_BYTES = 1 << 30
"""Maximum memory of the crops; of longer videos every second frame is used, or every third, and so on."""
MIN_SECONDS = 3.0
"""Minimum length of video with a face and audio."""
MIN_LIP_MOTION = 0.005
"""Minimum standard deviation of the lip opening, in eye distances, of a person who speaks. Speech has 0.02 or more; the
landmarks of a still face jitter by 0.002."""
BLOCK = 12
"""Successive frames that are held out together."""
HELD_OUT_EVERY = 8
"""One block in this number is held out."""
REFERENCE_GAP = 8
"""Minimum distance in frames of a reference from its source frames, if the video has enough frames."""


@dataclass(frozen=True)
class Person:
    """One person speaking.

    Attributes:
        crops: uint8 RGB [N, H, W, 3], at the network's size.
        times: float64 [N] seconds.
        openings: float [N], lip openings in eye distances.
        speech: features that the generator takes.
        audio2lip_speech: features that the lip supervision's audio network takes, if it takes another kind.
    """

    crops: torch.Tensor
    times: np.ndarray
    openings: np.ndarray
    speech: SpeechFeatures
    audio2lip_speech: SpeechFeatures | None = None


def read_person(
    video: AnalyzedVideo,
    mouth_region_size: int,
    speech: SpeechFeatures,
    duration: float,
    progress: Progress,
    audio2lip_speech: SpeechFeatures | None = None,
) -> Person:
    """Cut the crops of a video, as dubbing cuts them.

    Args:
        video: with its crop plan.
        mouth_region_size: side of the mouth region in pixels.
        speech: features of the video's own audio.
        duration: length of the audio in seconds; frames after its end are left out.
        progress: called as frames are read.
        audio2lip_speech: see Person.

    Raises:
        UserError: too little video with a face and audio, or lips that do not move.
    """
    reader, plan = video.reader, video.plan
    path, rate = reader.info.path, float(reader.info.rate)
    frames = np.flatnonzero((plan.weight == 1) & (reader.times < duration))
    if len(frames) < MIN_SECONDS * rate:
        raise UserError(
            f"{path} has {len(frames) / rate:.1f} s with a face and sound, and {MIN_SECONDS:g} s are needed to fit "
            "weights to a person; give a longer video"
        )
    openings = lip_opening(plan.points[frames])
    if openings.std() < MIN_LIP_MOTION:
        raise UserError(
            f"{path} has sound, but lips that do not move: nobody speaks in it; give a video of the person speaking"
        )
    height, width = network_size(mouth_region_size)
    step = -(-len(frames) * height * width * 3 // MAX_CROP_BYTES)
    frames, openings = frames[::step], openings[::step]
    crops = np.empty((len(frames), height, width, 3), np.uint8)
    for number, frame in enumerate(reader.play(int(frame) for frame in frames)):
        crops[number] = cut_face(frame.yuv, plan.box(frame.index), reader.info.colour).resized(height, width)
        progress("crops", number + 1, len(frames))
    return Person(torch.from_numpy(crops), reader.times[frames], openings, speech, audio2lip_speech)


class PersonSamples:
    """Batches of one person's frames.

    Each set of five references serves several source frames. One reference is drawn from each fifth of the lip
    openings, as dubbing chooses them, but not from the source frames' neighbours.

    Args:
        person: whose frames.
        seed: of all draws.
        device: where batches go.
    """

    def __init__(self, person: Person, seed: int, device: torch.device):
        self._person = person
        self._seed = seed
        self._device = device
        count = len(person.times)
        held_out = np.arange(count) // BLOCK % HELD_OUT_EVERY == HELD_OUT_EVERY // 2
        self.training_frames = np.flatnonzero(~held_out)
        self.held_out_frames = np.flatnonzero(held_out)
        order = self.training_frames[np.argsort(person.openings[self.training_frames], kind="stable")]
        self._fifths = np.array_split(order, REFERENCES)

    def training_batch(self, step: int, sets: int, frames: int) -> dict[str, torch.Tensor]:
        """The batch of a training step: `sets` sets of references, each with `frames` source frames.

        Returns:
            source [sets, frames, 3, H, W] and reference [sets, 15, H, W], RGB in [0, 1]; audio and, where there is an
            `audio2lip_speech`, audio2lip_audio [sets, frames, channels, T].
        """
        rng = np.random.default_rng((self._seed, step))
        count = min(frames, len(self.training_frames))
        chosen = [rng.choice(self.training_frames, count, replace=False) for _ in range(sets)]
        return self._batch(chosen, rng, augment=True)

    def held_out_batches(self, count: int, frames: int) -> list[dict[str, torch.Tensor]]:
        """Batches of at most `count` held-out frames in all, spread over the video; always the same."""
        rng = np.random.default_rng(self._seed)
        spread = np.linspace(0, len(self.held_out_frames) - 1, min(count, len(self.held_out_frames))).round()
        chosen = self.held_out_frames[spread.astype(int)]
        return [self._batch([chosen[i : i + frames]], rng, augment=False) for i in range(0, len(chosen), frames)]

    def _batch(self, chosen: list[np.ndarray], rng: np.random.Generator, augment: bool) -> dict[str, torch.Tensor]:
        person = self._person
        references = [self._references(frames, rng) for frames in chosen]
        batch = {
            "source": torch.stack([self._images(frames) for frames in chosen]),
            "reference": torch.stack([self._images(frames).flatten(0, 1) for frames in references]),
            "audio": self._windows(person.speech, chosen, rng if augment else None),
        }
        if person.audio2lip_speech is not None and augment:
            batch["audio2lip_audio"] = self._windows(person.audio2lip_speech, chosen)
        return batch

    def _references(self, sources: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Five training frames, one of each fifth of the lip openings."""
        references = []
        for fifth in self._fifths:
            far = fifth[(np.abs(fifth[:, None] - sources[None]) > REFERENCE_GAP).all(1)]
            references.append(rng.choice(far if len(far) else fifth))
        return np.array(references)

    def _images(self, frames: np.ndarray) -> torch.Tensor:
        """RGB in [0, 1], [n, 3, H, W]."""
        crops = self._person.crops[torch.from_numpy(frames)].to(self._device, non_blocking=True)
        return crops.permute(0, 3, 1, 2).float().div_(255)

    def _windows(
        self, speech: SpeechFeatures, chosen: list[np.ndarray], rng: np.random.Generator | None = None
    ) -> torch.Tensor:
        """Speech features around the chosen frames, [sets, frames, channels, T]; augmented with `rng`."""
        windows = np.stack([speech.window(self._person.times[frames]) for frames in chosen])
        if rng is not None:
            kind, flat = speech.kind.name, windows.reshape(-1, *windows.shape[-2:]).swapaxes(1, 2)
            changed = np.stack([augment_audio_features(window, rng, kind) for window in flat]).swapaxes(1, 2)
            windows = np.ascontiguousarray(changed.reshape(windows.shape), dtype=np.float32)
        return torch.from_numpy(windows).to(self._device, non_blocking=True)
