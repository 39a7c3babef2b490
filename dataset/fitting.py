"""Fitting DINet weights to the person of one video before it is dubbed: `inference.py --fit MINUTES`.

Trains on the crops and the speech of the video itself, held in memory. The frame stage's training step is used, with
frozen norms and a frozen audio encoder, and with the lip supervision for small data sets (docs/small_data.md).
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dataset.person_samples import PersonSamples, read_person
from models.audio_to_lips import AudioToLipShape
from models.discriminator import min_image_side
from models.lip_regressor import LipShapeRegressor
from utils.checkpoints import (
    AUDIO_ENCODER,
    LIP_REGRESSOR,
    Checkpoint,
    Metadata,
    load_network,
    read_checkpoint,
    write_checkpoint,
)
from utils.device import choose_device, cuda_half_dtype
from utils.distributed import DistInfo
from utils.dubbing.load import complete_metadata
from utils.dubbing.settings import SHIPPED_WEIGHTS, DubbingOptions, FitSettings, LoadSettings, default_weights
from utils.errors import UserError, blame, make_folder
from utils.face.analysis import analyze_video
from utils.face.crop_geometry import mouth_region, network_size
from utils.face.landmarks import LIP_SHAPE_VALUES
from utils.files import file_fingerprint
from utils.progress import Progress
from utils.speech.extractor import FeatureExtractor
from utils.training.build import make_dinet_networks
from utils.training.dinet_step import FrameStep
from utils.training.lip_supervision import LipSupervision
from utils.training.networks import TrainingNetworks
from utils.training.settings import LipSupervisionSettings, LossWeights, NetworkSettings, OptimisationSettings
from utils.training.signals import StopSignals, stop_signals
from utils.training.vgg_weights import load_perceptual_network

logger = logging.getLogger(__name__)

OPTION = "--fit"
BUNDLED = SHIPPED_WEIGHTS.parent
LOSS_WEIGHTS = LossWeights(
    lamb_perception=5,
    lamb_gan=0.1,
    lamb_l1=3,
    lamb_mouth=10,
    lip_focus=4,
    perception_region="mouth",
)
LIP_SUPERVISION = LipSupervisionSettings(lamb_lips=1, lip_amplitude=1.5, unpaired_audio=0.5)
LEARNING_RATE = 2e-4
WARMUP_STEPS = 30
"""Steps over which the learning rate rises: Adam's first steps have full size in noisy directions."""
EMA_DECAY = 0.98
REPORTS = 10
"""Reports on held-out frames, spread over the time of the fit."""
MIN_REPORT_SECONDS = 20
PATIENCE = 3
"""The fit ends after this many consecutive reports without a better result."""
HELD_OUT_FRAMES = 24


@dataclass
class FitState:
    """Progress of a fit: seconds, steps, the held-out loss before it and at its best; stored in checkpoints."""

    seconds: float = 0.0
    step: int = 0
    first: float = math.inf
    best: float = math.inf
    since_best: int = 0
    finished: bool = False

    @classmethod
    def of(cls, stored: dict[str, float | int | bool]) -> "FitState":
        """From the entries of a file.

        Raises:
            TypeError: unknown entries, or values that are not such numbers.
        """
        state = cls(**stored)
        wrong = [key for key, value in vars(cls()).items() if type(getattr(state, key)) is not type(value)]
        if wrong:
            raise TypeError(f"the entry {wrong[0]} is no {type(getattr(cls(), wrong[0])).__name__}")
        return state


class FitInterruptedError(Exception):
    """The fit was stopped; its progress is saved, and the next call continues from it."""


