import shlex
from pathlib import Path

from config.evaluate import MODEL_OPTIONS, ClipSettings, EvaluationParser, ScoringSettings, VideoSettings
from config.parser import make_settings
from utils.dubbing.settings import LoadSettings


def parse(command: str):
    options = EvaluationParser().parse_args(shlex.split(command))
    return options, *(make_settings(kind, options) for kind in (VideoSettings, ClipSettings, ScoringSettings))


def test_the_old_name_of_cross_audio_still_works_and_names_the_new_one(caplog):
    _, videos, _, _ = parse("--generated a.mp4 --reference b.mp4 --other_words")
    assert videos == VideoSettings(Path("a.mp4"), Path("b.mp4"), cross_audio=True)
    assert "--other_words is now called --cross_audio" in caplog.text
    assert not parse("--generated a.mp4 --reference b.mp4")[1].cross_audio


def test_weights_have_two_names_and_clips_are_many():
    for name in ("checkpoint", "pretrained_clip_DINet_path"):
        _, _, clips, _ = parse(f"--{name} w.pth --clips a.mp4 b.txt --driving_audio c.wav")
        assert clips == ClipSettings(Path("w.pth"), [Path("a.mp4"), Path("b.txt")], [Path("c.wav")])


def test_options_of_the_dubs_have_the_defaults_of_dubbing():
    options, _, _, scoring = parse("--checkpoint w.pth --clips a.mp4")
    assert LoadSettings(**{name: getattr(options, name) for name in MODEL_OPTIONS}) == LoadSettings()
    assert options.batch_size is None
    assert scoring == ScoringSettings()
