"""The engine's errors in Chinese: each text belongs to an error that the engine really raises."""

import re
import wave

import numpy as np
import pytest
from helpers.sample_media import BT601, FAST, write_face_video, write_speech

from dataset import person_samples
from utils.dubbing.references import parse_reference_frames
from utils.errors import UserError
from utils.face.analysis import analyze_video
from utils.media.audio import check_not_silent, load_waveform
from utils.media.video_reader import VideoReader
from utils.media.video_writer import VideoWriter
from utils.page.errors_zh import _PATTERNS, translate_error
from utils.page.html import split_error
from utils.page.limits import check_length, media_seconds

OPTION = "--driving_audio_path"


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> list[str]:
    """Errors of real calls, as the page shows them in English."""
    folder = tmp_path_factory.mktemp("errors")
    raised = []

    def catch(function, *arguments, **named):
        with pytest.raises(UserError) as caught:
            function(*arguments, **named)
        raised.append(split_error(caught.value, "en")[1])

    text = folder / "text.mp4"
    text.write_text("text")
    face, speech = write_face_video(folder / "face.mp4", 25), write_speech(folder / "speech.wav", 2)
    flat = folder / "flat.mp4"
    with VideoWriter(flat, 128, 128, 25, BT601, encoder=FAST) as writer:
        for _ in range(5):
            writer.write(np.full((192, 128), 128, np.uint8))
    quiet = write_speech(folder / "quiet.wav", 1, amplitude=0)
    empty = folder / "empty.wav"
    with wave.open(str(empty), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
    cut = folder / "cut.wav"
    cut.write_bytes(speech.read_bytes()[:20000])
    analyzed = analyze_video(face)

    catch(VideoReader, text)
    catch(VideoReader, speech)
    catch(media_seconds, text)
    catch(check_length, speech, 1)
    catch(load_waveform, text, OPTION)
    catch(load_waveform, flat, OPTION)
    catch(load_waveform, empty, OPTION)
    catch(load_waveform, cut, OPTION)
    catch(check_not_silent, load_waveform(quiet, OPTION), quiet, OPTION)
    catch(analyze_video, flat)
    catch(analyze_video, face, face=7)
    csv = folder / "small.csv"
    write_small_face(csv, face)
    catch(analyze_video, face, csv)
    late = analyze_video(write_face_video(folder / "late.mp4", 25, blank=range(12)))
    for frames in ("a", "1,2,3,4,5,6", "99", "0"):
        catch(parse_reference_frames, frames, late.plan)
    catch(person_samples.read_person, analyzed, 64, None, 1.0, lambda *numbers: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(person_samples, "MIN_SECONDS", 0)
        patch.setattr(person_samples, "MIN_LIP_MOTION", 1.0)
        catch(person_samples.read_person, analyzed, 64, None, 1.0, lambda *numbers: None)
    return raised


def write_small_face(path, video):
    """Landmarks of a face of ten pixels."""
    from utils.face.analysis import track_faces
    from utils.face.openface_csv import write_openface_csv

    table = track_faces(VideoReader(video)).table
    table.points[:] = 200 + (table.points - table.points.mean(1, keepdims=True)) / 20
    write_openface_csv(path, table, 25)


def test_what_the_engine_raises_is_shown_in_chinese(errors):
    for message in errors:
        shown = translate_error(message, "zh")
        assert re.search("[一-鿿]", shown), message
        assert translate_error(message, "en") == message


def test_no_text_is_left_without_its_error(errors):
    unused = [pattern.pattern for pattern in _PATTERNS if not any(map(pattern.fullmatch, errors))]
    assert not unused


def test_values_and_names_are_kept_and_other_errors_stay_as_they_are():
    assert translate_error("no face was found in my clip.mp4; use a video", "zh").startswith("在 my clip.mp4 中")
    assert translate_error("frame 99 is not there; give some of 0 to 24", "zh") == "没有第 99 帧；可选 0 至 24。"
    assert translate_error("something else", "zh") == "something else"