def fit_to_source(
    source: Path,
    settings: FitSettings,
    load: LoadSettings,
    options: DubbingOptions,
    progress: Progress,
    landmark_path: Path | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Path:
    """Fit weights to the person of a video, unless this was done before.

    Args:
        source: video of the person speaking.
        settings: how long, and where results are kept.
        load: the weights to start from, the device, where landmarks are kept.
        options: which face, and how it is cropped.
        progress: called as the work proceeds.
        landmark_path: OpenFace csv; None detects landmarks.
        stopped: called after every step; True ends the fit.

    Returns:
        The fitted weights, in `settings.fitted_dir`.

    Raises:
        UserError: unusable weights or video; no sound, no speech, too little of it.
        FitInterruptedError: `stopped` returned True.
    """
    weights = load.pretrained_clip_DINet_path or default_weights()
    make_folder(settings.fitted_dir, "--fitted_dir")
    result = fitted_path(source, weights, settings.fitted_dir, options.face)
    state, start = _read_state(result)
    if state.finished and (state.seconds >= 60 * settings.fit or state.since_best >= PATIENCE):
        logger.info(f"weights fitted before: {result}")
        return result
    device = choose_device(load.device)
    original = read_checkpoint(weights, "--pretrained_clip_DINet_path")
    checkpoint = original if start is None else start
    metadata = complete_metadata(load, checkpoint.metadata)
    with blame(OPTION):
        samples = _read_samples(source, landmark_path, metadata, load, options, progress, device)
    fit = _Fit(samples, metadata, load, device)
    fit.start(checkpoint, state, resume=start is not None and not state.finished)
    fit.run(60 * settings.fit, original.networks[original.averaged("net_g")], result, progress, stopped)
    return result


def fit_until_stopped(
    source: Path,
    settings: FitSettings,
    load: LoadSettings,
    options: DubbingOptions,
    progress: Progress,
    landmark_path: Path | None = None,
) -> Path:
    """As `fit_to_source`, for a script: Ctrl-C and SIGTERM save the progress and end the script.

    Before the first step, a signal ends the script as anywhere else: there is no progress to save.

    Raises:
        SystemExit: after such a signal, with status 130 or 143.
    """
    stop: StopSignals | None = None
    with contextlib.ExitStack() as stack:

        def stopped() -> bool:
            nonlocal stop
            stop = stop or stack.enter_context(stop_signals())
            return stop.received

        try:
            return fit_to_source(source, settings, load, options, progress, landmark_path, stopped)
        except FitInterruptedError:
            raise SystemExit(stop.status) from None


def fitted_path(source: Path, weights: Path, folder: Path, face: int | None = None) -> Path:
    """Path of the weights fitted to a video; named by the contents of the video and of the initial weights."""
    stem = source.stem.encode()[:100].decode(errors="ignore")  # file systems allow 255 bytes
    which = "" if face is None else f"_face{face}"
    return folder / f"{stem}_{file_fingerprint(source)}_{file_fingerprint(weights)}{which}.pth"


def _read_state(path: Path) -> tuple[FitState, Checkpoint | None]:
    """State and checkpoint of the fit in a file; a new state and None if there is none that can be read."""
    if not path.exists():
        return FitState(), None
    try:
        checkpoint = read_checkpoint(path, "--fitted_dir", whole=True)
        return FitState.of(checkpoint.extra["fit"]), checkpoint
    except (UserError, KeyError, TypeError) as error:
        logger.warning(f"{path} cannot be used ({error}); the fit starts again")
        return FitState(), None


def _read_samples(
    source: Path,
    landmark_path: Path | None,
    metadata: Metadata,
    load: LoadSettings,
    options: DubbingOptions,
    progress: Progress,
    device: torch.device,
) -> PersonSamples:
    extractor = FeatureExtractor(metadata.audio_feature, load.deepspeech_model_path, load.whisper_model)
    speech, duration = extractor.extract(source, OPTION)
    audio2lip_speech = None
    audio2lip_kind = read_checkpoint(BUNDLED / "audio_encoder.pth", OPTION).metadata.audio_feature
    if audio2lip_kind != metadata.audio_feature:
        audio2lip_speech, _ = FeatureExtractor(audio2lip_kind).extract(source, OPTION)
    video = analyze_video(source, landmark_path, load.landmark_dir, options.face, options.crop_radius, progress)
    person = read_person(video, metadata.mouth_region_size, speech, duration, progress, audio2lip_speech)
    return PersonSamples(person, options.seed, device)


class _Fit:
    """A fit: networks, training step and loop.

    Args:
        samples: of the person.
        metadata: of the generator, complete.
        load: channels of the network.
        device: where to train.
    """

    def __init__(self, samples: PersonSamples, metadata: Metadata, load: LoadSettings, device: torch.device):
        self._samples = samples
        self._metadata = metadata
        mouth = metadata.mouth_region_size
        large = mouth > 128
        slow = device.type == "cpu" and large
        self._sets, self._frames = (1, 2) if slow else (2, 3)
        self._held_out = samples.held_out_batches(HELD_OUT_FRAMES // 4 if slow else HELD_OUT_FRAMES, self._frames)
        networks = NetworkSettings(
            source_channel=load.source_channel,
            ref_channel=load.ref_channel,
            feature_channel=metadata.feature_channel,
            D_block_expansion=16,
            D_max_features=64,
            freeze_audio_encoder=True,
            freeze_norms=True,
        )
        gan = min(network_size(mouth)) >= min_image_side(networks.D_num_blocks)
        self._weights = LOSS_WEIGHTS if gan else replace(LOSS_WEIGHTS, lamb_gan=0)
        torch.manual_seed(0)
        self.networks = TrainingNetworks(
            make_dinet_networks(networks, metadata.audio_channel, max_audio_norm=metadata.max_audio_norm),
            {"net_g": LEARNING_RATE, "net_dI": LEARNING_RATE},
            OptimisationSettings(amp=_fastest_amp(device), clip_grad=1, channels_last=True, ema=EMA_DECAY),
            DistInfo(),
            device,
        )
        perceptual = load_perceptual_network(BUNDLED / "vgg16_relu3_1.pth", DistInfo())
        regressor = LipShapeRegressor()
        audio2lip_weights = read_checkpoint(BUNDLED / "audio_encoder.pth", OPTION)
        audio2lip = AudioToLipShape(audio2lip_weights.metadata.audio_channel, LIP_SHAPE_VALUES)
        load_network(regressor, read_checkpoint(BUNDLED / "mouth_reader.pth", OPTION), LIP_REGRESSOR, OPTION)
        load_network(audio2lip, audio2lip_weights, AUDIO_ENCODER, OPTION)
        self.step = FrameStep(
            self.networks,
            mouth_region(mouth),
            self._weights,
            perceptual,
            LipSupervision(LIP_SUPERVISION, regressor, audio2lip),
        )
        self.state = FitState()

    def start(self, checkpoint: Checkpoint, state: FitState, resume: bool) -> None:
        """Load the initial weights or, with `resume`, the state of an interrupted fit."""
        option = "--fitted_dir" if resume else "--pretrained_clip_DINet_path"
        if resume:
            self.networks.resume(checkpoint, option)
            self.state = state
            return
        load_network(self.networks.modules["net_g"], checkpoint, checkpoint.averaged("net_g"), option)
        self.networks.ema["net_g"].module.load_state_dict(self.networks.modules["net_g"].state_dict())
        self.state = replace(state, finished=False, since_best=0, best=math.inf)

    def run(
        self,
        budget: float,
        original: dict[str, torch.Tensor],
        result: Path,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        """Train for `budget` seconds, earlier runs included, and write the mean of best and `original` weights.

        The best weights alone have learnt this person's own words: the lips then follow other speech less.

        Raises:
            FitInterruptedError: `stopped` returned True; `result` then holds what the next run needs.
            UserError: a loss that is not finite.
        """
        state = self.state
        every = max(MIN_REPORT_SECONDS, budget / REPORTS)
        best_weights = None
        if not math.isfinite(state.first):
            state.first = self._held_out_loss()
        next_report = state.seconds + every
        first_step = state.step
        before = time.monotonic()
        while state.seconds < budget and state.since_best < PATIENCE:
            warm = min(1.0, (state.step - first_step + 1) / WARMUP_STEPS)
            self.networks.set_learning_rates(warm * min(1.0, max(0.05, 2 * (1 - state.seconds / budget))))
            losses = self.step(**self._samples.training_batch(state.step, self._sets, self._frames))
            self._check(losses)
            self.networks.update_ema()
            state.step += 1
            now = time.monotonic()
            state.seconds, before = state.seconds + now - before, now
            progress("fit, seconds", min(int(state.seconds), int(budget)), int(budget))
            if stopped():
                self._save(result)
                raise FitInterruptedError
            if state.seconds >= next_report or state.seconds >= budget:
                next_report += every
                best_weights = self._report(best_weights)
                self._save(result)
        state.finished = True
        self._write_result(result, original, best_weights)

    def _report(self, best_weights: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor] | None:
        """Evaluate the averaged weights on held-out frames; return the best weights so far.

        The weights before the fit are not among them: an image loss prefers blurred lips to sharp ones.
        """
        state, loss = self.state, self._held_out_loss()
        logger.info(
            f"fit: {state.seconds / 60:.1f} min, {state.step * self._sets * self._frames} frames, held-out loss "
            f"{loss:.3f} (before the fit: {state.first:.3f})"
        )
        if loss < state.best:
            state.best, state.since_best = loss, 0
            return self._copy_weights()
        state.since_best += 1
        return best_weights

    def _copy_weights(self) -> dict[str, torch.Tensor]:
        """A copy of the averaged weights."""
        weights = self.networks.eval_module("net_g").state_dict()
        return {name: value.detach().clone() for name, value in weights.items()}

    def _held_out_loss(self) -> float:
        """Image loss without the lip loss, whose target moves the lips further than they really move."""
        losses = []
        for batch in self._held_out:
            means = self.step.evaluate(**batch)
            losses.append(self._weights.lamb_mouth * means["mouth_l1"] + means["perception"])
        return torch.stack(losses).mean().item()

    @staticmethod
    def _check(losses: dict[str, torch.Tensor]) -> None:
        bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
        if bad:
            raise UserError(f"{OPTION}: the loss {bad[0]} is not finite; leave the option out and report this video")

    def _save(self, path: Path) -> None:
        write_checkpoint(
            path,
            self.networks.checkpoint_networks(),
            self.networks.checkpoint_optimizers(),
            1,
            self._metadata,
            {"fit": dict(vars(self.state))} | self.networks.checkpoint_extra(),
        )

    def _write_result(
        self, path: Path, original: dict[str, torch.Tensor], best_weights: dict[str, torch.Tensor] | None
    ) -> None:
        """Write the mean of the best weights, the current ones if None, and `original`; half precision if all fit."""
        weights = {
            name: (value + original[name].to(value)) / 2 if value.is_floating_point() else value
            for name, value in (best_weights or self.networks.eval_module("net_g").state_dict()).items()
        }
        half = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
        if all(torch.isfinite(value).all() for value in half.values()):
            weights = half
        write_checkpoint(path, {"net_g": weights}, {}, 1, self._metadata, {"fit": dict(vars(self.state))})
        logger.info(
            f"fit: {self.state.seconds / 60:.1f} min, held-out loss {self.state.first:.3f} to {self.state.best:.3f}: "
            f"{path}"
        )


def _fastest_amp(device: torch.device) -> str:
    """Mixed precision of the training, as --amp: bf16 or fp16 where the device has instructions for it, else off."""
    if device.type == "cuda":
        return "bf16" if cuda_half_dtype() == torch.bfloat16 else "fp16"
    with contextlib.suppress(AttributeError):
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return "bf16"
    return "off"
