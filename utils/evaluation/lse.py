"""LSE-D and LSE-C (Prajwal et al. 2020, Wav2Lip): what Chung and Zisserman's SyncNet says of a video.

The procedure is that of syncnet_python, which Wav2Lip's evaluation calls: 25 frames a second, faces of 224 x 224,
MFCC of 16-bit sound, distances of codes over shifts of 15 frames either way. The faces alone are cut otherwise: by the
68 landmarks, not by the S3FD detector; where a face begins or ends its box stays, and outside the frame the edge is
repeated; crops are not compressed in between.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import median_filter

from config.evaluate import LSE_ADDRESS, LSE_OPTION
from models.chung_syncnet import ChungSyncNet
from utils.checkpoints import read_torch_file
from utils.errors import UserError
from utils.face.analysis import AnalyzedVideo
from utils.face.crop import cut_face
from utils.face.crop_geometry import CropBox
from utils.media.audio import Waveform
from utils.media.yuv import Colour
from utils.pipeline import batched

RATE = 25
FRAMES, SOUND_ROWS, ROWS_PER_FRAME = 5, 20, 4
MAX_SHIFT = 15
SIDE = 224
PADDING = 0.4
"""The crop reaches beyond the face's box by this share of half of its side, twice that below."""
SMOOTHED = 13
"""Frames of the median filter over the boxes."""
FOREHEAD = 0.3
"""A detector's box begins above the brows by this share of the height from brows to chin."""
_BATCH = 4


@dataclass(frozen=True)
class LipSyncError:
    """What the measure says of a video.

    distance: LSE-D, the least mean distance over shifts; confidence: LSE-C, the median less the least; offset: that
    shift in frames of 40 ms, with syncnet_python's sign. NaN where no five successive frames have a face.
    """

    distance: float
    confidence: float
    offset: float


class LipSyncErrorJudge:
    """Measures videos.

    Args:
        path: syncnet_v2.model.
        device: where to run.

    Raises:
        UserError: no such file, or other weights.
    """

    def __init__(self, path: Path, device: torch.device):
        network = ChungSyncNet()
        state = read_torch_file(path, LSE_OPTION, f"download {LSE_ADDRESS}")
        try:
            network.load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError):
            raise UserError(f"{LSE_OPTION}: {path} is not Chung and Zisserman's SyncNet; take {LSE_ADDRESS}") from None
        self.network = network.eval().requires_grad_(False).to(device)
        self.device = device

    @torch.inference_mode()
    def measure(self, video: AnalyzedVideo, waveform: Waveform) -> LipSyncError:
        """Judge a video with its sound, mono at 16 kHz; memory does not grow with its length but for the codes."""
        from python_speech_features import mfcc

        rows = mfcc(np.round(np.clip(waveform.samples, -1, 1) * 32767).astype(np.int16), waveform.rate)
        sound = torch.from_numpy(rows.T.astype(np.float32))  # [13, T]
        windows = min(len(video.reader.timeline(RATE)), len(waveform.samples) * RATE // waveform.rate) - FRAMES
        seen, places = [], []
        for batch in batched(self._faces(video, windows), _BATCH):
            faces, firsts = zip(*batch, strict=True)
            seen.append(self.network.encode_video(torch.stack(faces).to(self.device)).cpu())
            places += firsts
        if not places:
            return LipSyncError(*3 * [float("nan")])
        heard = []
        for start in range(0, windows, _BATCH):
            some = range(start, min(start + _BATCH, windows))
            stretches = [sound[:, ROWS_PER_FRAME * i : ROWS_PER_FRAME * i + SOUND_ROWS] for i in some]
            heard.append(self.network.encode_audio(torch.stack(stretches)[:, None].to(self.device)).cpu())
        return judge_codes(torch.cat(seen), torch.tensor(places), torch.cat(heard))

    def _faces(self, video: AnalyzedVideo, windows: int) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield (faces float32 [3, 5, SIDE, SIDE], number of the first) of all five successive frames with a face."""
        order = video.reader.timeline(RATE)
        boxes = face_boxes(video.plan.points[order])
        run: deque[np.ndarray] = deque(maxlen=FRAMES)
        for number, frame in enumerate(video.reader.play(order)):
            if number >= windows + FRAMES - 1:
                return
            if not np.isfinite(boxes[number]).all():
                run.clear()
                continue
            run.append(_face(frame.yuv, boxes[number], video.reader.info.colour))
            if len(run) == FRAMES:
                # The network was trained on OpenCV's order of colours.
                pictures = np.stack(run)[..., ::-1].transpose(3, 0, 1, 2)
                yield torch.from_numpy(np.ascontiguousarray(pictures, np.float32)), number + 1 - FRAMES


def judge_codes(seen: torch.Tensor, places: torch.Tensor, heard: torch.Tensor) -> LipSyncError:
    """The measure from codes.

    Args:
        seen: of five frames each, [S, EMBEDDING_DIM].
        places: number of the first frame of each, int [S].
        heard: of the sound of every frame, [N, EMBEDDING_DIM]; beyond its ends codes are zero, as in syncnet_python.
    """
    padded = F.pad(heard, (0, 0, MAX_SHIFT, MAX_SHIFT))
    shifts = range(2 * MAX_SHIFT + 1)
    means = torch.stack([F.pairwise_distance(seen, padded[places + shift]).mean() for shift in shifts])
    least, at = means.min(0)
    return LipSyncError(least.item(), (means.median() - least).item(), float(MAX_SHIFT - at))


def face_boxes(points: np.ndarray) -> np.ndarray:
    """Middle x, middle y and half of the longer side of each face's box in pixels, [N, 3], smoothed over time.

    Args:
        points: 68 landmarks a frame, [N, 68, 2], NaN where there is no face.
    """
    left, top = points.min(1).T
    right, bottom = points.max(1).T
    top = top - FOREHEAD * (bottom - top)
    boxes = np.stack([(left + right) / 2, (top + bottom) / 2, np.maximum(right - left, bottom - top) / 2], 1)
    found = np.isfinite(boxes).all(1)
    smooth = np.full(boxes.shape, np.nan)
    smooth[found] = median_filter(boxes[found], (SMOOTHED, 1), mode="nearest")
    return smooth


def _face(yuv: np.ndarray, box: np.ndarray, colour: Colour) -> np.ndarray:
    """The face, uint8 RGB [SIDE, SIDE, 3]; what lies outside the frame repeats its edge."""
    x, y, half = box
    reach = half * (1 + PADDING)
    place = CropBox(int(y - half), int(y - half) + int(2 * reach), int(x - reach), int(x - reach) + int(2 * reach))
    return cut_face(yuv, place, colour).resized(SIDE, SIDE)
