"""LSE-D and LSE-C (Wav2Lip, Prajwal et al. 2020), computed with the original SyncNet (Chung & Zisserman 2016).

The procedure is that of syncnet_python, which Wav2Lip's evaluation calls: 25 frames per second, faces of 224 x 224,
MFCC of 16-bit audio, distances of embeddings over shifts of 15 frames either way. Only the faces are cut differently:
by the 68 landmarks instead of the S3FD detector; where a face begins or ends its box stays, and outside the frame the
edge is repeated; crops are not compressed in between.
"""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import median_filter

from models.chung_syncnet import ChungSyncNet
from utils.errors import UserError
from utils.face.crop import cut_face
from utils.face.crop_geometry import CropBox
from utils.media.audio import Waveform
from utils.media.video_reader import Frame, VideoReader
from utils.media.yuv import Colour
from utils.pickle_check import read_torch_file
from utils.settings import LSE_WEIGHTS_URL

RATE = 25
CLIP_FRAMES, MFCC_ROWS, ROWS_PER_FRAME = 5, 20, 4
"""Video frames and MFCC rows that the network takes at a time, and MFCC rows per video frame."""
MAX_SHIFT = 15
SIDE = 224
PADDING = 0.4
"""The crop extends beyond the face's box by this fraction of half its side, and by twice that below."""
SMOOTHED_FRAMES = 13
"""Length of the median filter over the boxes."""
FOREHEAD = 0.3
"""A detector's box begins above the brows by this fraction of the height from brows to chin."""
_BATCH = 4


@dataclass(frozen=True)
class LipSyncError:
    """LSE of a video.

    distance: LSE-D, the smallest mean distance over shifts; confidence: LSE-C, the median minus the smallest; offset:
    that shift in frames of 40 ms, with syncnet_python's sign. NaN if no five successive frames have a face.
    """

    distance: float
    confidence: float
    offset: float


class LSEMetric:
    """Measures videos with one network.

    Args:
        network: Chung and Zisserman's SyncNet, see load_chung_syncnet.
        device: where to run.
    """

    def __init__(self, network: torch.nn.Module, device: torch.device):
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    def start(self, reader: VideoReader, points: np.ndarray, waveform: Waveform) -> "LSEPass":
        """Begin to measure a video; give the result its frames (see utils.evaluation.single_pass), then `result`.

        Args:
            reader: the video.
            points: landmarks of its frames, [N, 68, 2] in pixels, NaN without a face.
            waveform: its audio, mono at 16 kHz.
        """
        return LSEPass(self, reader, points, waveform)


def load_chung_syncnet(path: Path) -> ChungSyncNet:
    """Load Chung and Zisserman's syncnet_v2.model.

    Raises:
        UserError: no such file, or other weights.
    """
    network = ChungSyncNet()
    state = read_torch_file(path, "--lse_syncnet_path", f"download {LSE_WEIGHTS_URL}")
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        raise UserError(f"{path} is not Chung and Zisserman's SyncNet; take {LSE_WEIGHTS_URL}") from None
    return network


