"""Scores one video against another: the true one, whose faces say where to look."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from utils.errors import UserError, blame
from utils.evaluation.csim import FaceIdentity, cosine_similarity
from utils.evaluation.image_metrics import Flicker, compare, mean_scores, sharpness
from utils.evaluation.lip_metrics import compare_openings, landmark_distance, lips_and_sound
from utils.evaluation.lpips_fid import FrechetDistance, PerceptualDistance
from utils.evaluation.lse import LipSyncErrorJudge
from utils.evaluation.sync_confidence import SyncJudge
from utils.face.analysis import AnalyzedVideo, NoFaceError, analyze_video
from utils.face.crop import cut_face
from utils.face.crop_geometry import CropBox, mouth_region, network_size
from utils.face.crop_plan import CropPlan
from utils.face.landmarks import POINTS, lip_opening
from utils.media.audio import check_not_silent, load_waveform
from utils.media.video_reader import VideoReader
from utils.pipeline import StageTimer, batched, in_background
from utils.speech.extractor import FeatureExtractor
from utils.speech.features import AUDIO_FRAME_RATE
from utils.speech.mel import mel_features

logger = logging.getLogger(__name__)

MOUTH_REGION_SIZE = 256
"""All pictures are compared as crops of this mouth region, 416 x 320 pixels, so that videos of all sizes compare."""
SELF, CROSS = "self", "cross"
"""Tasks of clips that were dubbed here: with their own words, and with other ones."""
REGIONS = ("crop", "mouth")
_SLICES = {"crop": (slice(None), slice(None)), "mouth": mouth_region(MOUTH_REGION_SIZE)}
STRIP_PICTURES = 6
IDENTITY_SECONDS = 2.0
"""Time between two looks at the identity: dlib's network is slow, and people change slowly."""
MOST_EXTRA_SECONDS, MOST_EXTRA_SHARE = 0.5, 0.05
"""Lengths that differ by more than both are taken for different videos."""
MOST_STRETCH = 0.02
"""Aspect ratios may differ by this share, the rounding to even sizes."""
_BATCH = 8
_QUEUED = 2


@dataclass(frozen=True)
class Comparison:
    """One video to score.

    `clip` names it, `row` says what it is ("truth", "dubbed", ...) and `task` how it came about. `sound` is a file
    with the speech that the lips should follow, None where there is none. `same_words` is False where the true video
    says something else, so that its pictures are no yardstick; `driver` may then be a video whose lips say the words.
    """

    clip: str
    task: str
    row: str
    generated: Path
    reference: Path
    sound: Path | None
    same_words: bool = True
    driver: Path | None = None
    generated_option: str = "--generated"
    reference_option: str = "--reference"


@dataclass(frozen=True)
class Scores:
    """Figures of one comparison by column, NaN where undefined, and what the pictures of the report are made of."""

    comparison: Comparison
    frames: int
    values: dict[str, float]
    strip: list[tuple[np.ndarray, np.ndarray]] = field(repr=False)
    """Face crops, true and scored, uint8 [416, 320, 3]."""
    openings: tuple[np.ndarray, np.ndarray] = field(repr=False)
    """Lip openings over time, true and scored."""
    rate: Fraction = Fraction(AUDIO_FRAME_RATE)
    curves: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """Scores over the shift of the sound, by the name of their measure."""


@dataclass(frozen=True)
class _View:
    """A face in one frame: crop uint8 [416, 320, 3]; embedding where the identity was looked at."""

    crop: np.ndarray
    embedding: np.ndarray | None


@dataclass(frozen=True)
class _Alignment:
    """Which frames of two videos belong together: int [N] each, at `rate`; `scale` (x, y) is generated to true size."""

    reference: np.ndarray
    generated: np.ndarray
    rate: Fraction
    scale: tuple[float, float]


@dataclass
class Instruments:
    """Networks that not every evaluation has. `fid` is by (task, row, region)."""

    sync: SyncJudge | None = None
    sync_features: FeatureExtractor | None = None
    lse: LipSyncErrorJudge | None = None
    lpips: PerceptualDistance | None = None
    make_fid: Callable[[], FrechetDistance] | None = None
    fid: dict[tuple[str, str, str], FrechetDistance] = field(default_factory=dict)


