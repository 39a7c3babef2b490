"""Face identity (CSIM): dlib face embeddings.

Papers measure CSIM with ArcFace: figures of this module compare with each other, not with those of papers.
"""

import numpy as np

from utils.errors import UserError
from utils.face.tracker import model_file
from utils.media.yuv import Colour, luma_height, rgb_patch

EMBEDDING_NETWORK = "dlib_face_recognition_resnet_model_v1 (128 numbers, from the package face_recognition_models)"
_MARGIN = 0.5
"""Margin around the landmarks that the network's aligned image may need, as a fraction of their extent."""


class FaceIdentity:
    """Face embeddings by dlib's network.

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
        """Return the embedding, float64 [128], of the face with landmarks [68, 2] in pixels of a frame (I420).

        None if the landmarks are NaN or outside the frame.
        """
        if not np.isfinite(points).all():
            return None
        height, width = luma_height(yuv), yuv.shape[1]
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
    """CSIM of two embeddings: 1 for equal directions."""
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))
