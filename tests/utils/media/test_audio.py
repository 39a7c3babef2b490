"""Reading and writing sound."""

import shutil
import subprocess
import sys
import tracemalloc
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import soxr
from helpers.speech_signal import speech_like

from utils.errors import UserError
from utils.media.audio import Waveform, check_not_silent, load_waveform, write_wav

RATE = 44100
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def write_sound(
    path: Path,
    channels: np.ndarray,
    codec: str,
    sample_format: str,
    rate: int = RATE,
    sound_start: float = 0,
    video_start: float | None = None,
) -> Path:
    """Encode float [channels, n]; with `video_start`, beside two seconds of video that start then."""
    kind = np.dtype({"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4", "dbl": "f8"}[sample_format.removesuffix("p")])
    if kind.kind == "f":
        data = channels.astype(kind)
    else:
        limits = np.iinfo(kind)
        full_scale, middle = (2.0 ** (limits.bits - 1), 0 if kind.kind == "i" else 128)
        data = np.clip(np.rint(channels.astype(np.float64) * full_scale + middle), limits.min, limits.max).astype(kind)
    planar = sample_format.endswith("p")
    with av.open(str(path), "w") as container:
        video = None
        if video_start is not None:
            video = container.add_stream("mpeg4", rate=25, width=32, height=32, pix_fmt="yuv420p")
        stream = container.add_stream(codec, rate=rate, layout=LAYOUTS[len(channels)], format=sample_format)
        if video is not None:
            for number in range(50):
                picture = av.VideoFrame(32, 32, "yuv420p")
                picture.pts = number + round(video_start * 25)
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        for start in range(0, data.shape[1], 4096):
            part = data[:, start : start + 4096]
            part = np.ascontiguousarray(part) if planar else np.ascontiguousarray(part.T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format=sample_format, layout=LAYOUTS[len(channels)])
            frame.sample_rate = rate
            frame.pts = start + round(sound_start * rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """[1, n]: two seconds at 44.1 kHz."""
    return speech_like(2, RATE)[None]


@pytest.fixture(scope="module")
def voice_16k(voice: np.ndarray) -> np.ndarray:
    return soxr.resample(voice[0], RATE, 16000, quality="VHQ")


def difference(samples: np.ndarray, expected: np.ndarray) -> float:
    """Error over signal, in amplitude, where both have samples."""
    size = min(len(samples), len(expected))
    return float(np.linalg.norm(samples[:size] - expected[:size]) / np.linalg.norm(expected[:size]))


FORMATS = [
    ("u8.wav", "pcm_u8", "u8", 0.03),
    ("s16.wav", "pcm_s16le", "s16", 1e-3),
    ("s24.wav", "pcm_s24le", "s32", 1e-5),
    ("s32.wav", "pcm_s32le", "s32", 1e-6),
    ("f32.wav", "pcm_f32le", "flt", 1e-6),
    ("f64.wav", "pcm_f64le", "dbl", 1e-6),
    ("alaw.wav", "pcm_alaw", "s16", 0.05),
    ("s16.flac", "flac", "s16", 1e-3),
    ("s24.flac", "flac", "s32", 1e-5),
    ("mp3.mp3", "libmp3lame", "fltp", 0.1),
    ("aac.m4a", "aac", "fltp", 0.2),
    ("aac.mp4", "aac", "fltp", 0.2),
    ("alac.m4a", "alac", "s16p", 1e-3),
    ("opus.ogg", "libopus", "flt", 0.3),
]


@pytest.mark.parametrize(("name", "codec", "sample_format", "tolerance"), FORMATS, ids=[row[0] for row in FORMATS])
@pytest.mark.parametrize("channels", [1, 2])
def test_every_format_gives_the_same_sound(
    tmp_path: Path,
    voice: np.ndarray,
    voice_16k: np.ndarray,
    name: str,
    codec: str,
    sample_format: str,
    tolerance: float,
    channels: int,
):
    rate = 48000 if codec == "libopus" else RATE
    source = soxr.resample(voice[0], RATE, rate)[None] if rate != RATE else voice
    path = write_sound(tmp_path / name, np.repeat(source, channels, axis=0), codec, sample_format, rate)
    waveform = load_waveform(path, "--driving_audio_path")
    assert waveform.samples.dtype == np.float32
    assert waveform.rate == 16000
    assert waveform.duration == pytest.approx(2, abs=0.05)
    assert difference(waveform.samples, voice_16k) < tolerance


def test_a_track_of_a_video_is_read(tmp_path: Path, voice: np.ndarray, voice_16k: np.ndarray):
    path = write_sound(tmp_path / "v.mp4", voice, "aac", "fltp", video_start=0)
    assert difference(load_waveform(path, "-").samples, voice_16k) < 0.2


def test_integers_at_16_khz_are_read_exactly(tmp_path: Path):
    values = np.random.default_rng(0).integers(-32768, 32768, 5000).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(values.tobytes())
    for resampler in ("soxr", "resampy"):
        samples = load_waveform(tmp_path / "a.wav", "-", resampler=resampler).samples
        np.testing.assert_array_equal(samples * 32768, values)


def test_float_beyond_full_scale_is_clipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tone = 3 * np.sin(np.arange(8000) / 10, dtype=np.float32)[None]
    path = write_sound(tmp_path / "loud.wav", tone, "pcm_f32le", "flt", 16000)
    samples = load_waveform(path, "-").samples
    np.testing.assert_array_equal(samples, np.clip(tone[0], -1, 1))
    assert "louder than full scale (peak 3)" in caplog.text


def test_samples_that_are_no_numbers_become_zeros_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sound = speech_like(1)[None].copy()
    sound[0, 100:200] = np.nan
    sound[0, 300] = np.inf
    path = write_sound(tmp_path / "nan.wav", sound, "pcm_f32le", "flt", 16000)
    samples = load_waveform(path, "-").samples
    assert np.all(samples[100:200] == 0) and samples[300] == 0
    np.testing.assert_array_equal(samples[400:], sound[0, 400:])
    assert "no numbers" in caplog.text


def test_lossy_overshoot_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    square = np.sign(np.sin(np.arange(RATE) / 20)).astype(np.float32)[None]
    samples = load_waveform(write_sound(tmp_path / "a.mp3", square, "libmp3lame", "fltp"), "-").samples
    assert np.abs(samples).max() == 1
    assert caplog.text == ""


class TestMix:
    def write(self, folder: Path, *channels: np.ndarray) -> Path:
        return write_sound(folder / "a.wav", np.stack(channels).astype(np.float32), "pcm_f32le", "flt", 16000)

    def test_mean_is_of_all_channels(self, tmp_path: Path):
        channels = [speech_like(1, seed=seed) for seed in range(6)]
        samples = load_waveform(self.write(tmp_path, *channels), "-").samples
        np.testing.assert_allclose(samples, np.mean(channels, axis=0), atol=1e-6)

    def test_first_is_the_first_channel(self, tmp_path: Path):
        left, right = speech_like(1), speech_like(1, seed=1)
        samples = load_waveform(self.write(tmp_path, left, right), "-", channel="first").samples
        np.testing.assert_array_equal(samples, left)

    def test_a_first_channel_without_sound_is_not_taken(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        right = speech_like(1)
        samples = load_waveform(self.write(tmp_path, 0 * right, right), "-", channel="first").samples
        np.testing.assert_allclose(samples, right / 2, atol=1e-6)
        assert "first channel is silent" in caplog.text

    def test_opposite_phase_does_not_become_silence(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        left = speech_like(1)
        samples = load_waveform(self.write(tmp_path, left, -left), "-").samples
        np.testing.assert_array_equal(samples, left)
        assert "cancel" in caplog.text

    def test_opposite_phase_in_a_lossy_file(self, tmp_path: Path):
        left = speech_like(1, RATE)
        path = write_sound(tmp_path / "a.mp3", np.stack([left, -left]), "libmp3lame", "fltp")
        assert np.abs(load_waveform(path, "-").samples).max() > 0.2

    def test_sound_in_one_channel_of_six_is_still_mixed(self, tmp_path: Path, caplog: pytest.LogCaptureFixture):
        centre = speech_like(1)
        nothing = 0 * centre
        samples = load_waveform(self.write(tmp_path, nothing, nothing, centre, *[nothing] * 3), "-").samples
        np.testing.assert_allclose(samples, centre / 6, atol=1e-6)
        assert caplog.text == ""


class TestResampling:
    @pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
    def test_blocks_of_resampy_equal_the_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int):
        import resampy

        monkeypatch.setattr("utils.media.resampling._RESAMPY_BLOCK", 5000)
        sound = speech_like(1.2345, rate)
        path = write_sound(tmp_path / "a.wav", sound[None], "pcm_f32le", "flt", rate)
        samples = load_waveform(path, "-", resampler="resampy").samples
        whole = resampy.resample(sound.astype(np.float64), rate, 16000, filter="kaiser_best")
        assert len(samples) == len(whole)
        np.testing.assert_allclose(samples, whole, atol=1e-7)

    def test_blocks_of_soxr_equal_the_whole(self, tmp_path: Path, voice: np.ndarray, voice_16k: np.ndarray):
        path = write_sound(tmp_path / "a.wav", voice, "pcm_f32le", "flt")
        np.testing.assert_allclose(load_waveform(path, "-").samples, voice_16k, atol=1e-6)

    def test_golden_of_the_published_code(self, tmp_path: Path, golden_dir: Path):
        with np.load(golden_dir / "deepspeech_input.npz") as golden:
            stereo, expected = golden["wav_44100"], golden["resampled_44100"]
        with wave.open(str(tmp_path / "a.wav"), "wb") as file:
            file.setparams((2, 2, 44100, 0, "NONE", ""))
            file.writeframes(stereo.astype("<i2").tobytes())
        samples = load_waveform(tmp_path / "a.wav", "-", channel="first", resampler="resampy").samples
        assert len(samples) == len(expected)
        assert np.abs(np.trunc(samples * 32768) - expected).max() <= 1

    def test_memory_is_that_of_the_result(self, tmp_path: Path):
        rate, seconds = 48000, 60
        with wave.open(str(tmp_path / "long.wav"), "wb") as file:
            file.setparams((2, 2, rate, 0, "NONE", ""))
            file.writeframes(np.random.default_rng(0).integers(-9000, 9000, 2 * rate * seconds).astype("<i2").tobytes())
        tracemalloc.start()
        waveform = load_waveform(tmp_path / "long.wav", "-")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert waveform.duration == seconds
        assert peak < 1.3 * waveform.samples.nbytes + 500_000


class TestSynchrony:
    """Sample 0 is the moment of the first picture."""

    def onset(self, path: Path) -> float:
        samples = load_waveform(path, "-").samples
        return float(np.argmax(np.abs(samples) > 0.05)) / 16000

    @pytest.fixture(scope="class")
    def beep(self) -> np.ndarray:
        """A tone that starts after one of two seconds."""
        time = np.arange(2 * RATE) / RATE
        return (0.5 * np.sin(2 * np.pi * 500 * time) * (time >= 1)).astype(np.float32)[None]

    @pytest.mark.parametrize(("name", "codec", "form"), [("v.mkv", "pcm_s16le", "s16"), ("v.mp4", "aac", "fltp")])
    def test_sound_that_starts_later_is_padded(
        self, tmp_path: Path, beep: np.ndarray, name: str, codec: str, form: str
    ):
        path = write_sound(tmp_path / name, beep, codec, form, sound_start=0.52, video_start=0)
        assert self.onset(path) == pytest.approx(1.52, abs=0.005)
        assert load_waveform(path, "-").duration == pytest.approx(2.52, abs=0.03)

    @pytest.mark.parametrize(("name", "codec", "form"), [("v.mkv", "pcm_s16le", "s16"), ("v.ts", "mp2", "s16")])
    def test_sound_that_starts_earlier_is_cut(self, tmp_path: Path, beep: np.ndarray, name: str, codec: str, form: str):
        path = write_sound(tmp_path / name, beep, codec, form, sound_start=0, video_start=0.4)
        assert self.onset(path) == pytest.approx(0.6, abs=0.005)
        assert load_waveform(path, "-").duration == pytest.approx(1.6, abs=0.03)

    def test_sound_alone_starts_at_its_first_sample(self, tmp_path: Path, beep: np.ndarray):
        path = write_sound(tmp_path / "a.mka", beep, "pcm_s16le", "s16", sound_start=0.52)
        assert self.onset(path) == pytest.approx(1, abs=0.001)

    def test_a_cover_picture_is_no_video(self, tmp_path: Path, beep: np.ndarray):
        plain = write_sound(tmp_path / "plain.mp3", beep, "libmp3lame", "fltp")
        covered = tmp_path / "covered.mp3"
        picture = av.VideoFrame(32, 32, "yuvj420p")
        with av.open(str(plain)) as source, av.open(str(covered), "w") as container:
            sound = container.add_stream_from_template(source.streams.audio[0])
            cover = container.add_stream("mjpeg", rate=1, width=32, height=32, pix_fmt="yuvj420p")
            cover.disposition = av.stream.Disposition.attached_pic
            container.mux(cover.encode(picture) + cover.encode(None))
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = sound
                    container.mux(packet)
        assert self.onset(covered) == self.onset(plain)

    def test_a_hole_in_the_time_stamps_is_filled(self, tmp_path: Path):
        tone = 0.3 * np.sin(np.arange(16000) / 5, dtype=np.float32)
        data = np.rint(tone * 32767).astype(np.int16)[None]
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
            for start in (0, 40000):  # one second of sound, a hole of 1.5 s, one second of sound
                frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
                frame.sample_rate, frame.pts = 16000, start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        samples = load_waveform(tmp_path / "a.mkv", "-").samples
        assert len(samples) == 56000
        assert np.all(samples[16000:40000] == 0)
        np.testing.assert_array_equal(samples[40000:], samples[:16000])


class TestMistakes:
    """Each is one line that names the option and the file."""

    def problem(self, path: Path) -> str:
        with pytest.raises(UserError) as caught:
            load_waveform(path, "--driving_audio_path")
        message = str(caught.value)
        assert message.startswith(f"--driving_audio_path: {path} ")
        assert "\n" not in message
        return message

    def test_missing_file(self, tmp_path: Path):
        assert "does not exist" in self.problem(tmp_path / "absent.wav")

    def test_folder(self, tmp_path: Path):
        assert "folder" in self.problem(tmp_path)

    def test_empty_file(self, tmp_path: Path):
        (tmp_path / "a.wav").touch()
        assert "empty" in self.problem(tmp_path / "a.wav")

    @pytest.mark.parametrize("name", ["a.wav", "a.mp3", "a.m4a", "a.ogg", "a.txt"])
    def test_text(self, tmp_path: Path, name: str):
        (tmp_path / name).write_text("This is a note, not a sound.\n" * 40)
        self.problem(tmp_path / name)

    def test_playlist_does_not_reach_the_network(self, tmp_path: Path):
        (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
        self.problem(tmp_path / "a.m3u8")

    def test_video_without_sound(self, tmp_path: Path, voice: np.ndarray):
        full = write_sound(tmp_path / "full.mp4", voice, "aac", "fltp", video_start=0)
        with av.open(str(full)) as source, av.open(str(tmp_path / "silent.mp4"), "w") as container:
            stream = container.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(source.streams.video[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
        assert "has no audio track" in self.problem(tmp_path / "silent.mp4")

    def test_no_samples(self, tmp_path: Path):
        with wave.open(str(tmp_path / "a.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
        assert "zero samples" in self.problem(tmp_path / "a.wav")

    def test_too_short_for_one_sample(self, tmp_path: Path):
        write_sound(tmp_path / "a.wav", np.ones((1, 1), np.float32), "pcm_s16le", "s16", 48000)
        for resampler in ("soxr", "resampy"):
            with pytest.raises(UserError, match="zero samples"):
                load_waveform(tmp_path / "a.wav", "-", resampler=resampler)

    @pytest.mark.parametrize(("name", "codec", "form"), [("a.m4a", "aac", "fltp"), ("a.flac", "flac", "s16")])
    def test_cut_off(self, tmp_path: Path, voice: np.ndarray, name: str, codec: str, form: str):
        whole = write_sound(tmp_path / f"whole_{name}", voice, codec, form).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert "cut off" in self.problem(tmp_path / name)

    def test_cut_off_with_the_index_in_front(self, tmp_path: Path, voice: np.ndarray):
        plain = write_sound(tmp_path / "plain.m4a", voice, "aac", "fltp")
        with (
            av.open(str(plain)) as source,
            av.open(str(tmp_path / "front.m4a"), "w", options={"movflags": "faststart"}) as container,
        ):
            stream = container.add_stream_from_template(source.streams.audio[0])
            for packet in source.demux(source.streams.audio[0]):
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
        whole = (tmp_path / "front.m4a").read_bytes()
        (tmp_path / "cut.m4a").write_bytes(whole[: len(whole) // 2])
        assert "2.0 s of sound, but only" in self.problem(tmp_path / "cut.m4a")

    def test_damage_in_the_middle_is_bridged(self, tmp_path: Path, voice: np.ndarray, caplog: pytest.LogCaptureFixture):
        path = write_sound(tmp_path / "a.m4a", voice, "aac", "fltp")
        data = bytearray(path.read_bytes())
        data[len(data) // 3 : len(data) // 3 + 1500] = b"\xff" * 1500
        path.write_bytes(data)
        assert load_waveform(path, "-").duration == pytest.approx(2, abs=0.05)
        assert "damaged" in caplog.text


def test_silence_is_refused_and_a_quiet_voice_is_not():
    voice = speech_like(1)
    for quiet in (np.zeros(16000, np.float32), voice * 1e-3):
        with pytest.raises(UserError, match=r"--driving_audio_path: a\.wav is silent: the mouth would not move"):
            check_not_silent(Waveform(quiet, 16000), "a.wav", "--driving_audio_path")
    check_not_silent(Waveform(voice * 0.01, 16000), "a.wav", "--driving_audio_path")
    check_not_silent(Waveform(-np.abs(voice), 16000), "a.wav", "--driving_audio_path")


class TestWriteWav:
    def test_round_trip(self, tmp_path: Path):
        samples = np.array([-1, -0.5, 0, 0.25, 1 / 32768, 1], np.float32)
        write_wav(tmp_path / "a.wav", Waveform(samples, 16000))
        with wave.open(str(tmp_path / "a.wav")) as file:
            assert file.getparams()[:4] == (1, 2, 16000, 6)
        expected = [-1, -0.5, 0, 0.25, 1 / 32768, 32767 / 32768]
        np.testing.assert_array_equal(load_waveform(tmp_path / "a.wav", "-").samples, np.float32(expected))
        assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]

    @pytest.mark.parametrize("folder", ["absent", "file"])
    def test_unwritable_folder(self, tmp_path: Path, folder: str):
        (tmp_path / "file").touch()
        with pytest.raises(UserError, match="cannot be written"):
            write_wav(tmp_path / folder / "a.wav", Waveform(speech_like(0.5), 16000))
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_failure_leaves_the_old_file(self, tmp_path: Path):
        write_wav(tmp_path / "a.wav", Waveform(speech_like(0.5), 16000))
        before = (tmp_path / "a.wav").read_bytes()
        with pytest.raises(TypeError):
            write_wav(tmp_path / "a.wav", Waveform(None, 16000))
        assert (tmp_path / "a.wav").read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="compares with the ffmpeg program, which is not installed")
def test_video_clip_as_ffmpeg_reads_it(tmp_path: Path, voice: np.ndarray):
    path = write_sound(tmp_path / "v.mp4", voice, "aac", "fltp", video_start=0)
    command = ["ffmpeg", "-loglevel", "error", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", "16000", "-"]
    expected = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
    samples = load_waveform(path, "-").samples
    # PyAV 19 marks the padding of the last AAC frame; older ffmpeg programs play it.
    assert len(samples) in (pytest.approx(len(expected), abs=2), 2 * 16000)
    assert difference(samples, expected) < 0.05  # its resampler cuts off the highest tones sooner


def test_import_is_light():
    code = "import sys, utils.media.audio, utils.speech.features, utils.speech.deepspeech; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"librosa", "numba", "tensorflow", "resampy", "faster_whisper", "ctranslate2", "scipy", "torch"}
    assert not heavy.intersection(modules)


@pytest.mark.clips
def test_real_clips_are_as_long_as_they_say(clips_dir: Path):
    for name, seconds in (
        ("anchor_512.mp4", 71.18),
        ("address_a1_256_30fps.mp4", 20.01),
        ("man_suit_700_vfr.mp4", 6.07),
    ):
        waveform = load_waveform(clips_dir / name, "-")
        assert waveform.duration == pytest.approx(seconds, abs=0.03)
        check_not_silent(waveform, name, "-")