class Evaluator:
    """Scores videos, one after the other.

    Args:
        instruments: optional networks.
        landmark_dir: where landmarks are kept.
        clock: receives the busy seconds of each stage.
    """

    def __init__(self, instruments: Instruments, landmark_dir: Path | None, clock: StageTimer | None = None):
        self.instruments = instruments
        self.clock = clock or StageTimer()
        self._identity = FaceIdentity()
        self._identity_lock = threading.Lock()  # dlib's network is one object for the threads of both videos
        self._embeddings: dict[tuple[Path, int], np.ndarray | None] = {}
        self._landmark_dir = landmark_dir
        self._prepared = lru_cache(maxsize=3)(self._analyze)

    def _analyze(self, path: Path, option: str) -> AnalyzedVideo:
        with blame(option):
            return analyze_video(path, landmark_dir=self._landmark_dir, timer=self.clock)

    def score(self, comparison: Comparison, progress: Callable[[int, int], None] | None = None) -> Scores:
        """Score one video; memory does not grow with its length but for the landmarks and a few numbers a frame.

        Args:
            comparison: what to score.
            progress: called with frames done and their total.

        Raises:
            UserError: videos that cannot be read, without a face, or that do not belong together.
        """
        reference = self._prepared(comparison.reference, comparison.reference_option)
        same = comparison.generated == comparison.reference
        generated = reference if same else self._dub(comparison)
        alignment = align(reference.reader, generated.reader, comparison)
        values, strip = self._pictures(comparison, reference, generated, alignment, progress)

        width, height = alignment.scale
        true = reference.plan.points[alignment.reference]
        other = generated.plan.points[alignment.generated] / np.array([width, height], np.float32)
        curves: dict[str, np.ndarray] = {}
        if comparison.same_words:
            opening = compare_openings(true, other)
            values["lmd_all"], values["lmd_mouth"] = landmark_distance(true, other)
            values["opening_correlation"], values["opening_lag"] = opening.unshifted, opening.lag
        elif comparison.driver is not None:
            values["opening_correlation"], values["opening_lag"] = self._against_driver(comparison, generated)
        if comparison.sound is not None:
            self._score_sound(comparison, generated, values, curves)
        openings = lip_opening(true), lip_opening(other)
        return Scores(comparison, len(alignment.reference), values, strip, openings, alignment.rate, curves)

    def _against_driver(self, comparison: Comparison, generated: AnalyzedVideo) -> tuple[float, float]:
        """Correlation and lag of the lip openings with those of the one who spoke the words, moment by moment."""
        try:
            driver = self._prepared(comparison.driver, comparison.reference_option)
        except NoFaceError as error:
            logger.warning(f"{error}: the dub's lips are not compared with it")
            return float("nan"), float("nan")
        rate = min(driver.reader.info.rate, generated.reader.info.rate)
        spoken, dubbed = (video.plan.points[video.reader.timeline(rate)] for video in (driver, generated))
        common = min(len(spoken), len(dubbed))
        opening = compare_openings(spoken[:common], dubbed[:common])
        return opening.unshifted, opening.lag

    def _dub(self, comparison: Comparison) -> AnalyzedVideo:
        """The scored video. One without a face is a bad dub, not a mistake: its pictures still have scores."""
        try:
            return self._prepared(comparison.generated, comparison.generated_option)
        except NoFaceError as error:
            logger.warning(f"{error}: what needs its landmarks is left empty")
        reader = VideoReader(comparison.generated, comparison.generated_option)
        count = len(reader.times)
        points = np.full((count, POINTS, 2), np.nan, np.float32)
        plan = CropPlan(points, np.zeros(count, int), np.zeros(count, np.float32))
        return AnalyzedVideo(reader, plan, np.zeros(1, int))

    def _pictures(
        self,
        comparison: Comparison,
        reference: AnalyzedVideo,
        generated: AnalyzedVideo,
        alignment: _Alignment,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[dict[str, float], list[tuple[np.ndarray, np.ndarray]]]:
        """Everything that is seen in the pictures, in one pass over both videos."""
        count = len(alignment.reference)
        usable = np.flatnonzero(reference.plan.weight[alignment.reference] == 1)
        chosen = set(usable[np.linspace(0, len(usable) - 1, STRIP_PICTURES).round().astype(int)]) if len(usable) else {}
        strip, similarities = [], []
        scores = {region: [] for region in REGIONS}
        sharp = {region: [] for region in REGIONS}
        flicker = {region: Flicker() for region in REGIONS}
        fids = self._fids(comparison)
        lpips = self.instruments.lpips if comparison.same_words else None
        lpips_values: dict[str, list[tuple[float, int]]] = {region: [] for region in REGIONS}
        done = 0

        def judge(batch: list[tuple[_View | None, _View | None]]) -> list:
            """Scores of a batch's pictures by region; runs beside the decoding."""
            judged = []
            for true, other in batch:
                if true is None:
                    judged.append(None)
                    continue
                scores = [None] * len(REGIONS)
                if comparison.same_words:
                    scores = compare(true.crop, other.crop, [_SLICES[region] for region in REGIONS])
                judged.append(
                    {
                        region: (score, sharpness(part(other.crop, region)))
                        for region, score in zip(REGIONS, scores, strict=True)
                    }
                )
            return judged

        pairs = self._pairs(reference, generated, alignment)
        with contextlib.closing(pairs):
            batches = in_background(batched(pairs, _BATCH), _QUEUED)
            judged_batches = in_background(
                self.clock.apply("figures", lambda batch: (batch, judge(batch)), batches), _QUEUED
            )
            with contextlib.closing(judged_batches):
                for batch, judged in judged_batches:
                    seen = [(true.crop, other.crop) for true, other in batch if true is not None]
                    for (true, other), figures in zip(batch, judged, strict=True):
                        for region in REGIONS:
                            flicker[region].add(None if other is None else part(other.crop, region))
                        if figures is not None:
                            for region, (score, sharp_value) in figures.items():
                                sharp[region].append(sharp_value)
                                if score is not None:
                                    scores[region].append(score)
                            if true.embedding is not None and other.embedding is not None:
                                similarities.append(cosine_similarity(true.embedding, other.embedding))
                            if done in chosen:
                                strip.append((true.crop, other.crop))
                        done += 1
                    for region in REGIONS if seen else ():
                        first = [part(true, region) for true, _ in seen]
                        second = [part(other, region) for _, other in seen]
                        if lpips is not None:
                            lpips.add(first, second)
                            lpips_values[region].append((lpips.value(), len(seen)))
                        if fids is not None:
                            fids[region].add(first, second)
                    if progress is not None:
                        progress(done, count)
        values: dict[str, float] = {}
        for region in REGIONS:
            if comparison.same_words:
                mean = mean_scores(scores[region])
                values |= {f"{name}_{region}": getattr(mean, name) for name in ("psnr", "ssim", "ms_ssim", "l1")}
            if lpips_values[region]:
                distances, counts = zip(*lpips_values[region], strict=True)
                values[f"lpips_{region}"] = float(np.average(distances, weights=counts))
            values[f"sharpness_{region}"] = _mean(sharp[region])
            values[f"flicker_{region}"] = _mean(flicker[region].values)
        values["csim"] = _mean(similarities)
        return values, strip

    def _pairs(
        self, reference: AnalyzedVideo, generated: AnalyzedVideo, alignment: _Alignment
    ) -> Iterator[tuple[_View | None, _View | None]]:
        """Yield what both videos show at each tick; None twice where the true one has no whole face."""
        usable = reference.plan.weight[alignment.reference] == 1
        boxes = [
            reference.plan.box(frame) if use else None for frame, use in zip(alignment.reference, usable, strict=True)
        ]
        size = reference.reader.info.width, reference.reader.info.height
        if generated is reference:
            views = in_background(self._views(reference, alignment.reference, boxes, size, alignment.rate), _BATCH)
            with contextlib.closing(views):
                for view in views:
                    yield view, view
            return
        true = in_background(self._views(reference, alignment.reference, boxes, size, alignment.rate), _BATCH)
        other = in_background(self._views(generated, alignment.generated, boxes, size, alignment.rate), _BATCH)
        with contextlib.closing(true), contextlib.closing(other):
            yield from zip(true, other, strict=True)

    def _views(
        self,
        prepared: AnalyzedVideo,
        order: np.ndarray,
        boxes: Iterable[CropBox | None],
        size: tuple[int, int],
        rate: Fraction,
    ) -> Iterator[_View | None]:
        """Yield the face in each of the frames of `order`, at the true video's boxes and resized to its (w, h)."""
        info = prepared.reader.info
        colour = info.colour
        crop_size = network_size(MOUTH_REGION_SIZE)
        scale = np.array([size[0] / info.width, size[1] / info.height], np.float32)
        step = max(1, round(IDENTITY_SECONDS * rate))
        for number, (frame, box) in enumerate(zip(prepared.reader.play(order), boxes, strict=True)):
            if box is None:
                yield None
                continue
            yuv = frame.yuv if (info.width, info.height) == size else _resized(frame.yuv, *size)
            crop = cut_face(yuv, box, colour).resized(*crop_size)
            embedding = None
            if number % step == 0:
                key = info.path, frame.index
                with self._identity_lock:
                    if key not in self._embeddings:  # the true video comes in every row
                        points = prepared.plan.points[frame.index] * scale
                        self._embeddings[key] = self._identity.embed(yuv, points, colour)
                    embedding = self._embeddings[key]
            yield _View(crop, embedding)

    def _score_sound(
        self,
        comparison: Comparison,
        generated: AnalyzedVideo,
        values: dict[str, float],
        curves: dict[str, np.ndarray],
    ) -> None:
        """Lips against the sound, at 25 frames a second."""
        waveform = load_waveform(comparison.sound, comparison.generated_option)
        check_not_silent(waveform, comparison.sound, comparison.generated_option)
        order = generated.reader.timeline(Fraction(AUDIO_FRAME_RATE))
        sound = lips_and_sound(generated.plan.points[order], mel_features(waveform))
        values["sound_correlation"], values["sound_lag"] = sound.peak, sound.lag
        curves["lips and speech level, correlation"] = sound.correlation
        if self.instruments.sync is not None:
            features, _ = self.instruments.sync_features.extract(comparison.sound, comparison.generated_option)
            curve = self.instruments.sync.curve(generated.reader, generated.plan, features)
            values["sync_confidence"], values["sync_offset"] = curve.confidence, curve.offset
            curves["SyncNet, score"] = curve.score
        if self.instruments.lse is not None:
            error = self.instruments.lse.measure(generated, waveform)
            values["lse_d"], values["lse_c"], values["lse_offset"] = error.distance, error.confidence, error.offset

    def _fids(self, comparison: Comparison) -> dict[str, FrechetDistance] | None:
        if self.instruments.make_fid is None or comparison.row == "truth":
            return None
        fids = self.instruments.fid
        for region in REGIONS:
            key = comparison.task, comparison.row, region
            if key not in fids:
                fids[key] = self.instruments.make_fid()
        return {region: fids[comparison.task, comparison.row, region] for region in REGIONS}


def align(true: VideoReader, other: VideoReader, comparison: Comparison) -> _Alignment:
    """Match the frames of two videos by time, at the lower of their rates, over the length that both have.

    Raises:
        UserError: lengths or shapes that no two versions of a video would have.
    """
    names = f"{comparison.generated_option}: {other.info.path}", f"{true.info.path}"
    aspects = [r.info.width / r.info.height * float(r.info.sample_aspect_ratio) for r in (true, other)]
    if abs(aspects[1] / aspects[0] - 1) > MOST_STRETCH:
        raise UserError(
            f"{names[0]} is {other.info.width}x{other.info.height} and {names[1]} {true.info.width}x"
            f"{true.info.height}: the shapes differ, so pixels do not match; give videos of the same picture"
        )
    rate = min(true.info.rate, other.info.rate)
    first, second = true.timeline(rate), other.timeline(rate)
    common, longer = sorted((len(first), len(second)))
    # A dub with other words is as long as these are.
    if comparison.task != CROSS and longer - common > max(MOST_EXTRA_SECONDS * rate, MOST_EXTRA_SHARE * longer):
        raise UserError(
            f"{names[0]} lasts {len(second) / float(rate):.2f} s and {names[1]} {len(first) / float(rate):.2f} s: "
            "too different to be compared moment by moment; cut them to the same moments"
        )
    if longer > common:
        logger.info(f"{other.info.path.name}: the last {longer - common} frames of the longer video are not compared")
    if true.info.rate != other.info.rate:
        logger.info(
            f"{other.info.path.name}: {float(other.info.rate):g} frames a second against {float(true.info.rate):g}: "
            f"matched by time at {float(rate):g}"
        )
    scale = other.info.width / true.info.width, other.info.height / true.info.height
    return _Alignment(first[:common], second[:common], rate, scale)


def part(crop: np.ndarray, region: str) -> np.ndarray:
    """The face crop [416, 320, 3] itself ("crop") or its mouth square [256, 256, 3] ("mouth")."""
    return crop[_SLICES[region]]


def _resized(yuv: np.ndarray, width: int, height: int) -> np.ndarray:
    """A frame (I420) at another even size."""
    rows = len(yuv) * 2 // 3
    planes = yuv[:rows], *yuv[rows:].reshape(2, rows // 2, -1)
    interpolation = cv2.INTER_AREA if height < rows else cv2.INTER_CUBIC
    sizes = (width, height), (width // 2, height // 2), (width // 2, height // 2)
    luma, *chroma = (cv2.resize(p, size, interpolation=interpolation) for p, size in zip(planes, sizes, strict=True))
    return np.concatenate([luma, np.stack(chroma).reshape(-1, width)])


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
