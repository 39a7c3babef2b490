"""Who is in the picture: dlib's face recognition network."""

import numpy as np

from utils.errors import UserError
from utils.face.tracker import model_file
from utils.media.yuv import Colour, rgb_patch

EMBEDDING = "dlib_face_recognition_resnet_model_v1 (128 numbers, from the package face_recognition_models)"
_MARGIN = 0.5
"""Surroundings of the landmarks that the network's aligned picture may need, as a share of their extent."""


class FaceIdentity:
    """Embeds faces with dlib's network.

    Raises:
        UserError: dlib or its models are not installed.
    """

    def __init__(self):
        try:
            import dlib
        except ImportError:
            raise UserError("identity cannot be measured: dlib is missing; pip install dlib-bin") from None
        self._dlib = dlib
        self._network = dlib.face_recognition_model_v1(str(model_file("dlib_face_recognition_resnet_model_v1.dat")))

    def embed(self, yuv: np.ndarray, points: np.ndarray, colour: Colour) -> np.ndarray | None:
        """Embedding, float64 [128], of the face with landmarks [68, 2] pixels in a frame (I420).

        None where the landmarks are NaN or outside the frame.
        """
        if not np.isfinite(points).all():
            return None
        height, width = yuv.shape[0] * 2 // 3, yuv.shape[1]
        low, high = points.min(axis=0), points.max(axis=0)
        margin = _MARGIN * (high - low).max()
        left, top = np.maximum(low - margin, 0).astype(int) // 2 * 2
        right, bottom = np.minimum(high + margin, (width, height)).astype(int) // 2 * 2
        if right - left < 2 or bottom - top < 2:
            return None
        patch = rgb_patch(yuv, top, bottom, left, right, colour)
        moved = np.rint(points - (left, top)).astype(int)
        shape = self._dlib.full_object_detection(
            self._dlib.rectangle(*moved.min(axis=0).tolist(), *moved.max(axis=0).tolist()),
            [self._dlib.point(*point) for point in moved.tolist()],
        )
        return np.array(self._network.compute_face_descriptor(patch, shape))


def cosine_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """CSIM of two embeddings: 1 for the same direction."""
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
