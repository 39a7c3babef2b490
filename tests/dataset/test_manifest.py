"""The training json, written and read, ours and the published one."""

import json
from pathlib import Path

import numpy as np
import pytest

from dataset.manifest import Clip, Video, read_manifest, write_manifest
from utils.speech.features import KINDS

CROPS = "asserts/training_data/split_video_25fps_crop_face"


def frame_paths(name: str, clip: int) -> list[str]:
    return [f"{CROPS}/{name}/{clip:06d}/{index:06d}.jpg" for index in range(9 * clip, 9 * clip + 9)]


def deepspeech_video(name: str) -> Video:
    speech = np.random.default_rng(0).random((2, 9, 29)).astype(np.float32)
    return Video(name, [Clip(frame_paths(name, i), 0, speech[i]) for i in range(2)], KINDS["deepspeech"])


def mel_video(name: str) -> Video:
    return Video(name, [Clip(frame_paths(name, i), 36 * i) for i in range(2)], KINDS["mel"], Path("a_mel.npy"))


@pytest.mark.parametrize("make", [deepspeech_video, mel_video])
def test_frame_names_have_the_published_prefix(tmp_path, make):
    write_manifest(tmp_path / "train.json", [make("a video")])
    clips = json.loads((tmp_path / "train.json").read_bytes())["a video"]["clip_data_list"]
    assert clips[1]["frame_name_list"] == [f"a video/000001/{index:06d}.jpg" for index in range(9, 18)]
    assert clips[1]["frame_path_list"] == frame_paths("a video", 1)


@pytest.mark.parametrize("make", [deepspeech_video, mel_video])
@pytest.mark.parametrize("names", ["with the prefix", "without the prefix", "none at all"])
@pytest.mark.parametrize("layout", ["a video per line", "all on one line", "indented"])
def test_every_form_of_the_json_is_read(tmp_path, make, names, layout):
    path = tmp_path / "train.json"
    write_manifest(path, [make("one"), make("two")])
    entries = json.loads(path.read_bytes())
    for clip in (clip for video in entries.values() for clip in video["clip_data_list"]):
        if names == "without the prefix":  # as this project wrote it at first
            clip["frame_name_list"] = [name.rpartition("/")[2] for name in clip["frame_name_list"]]
        elif names == "none at all":
            del clip["frame_name_list"]
    if layout == "a video per line":
        lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    else:
        path.write_text(json.dumps(entries, indent=2 if layout == "indented" else None))
    for video, expected in zip(read_manifest(path), [make("one"), make("two")], strict=True):
        assert (video.name, video.kind) == (expected.name, expected.kind)
        assert [clip.frame_paths for clip in video.clips] == [clip.frame_paths for clip in expected.clips]
        assert video.first_rows == expected.first_rows
        if expected.feature_path is None:
            np.testing.assert_allclose(video.speech, expected.speech, atol=1e-6)
