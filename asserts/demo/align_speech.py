"""Align the speech of training videos with their lips: PYTHONPATH=. python asserts/demo/align_speech.py --help.

An audio encoder of train_audio_encoder.py predicts the opening of the lips from the speech. Where the prediction fits
the landmarks clearly better when it is shifted by two frames or more, the sound is out of step with the lips, as in
many videos from the web, and the training json is written with the speech shifted. Videos whose lips the speech does
not predict at any shift (dubbed, or more than one speaker) are left out.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from config.parser import ScriptParser
from dataset.lip_samples import read_lip_shapes
from dataset.manifest import Video, read_manifest, write_manifest
from models.audio_to_lips import AudioToLipShape
from utils.checkpoints import AUDIO_ENCODER, load_network, read_checkpoint
from utils.errors import UserError, run_script
from utils.face.landmarks import LIP_SHAPE_VALUES, opening_and_width
from utils.speech.features import SpeechFeatures

logger = logging.getLogger(__name__)

MAX_SHIFT = 8
"""Shifts tried, in frames, earlier and later."""
TRUSTED_SHIFTS = range(2, 6)
"""Shifts that are put right. A larger one is chance, and the encoder itself is not sure of a single frame."""
MIN_GAIN = 0.08
"""By how much the correlation has to be better than without a shift."""
MIN_FRAMES = 100
"""Shorter videos are left as they are: their best shift is chance."""
MIN_CORRELATION = 0.25


@dataclass(frozen=True)
class Alignment:
    """How lips and speech of a video agree: correlation without a shift, best one, at which shift in frames."""

    unshifted: float
    best: float
    shift: int
    frames: int

    @property
    def correction(self) -> int:
        """Frames to shift the speech by; 0 where there is no clear case for it."""
        clear = self.frames >= MIN_FRAMES and self.best - self.unshifted > MIN_GAIN
        return self.shift if clear and abs(self.shift) in TRUSTED_SHIFTS else 0

    @property
    def usable(self) -> bool:
        """Whether the speech predicts the lips, once it is shifted; short videos are given the benefit of the doubt."""
        return self.frames < MIN_FRAMES or (self.best if self.correction else self.unshifted) >= MIN_CORRELATION


def measure_alignment(openings: np.ndarray, predicted: np.ndarray) -> Alignment:
    """Compare openings of the lips [N] (NaN where unknown) with those predicted from the speech at their times [N]."""
    known = np.flatnonzero(np.isfinite(openings))
    shifts = np.arange(-MAX_SHIFT, MAX_SHIFT + 1)
    correlations = []
    for shift in shifts:
        frames = known[(known + shift >= 0) & (known + shift < len(predicted))]
        pair = openings[frames], predicted[frames + shift]
        varied = len(frames) > 2 and min(part.std() for part in pair) > 0
        correlations.append(float(np.corrcoef(*pair)[0, 1]) if varied else 0.0)
    best = int(np.argmax(correlations))
    return Alignment(correlations[MAX_SHIFT], correlations[best], int(shifts[best]), len(known))


@torch.no_grad()
def align(video: Video, encoder: AudioToLipShape, landmark_dirs: Sequence[Path]) -> Alignment:
    """Measure the alignment of a video with the speech of the whole video in a file of its own."""
    lips = read_lip_shapes(video, landmark_dirs)
    speech = SpeechFeatures(video.kind, np.asarray(video.speech, np.float32))
    windows = torch.from_numpy(speech.window(np.arange(len(lips)) / 25))
    predicted = torch.cat([encoder(part) for part in windows.split(512)]).numpy()
    return measure_alignment(opening_and_width(lips)[0], opening_and_width(predicted)[0])


def shift_speech(video: Video, frames: int) -> Video:
    """The video with each clip's speech taken so many frames later, without the clips for which there is none."""
    rows = video.kind.rows_per_frame
    clips = [replace(clip, first_row=clip.first_row + frames * rows) for clip in video.clips]
    last = len(video.speech)
    inside = [clip for clip in clips if clip.first_row >= 0 and clip.first_row + len(clip.frame_paths) * rows <= last]
    return replace(video, clips=inside)


def main() -> None:
    """Run the script."""
    parser = ScriptParser("Align the speech of training videos with their lips, and leave out those without agreement.")
    add = parser.add_argument
    add("--train_data", type=Path, required=True, help="training json")
    add("--audio_encoder", type=Path, required=True, help="audio encoder of train_audio_encoder.py")
    add(
        "--openface_landmark_dir",
        type=Path,
        nargs="+",
        required=True,
        help="folders of the videos' landmarks, NAME.csv",
    )
    add("--json_path", type=Path, required=True, help="training json to write")
    options = parser.parse_args()
    checkpoint = read_checkpoint(options.audio_encoder, "--audio_encoder")
    videos = read_manifest(options.train_data, "--train_data")
    if any(video.feature_path is None for video in videos):
        raise UserError("--train_data: only speech features in files of their own (mel, whisper) can be shifted")
    encoder = AudioToLipShape(videos[0].kind.channels, LIP_SHAPE_VALUES)
    load_network(encoder, checkpoint, AUDIO_ENCODER, "--audio_encoder")
    encoder.eval()
    aligned = []
    for video in videos:
        found = align(video, encoder, options.openface_landmark_dir)
        said = f"{video.name}: correlation {found.unshifted:.2f}, {found.best:.2f} at {found.shift} frames"
        if not found.usable:
            logger.info(f"{said}: left out")
            continue
        if found.correction:
            logger.info(f"{said}: shifted")
            video = shift_speech(video, found.correction)
        if video.clips:
            aligned.append(video)
    if not aligned:
        raise UserError(f"--train_data: the speech predicts the lips of no video in {options.train_data}; see the log")
    write_manifest(options.json_path, aligned)
    logger.info(f"{options.json_path}: {len(aligned)} of {len(videos)} videos")


if __name__ == "__main__":
    run_script(main)
