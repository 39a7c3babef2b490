"""Windows of speech features at any time."""

import numpy as np
import pytest

from utils.speech.features import KINDS, SpeechFeatures


def numbered(kind: str, rows: int) -> SpeechFeatures:
    """Features whose value is the number of the row, in every channel."""
    return SpeechFeatures(KINDS[kind], np.repeat(np.arange(rows, dtype=np.float32)[:, None], KINDS[kind].channels, 1))


class TestWindow:
    def test_kinds(self):
        assert {name: (kind.channels, kind.rate) for name, kind in KINDS.items()} == {
            "mel": (80, 100),
            "deepspeech": (29, 25),
            "whisper": (384, 50),
        }

    @pytest.mark.parametrize("frames", [5, 9])
    @pytest.mark.parametrize("kind", list(KINDS))
    def test_shape(self, kind: str, frames: int):
        window = numbered(kind, 500).window(np.array([0.0, 1.0, 2.2]), frames)
        assert window.shape == (3, KINDS[kind].channels, frames * KINDS[kind].rows_per_frame)
        assert window.dtype == np.float32
        assert window.flags.c_contiguous

    def test_published_windows_at_25_fps(self):
        values = np.random.default_rng(0).standard_normal((700, 29)).astype(np.float32)
        windows = SpeechFeatures(KINDS["deepspeech"], values).window(np.arange(700) / 25)
        padded = np.pad(values, ((2, 2), (0, 0)), mode="edge")
        for frame in range(700):
            np.testing.assert_array_equal(windows[frame], padded[frame : frame + 5].T)

    @pytest.mark.parametrize(("kind", "rows"), [("mel", 4), ("whisper", 2)])
    def test_slots_of_more_rows(self, kind: str, rows: int):
        window = numbered(kind, 1000).window(np.array([3.0]))
        np.testing.assert_array_equal(window[0, 0], np.arange(73 * rows, 78 * rows))

    def test_between_rows_values_are_interpolated(self):
        times = np.arange(40) / 30 + 0.5
        window = numbered("deepspeech", 100).window(times)
        np.testing.assert_allclose(window[:, 0], (times * 25)[:, None] + np.arange(-2, 3), atol=1e-4)

    def test_any_frame_rate_sees_the_same_moment(self):
        features = numbered("mel", 10000)
        for rate in (24000 / 1001, 25, 30000 / 1001, 30, 50, 60):
            frame = round(40 * rate)
            centre = features.window(np.array([frame / rate]))[0, 0, 8]
            assert centre == pytest.approx(frame / rate * 100, abs=1e-2)

    def test_ends_are_repeated(self):
        window = numbered("deepspeech", 10).window(np.array([-1.0, 0.0, 0.36, 99.0]))
        np.testing.assert_array_equal(window[:, 0], [[0] * 5, [0, 0, 0, 1, 2], [7, 8, 9, 9, 9], [9] * 5])

    def test_one_row_is_enough(self):
        assert numbered("mel", 1).window(np.array([0.0, 5.0])).shape == (2, 80, 20)

    @pytest.mark.parametrize("shape", [(0, 29), (5, 28), (29,)])
    def test_wrong_shapes_are_refused(self, shape: tuple[int, ...]):
        with pytest.raises(ValueError, match="deepspeech features need shape"):
            SpeechFeatures(KINDS["deepspeech"], np.zeros(shape, np.float32))
