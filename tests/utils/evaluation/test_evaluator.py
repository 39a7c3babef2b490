from collections import Counter
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import torch
from helpers.sample_media import write_face_video, write_speech

from models.chung_syncnet import ChungSyncNet
from models.syncnet import SyncNet
from utils.evaluation.comparison import Comparison, Scores
from utils.evaluation.evaluator import Evaluator, MetricModels
from utils.evaluation.lse import LSEMetric
from utils.evaluation.report import plot
from utils.evaluation.sync_confidence import SyncConfidence
from utils.media.video_reader import VideoReader
from utils.speech.extractor import FeatureExtractor


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Rows of one clip: the truth, a dub of its rate and one of half its rate."""
    folder = tmp_path_factory.mktemp("evaluator")
    speech = write_speech(folder / "speech.wav", 1.2)
    true = write_face_video(folder / "true.mp4", 26, audio=speech)
    dub = write_face_video(folder / "dub.mp4", 26, audio=speech, blank=(10, 11))
    slow = write_face_video(folder / "slow.mp4", 13, audio=speech, rate=Fraction(25, 2))
    return [Comparison("clip", "given", row, video, true, true) for row, video in (
        ("truth", true), ("dubbed", dub), ("slow", slow)
    )]  # fmt: skip


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    device = torch.device("cpu")
    return MetricModels(
        sync=SyncConfidence(SyncNet(15, 80, 128), 64, device),
        sync_features=FeatureExtractor("mel"),
        lse=LSEMetric(ChungSyncNet(), device),
    )


@pytest.fixture(scope="module")
def landmark_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("landmarks")


def test_all_rows_and_metrics_share_one_pass_over_each_video(given, models, landmark_dir, monkeypatch):
    passes = Counter()
    decode = VideoReader.frames

    def count(self):
        passes[self.info.path.name] += 1
        return decode(self)

    monkeypatch.setattr(VideoReader, "frames", count)  # `play` decodes short videos through it too
    scores = Evaluator(models, landmark_dir).score_rows(given)
    assert [score.frames for score in scores] == [26, 26, 13]
    # One pass to analyse a video and one to score it; rows of another rate read the true video once more.
    assert passes == {"true.mp4": 3, "dub.mp4": 2, "slow.mp4": 2}
    for score in scores:
        assert np.isfinite(score.values["lse_d"]) and np.isfinite(score.values["sync_confidence"])


@pytest.mark.slow
def test_rows_that_are_scored_together_have_the_figures_of_rows_scored_alone(given, models, landmark_dir):
    together = Evaluator(models, landmark_dir).score_rows(given)
    for row, score in zip(given, together, strict=True):
        alone = Evaluator(models, landmark_dir).score(row)
        assert alone.values == pytest.approx(score.values, nan_ok=True, abs=0), row.row
        assert len(alone.strip) == len(score.strip) > 0


def test_truth_scores_as_truth_and_a_row_that_fails_leaves_the_others(given, landmark_dir, tmp_path):
    missing = replace(given[1], generated=tmp_path / "none.mp4")
    truth, error, dub = Evaluator(MetricModels(), landmark_dir).score_rows([given[0], missing, given[1]])
    assert truth.values["psnr_mouth"] == np.inf
    assert truth.values["lmd_mouth"] == 0
    assert "none.mp4 does not exist" in str(error)
    assert dub.values["lmd_mouth"] > 0


def test_only_lips_that_a_dub_should_follow_are_drawn_beside_its_own(given, landmark_dir, tmp_path):
    """The source's own lips say something else than a cross-audio dub."""
    evaluator = Evaluator(MetricModels(), landmark_dir)
    cross = replace(given[1], task="cross", same_audio=False)
    own, unknown, known = (
        evaluator.score(row) for row in (given[1], cross, replace(cross, driving_video=given[2].generated))
    )
    assert list(own.openings) == ["truth", "dubbed"]
    assert list(unknown.openings) == ["dubbed"]
    assert list(known.openings) == ["driving video", "dubbed"]
    assert known.opening_rate == Fraction(25, 2)
    assert len(known.openings["dubbed"]) == len(known.openings["driving video"]) == 13
    colours = []
    for number, score in enumerate((own, unknown)):
        plot(tmp_path / f"{number}.png", score, None)
        image = cv2.imread(str(tmp_path / f"{number}.png"))[:300].reshape(-1, 3)
        colours.append(len(np.unique(image, axis=0)))
    assert colours[1] < colours[0], "one line fewer"


def test_scores_show_neither_images_nor_arrays(given, landmark_dir):
    score = Evaluator(MetricModels(), landmark_dir).score(given[0])
    assert isinstance(score, Scores)
    assert len(repr(score)) < 2000


@pytest.mark.clips
def test_cross_audio_dubs_are_compared_with_the_lips_of_the_driving_video(clips_dir, tmp_path):
    speaker, other = clips_dir / "woman_address_512.mp4", clips_dir / "man_maps_844.mp4"
    evaluator = Evaluator(MetricModels(), tmp_path)
    found = {}
    for name, dub in (("speaker", speaker), ("other", other)):
        comparison = Comparison("clip", "cross", "dubbed", dub, dub, None, same_audio=False, driving_video=speaker)
        found[name] = evaluator.score(comparison).values["opening_correlation"]
    assert found["speaker"] == pytest.approx(1)
    assert found["other"] < 0.8
