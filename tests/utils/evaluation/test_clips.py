import pytest
from helpers.sample_media import write_speech

from utils.errors import UserError
from utils.evaluation.clips import cut_audio, pair_files, read_clip_list
from utils.media.audio import load_waveform
from utils.media.suffixes import VIDEO_SUFFIXES


@pytest.mark.parametrize("pad", [False, True])
def test_own_audio_that_ends_before_the_video_is_padded_with_silence(tmp_path, pad):
    write_speech(tmp_path / "short.wav", 0.6)
    cut_audio(tmp_path / "short.wav", 1.6, tmp_path / "cut.wav", "--clips", pad)
    assert load_waveform(tmp_path / "cut.wav", "-").duration == pytest.approx(1.6 if pad else 0.6, abs=0.001)


def test_face_videos_and_hidden_files_are_not_scored(tmp_path):
    for name in ("a.mp4", "a_synthetic_face.mp4", ".b.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert [pair[0] for pair in pair_files(tmp_path, tmp_path)] == ["a"]


def test_every_kind_of_video_is_found_in_a_folder(tmp_path):
    for suffix in VIDEO_SUFFIXES:
        (tmp_path / f"clip_of{suffix[1:]}{suffix.upper()}").write_bytes(b"x")
    assert len(pair_files(tmp_path, tmp_path)) == len(VIDEO_SUFFIXES)
    assert ".3gp" in VIDEO_SUFFIXES


def test_a_clip_list_names_what_is_wrong(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.mp4").write_bytes(b"x")
    clips = tmp_path / "clips.txt"
    clips.write_text("# none\n\n")
    with pytest.raises(UserError, match=r"^--clips: no video is named"):
        read_clip_list([clips])
    clips.write_text("a.mp4\nc.mp4\n")
    with pytest.raises(UserError, match=r"^--clips: \S+c\.mp4 does not exist; correct the line in \S+clips\.txt$"):
        read_clip_list([clips])
    assert read_clip_list([tmp_path / "b"]) == [tmp_path / "b" / "a.mp4"]
    with pytest.raises(UserError, match="two videos are named a"):
        read_clip_list([tmp_path / "a.mp4", tmp_path / "b" / "a.mp4"])