class LSEPass:
    """Scores the frames of one video as they come; of long videos only the embeddings are kept."""

    def __init__(self, metric: LSEMetric, reader: VideoReader, points: np.ndarray, waveform: Waveform):
        from python_speech_features import mfcc

        self._metric, self._colour = metric, reader.info.colour
        rows = mfcc(np.round(np.clip(waveform.samples, -1, 1) * 32767).astype(np.int16), waveform.rate)
        self._mfcc = torch.from_numpy(rows.T.astype(np.float32))  # [13, T]
        order = reader.timeline(RATE)
        self._windows = min(len(order), len(waveform.samples) * RATE // waveform.rate) - CLIP_FRAMES
        self.order = order[: max(0, self._windows + CLIP_FRAMES - 1)]
        self._boxes = face_boxes(points[order])
        self._clip: deque[np.ndarray] = deque(maxlen=CLIP_FRAMES)
        self._faces: list[torch.Tensor] = []
        self._starts: list[int] = []
        self._video_embeddings: list[torch.Tensor] = []

    def add(self, tick: int, frame: Frame) -> None:
        """Take the next frame."""
        if not np.isfinite(self._boxes[tick]).all():
            self._clip.clear()
            return
        self._clip.append(_face(frame.yuv, self._boxes[tick], self._colour))
        if len(self._clip) == CLIP_FRAMES:
            # The network was trained on OpenCV's order of colours.
            faces = np.stack(self._clip)[..., ::-1].transpose(3, 0, 1, 2)
            self._faces.append(torch.from_numpy(np.ascontiguousarray(faces, np.float32)))
            self._starts.append(tick + 1 - CLIP_FRAMES)
            if len(self._faces) == _BATCH:
                self._embed()

    @torch.inference_mode()
    def _embed(self) -> None:
        """Embed the waiting faces."""
        faces = torch.stack(self._faces).to(self._metric.device)
        self._video_embeddings.append(self._metric.network.encode_video(faces).cpu())
        self._faces.clear()

    @torch.inference_mode()
    def result(self) -> LipSyncError:
        """LSE of the video, after all frames have been added."""
        if self._faces:
            self._embed()
        if not self._starts:
            return LipSyncError(*3 * [float("nan")])
        metric, embeddings = self._metric, []
        for start in range(0, self._windows, _BATCH):
            some = range(start, min(start + _BATCH, self._windows))
            windows = [self._mfcc[:, ROWS_PER_FRAME * i : ROWS_PER_FRAME * i + MFCC_ROWS] for i in some]
            embeddings.append(metric.network.encode_audio(torch.stack(windows)[:, None].to(metric.device)).cpu())
        return lse_from_embeddings(torch.cat(self._video_embeddings), torch.tensor(self._starts), torch.cat(embeddings))


def lse_from_embeddings(video: torch.Tensor, starts: torch.Tensor, audio: torch.Tensor) -> LipSyncError:
    """LSE from embeddings of D numbers.

    Args:
        video: of five frames each, [S, D].
        starts: number of the first frame of each, int [S].
        audio: of the audio of every frame, [N, D]; beyond its ends embeddings are zero, as in syncnet_python.
    """
    padded = F.pad(audio, (0, 0, MAX_SHIFT, MAX_SHIFT))
    shifts = range(2 * MAX_SHIFT + 1)
    means = torch.stack([F.pairwise_distance(video, padded[starts + shift]).mean() for shift in shifts])
    smallest, at = means.min(0)
    return LipSyncError(smallest.item(), (means.median() - smallest).item(), float(MAX_SHIFT - at))


def face_boxes(points: np.ndarray) -> np.ndarray:
    """Middle x, middle y and half of the longer side of each face's box in pixels, [N, 3], smoothed over time.

    Args:
        points: 68 landmarks per frame, [N, 68, 2], NaN without a face.
    """
    left, top = points.min(1).T
    right, bottom = points.max(1).T
    top = top - FOREHEAD * (bottom - top)
    boxes = np.stack([(left + right) / 2, (top + bottom) / 2, np.maximum(right - left, bottom - top) / 2], 1)
    found = np.isfinite(boxes).all(1)
    smooth = np.full(boxes.shape, np.nan)
    smooth[found] = median_filter(boxes[found], (SMOOTHED_FRAMES, 1), mode="nearest")
    return smooth


def _face(yuv: np.ndarray, box: np.ndarray, colour: Colour) -> np.ndarray:
    """The face, uint8 RGB [SIDE, SIDE, 3]; what lies outside the frame repeats its edge."""
    x, y, half = box
    reach = half * (1 + PADDING)
    crop = CropBox(int(y - half), int(y - half) + int(2 * reach), int(x - reach), int(x - reach) + int(2 * reach))
    return cut_face(yuv, crop, colour).resized(SIDE, SIDE)
