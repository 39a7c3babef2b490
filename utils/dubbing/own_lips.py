"""A person's own lips in place of poor generated ones: each frame's are moved to the opening and width of the latter.

A small network, or one that never saw this person, generates soft lips of a wrong colour, yet their opening and width
follow the speech. The mouth reader tells both; this module says what opening and width they are for this person, and
whose mouth shows the inside where the frame's own is not as wide open.
"""

from collections.abc import Sequence

import numpy as np

from utils.dubbing.face_blend import GeneratedFace
from utils.dubbing.face_geometry import FaceGeometry
from utils.dubbing.lip_warp import InnerMouth, LipTarget, Mouth, cut_inner_mouth, move_lips
from utils.face.landmarks import lip_opening, mouth_width
from utils.media.yuv import planes

STILL_STD, TALKING_STD = 0.007, 0.02
"""Standard deviation of the lip opening up to which a mouth is still and its range says nothing, and from which it is
that of a person who talks: 0.002 in a portrait, 0.010 to 0.08 in 52 clips of people who talk."""
SPEECH_MEAN, SPEECH_STD, SPEECH_MAX = 0.075, 0.04, 0.16
"""Lip opening in speech, for a still mouth: medians of their means, standard deviations and 95th percentiles."""
WIDTH_STD = 0.06
"""The same of the width of the mouth, as a fraction of it."""
MOVING_STD, MIN_GENERATED_STD = 0.1, 0.3
"""Standard deviation of the opening of generated lips by the mouth reader below which they do not move either; and
the smallest one that motion is divided by: 0.13 to 0.9 on 20 people."""
RANGE = (0.02, 0.98)
"""Quantiles of a person's openings and widths that are not left."""
MORE_OPEN = 0.03
"""How much further open than needed a mouth is best whose inside is shown: its lower lip is then hidden."""
OPENING_UNITS, POSE_UNIT, KEEP_BONUS = (0.04, 0.01), 0.5, 0.3
"""Differences of lip opening, of wider and of less open mouths, and of pose that count alike when the inside of a mouth
is chosen; and what a new choice must gain: without it the teeth flicker."""


class OwnLips:
    """Moves the lips of one person's frames, in the order of the result.

    Args:
        geometry: landmarks of the video.
        frames: frames of the source, spread over its lip openings.
        samples: frames with faces generated from speech of any moment.
    """

    def __init__(self, geometry: FaceGeometry, frames: Sequence[GeneratedFace], samples: Sequence[GeneratedFace]):
        self._geometry = geometry
        generated = np.stack([sample.lips for sample in samples])
        self._generated_mean, self._generated_std = generated.mean(0), np.maximum(generated.std(0), MIN_GENERATED_STD)
        shapes = _lip_shapes(geometry)
        talks = np.clip((shapes[:, 0].std() - STILL_STD) / (TALKING_STD - STILL_STD), 0, 1)
        width = shapes[:, 1].mean()
        least, largest = (1 - 2 * WIDTH_STD) * width, (1 + 2 * WIDTH_STD) * width
        speech = np.array([[SPEECH_MEAN, width], [SPEECH_STD, WIDTH_STD * width], [0, least], [SPEECH_MAX, largest]])
        own = np.stack([shapes.mean(0), shapes.std(0), *np.quantile(shapes, RANGE, axis=0)])
        self._mean, self._std, self._least, self._largest = speech + talks * (own - speech)
        cut = [(frame, cut_inner_mouth(frame.yuv, self._mouth(frame))) for frame in (frames if talks else ())]
        cut = [(frame, inner) for frame, inner in cut if inner is not None]
        self._inner = [inner for _, inner in cut]
        self._inner_openings = np.array([inner.mouth.gap / inner.mouth.unit for inner in self._inner])
        self._inner_poses = np.array([geometry.pose(frame.frame) for frame, _ in cut])
        self._last: int | None = None
        self._shot: int | None = None

    def blend(self, generated: GeneratedFace, weight: float, closed: float = 0.0) -> np.ndarray:
        """Return a copy of the frame with its lips moved.

        Args:
            generated: the frame and its generated face.
            weight: 0 .. 1, fraction of the way.
            closed: 0 .. 1, how far the lips are to be closed.
        """
        if self._geometry.shot[generated.frame] != self._shot:
            self._shot = self._geometry.shot[generated.frame]
            self._last = None
        target = self.target(generated.lips, closed)
        inner = self._inner_mouth(generated.frame, target.opening)
        return move_lips(generated.yuv, self._mouth(generated), target, weight, inner)

    def target(self, shape: np.ndarray, closed: float) -> LipTarget:
        """What the lips of this person are to become.

        Args:
            shape: opening and width [2] of the generated lips by the mouth reader.
            closed: 0 .. 1, how far the lips are to be closed.
        """
        wanted = self._mean + self._std * (shape - self._generated_mean) / self._generated_std
        opening, width = np.clip(wanted, self._least, self._largest)
        opening += closed * (self._least[0] - opening)
        return LipTarget(float(opening), float(width + closed * (self._mean[1] - width)))

    def _mouth(self, frame: GeneratedFace) -> Mouth:
        return Mouth(self._geometry.points[frame.frame], planes(frame.yuv)[0])

    def _inner_mouth(self, number: int, opening: float) -> InnerMouth | None:
        """The mouth of another frame that is at least about as wide open, with the head turned likewise."""
        if not self._inner:
            return None
        more = self._inner_openings - opening - MORE_OPEN
        cost = (more / np.where(more > 0, *OPENING_UNITS)) ** 2
        cost += (((self._inner_poses - self._geometry.pose(number)) / POSE_UNIT) ** 2).sum(1)
        if self._last is not None:
            cost[self._last] -= KEEP_BONUS
        self._last = int(cost.argmin())
        return self._inner[self._last]


def is_still_mouth(geometry: FaceGeometry, samples: Sequence[GeneratedFace]) -> bool:
    """Whether the mouth of a video does not move, as in a portrait or if somebody is silent, but generated lips do."""
    generated = np.stack([sample.lips for sample in samples])
    return _lip_shapes(geometry)[:, 0].std() < STILL_STD and generated[:, 0].std() > MOVING_STD


def _lip_shapes(geometry: FaceGeometry) -> np.ndarray:
    """Opening of the lips and width of the mouth in eye distances, [N, 2], of the frames with a face."""
    points = geometry.points[~np.isnan(geometry.points[:, 0, 0])]
    return np.stack([lip_opening(points), mouth_width(points)], -1)
