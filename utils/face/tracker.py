"""The built-in landmark detector: dlib's 68 points, tracked from frame to frame, smoothed without lag.

dlib's predictor is run on an upright patch of constant size that is cut out where the face was in the frame before;
that is faster and steadier than its face detector on every frame. The detector searches the whole image at the
start, after cuts, and once per second for new faces, and checks on the patch that the face is still there.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from utils.errors import UserError
from utils.face.landmarks import LEFT_EYE, POINTS, RIGHT_EYE, LandmarkTable
from utils.media.shots import shot_ranges

PREDICTOR_PATCH = 200
"""Side of the face in the patch that the predictor sees, in pixels."""
PREDICTOR_MARGIN = 0.35
"""Surroundings of the face in that patch, on each side, as a fraction of the face."""
DETECTOR_PATCH = 84
"""Side of the face in the patch that the detector sees: it was trained on faces of 80 pixels."""
DETECTOR_MARGIN = 0.4
TRACKED_BOX = (0.0, 1.0)
"""(shift down, scale) of the box that the predictor was trained on, as parts of the face's side: with smaller ones
alone the tracker drifts away."""
AVERAGED_BOX = (-0.03, 0.8)
"""A second box whose prediction is averaged with that of the first. Chosen on OpenFace's landmarks of a clip: against
the detector's own box, half the jitter after smoothing, and a lip opening that correlates with 0.86, not 0.83."""

VERIFY_FRAMES = 5
"""Frames between two checks of a tracked face by the detector."""
LOST_FRAMES = 15
"""A face that the detector has not confirmed for longer is lost, together with its frames since then."""
SEARCH_FRAMES = 3
"""Frames between two searches while no face is known."""
SEARCH_SIZES = (640, 1280, 2560)
"""Longer side in pixels of the image that is searched. The detector finds faces of at least 80 pixels; the larger sizes
are slow and find small faces if there are no others."""
MAX_ENLARGEMENT = 2.0
DEEP_SEARCH_SECONDS = 1.0
"""Time between two searches at the larger sizes while no face is known."""
THUMBNAIL_SOURCE = 480
"""Longer side in pixels of the image that is tested for cuts."""
NEW_FACE_SCORE = 0.0
KNOWN_FACE_SCORE = -0.6
MIN_OVERLAP = 0.3
MIN_FACE = 30
"""Smaller faces (side in pixels) are not followed."""
CUT_DIFFERENCE = 20.0
"""Mean change of luminance (of 255) between frames that makes the tracker search again."""

SMOOTHING_SECONDS = 0.026
"""Standard deviation of the Gaussian over time: symmetric, hence without lag, and small, to keep the lips' motion."""
_SHAPE_PREDICTOR = "shape_predictor_68_face_landmarks.dat"


class DetectorMissingError(UserError):
    """The landmark detector or its models are not installed."""


def model_file(name: str) -> Path:
    """Path of a model in the installed package face_recognition_models, which is not imported.

    Raises:
        DetectorMissingError: the package is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    path = None if spec is None or spec.origin is None else Path(spec.origin).parent / "models" / name
    if path is None or not path.exists():
        raise DetectorMissingError(
            "faces cannot be analysed: the package face_recognition_models is missing; "
            "pip install face_recognition_models"
        )
    return path


@dataclass(frozen=True)
class _Pose:
    """An upright square round a face: centre (x, y), side and rotation (radians) in pixels of the frame."""

    centre: np.ndarray
    side: float
    angle: float

    def near(self, other: "_Pose") -> bool:
        """Whether the predictor's answer would hardly change from one pose to the other."""
        moved = np.hypot(*(self.centre - other.centre))
        return moved < 0.06 * other.side and abs(self.side / other.side - 1) < 0.08


def _pose(points: np.ndarray) -> _Pose:
    """Pose of landmarks [68, 2], in the proportions of the boxes that dlib's predictor was trained on."""
    eyes = points[RIGHT_EYE].mean(axis=0) - points[LEFT_EYE].mean(axis=0)
    angle = float(np.arctan2(eyes[1], eyes[0]))
    centre = points.mean(axis=0)
    spread = float(np.sqrt(((points - centre) ** 2).sum(axis=1).mean()))
    up = np.array([np.sin(angle), -np.cos(angle)])
    return _Pose(centre + 0.15 * spread * up, 2.7 * spread, angle)


def _cut_patch(luma: np.ndarray, pose: _Pose, face_side: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The pose upright in the middle of a square patch, and the affine map [2, 3] from frame to patch."""
    side = int(face_side * (1 + 2 * margin))
    scale = face_side / pose.side
    cos, sin = np.cos(pose.angle) * scale, np.sin(pose.angle) * scale
    rotation = np.array([[cos, sin], [-sin, cos]])
    matrix = np.column_stack([rotation, side / 2 - 0.5 - rotation @ pose.centre])
    return cv2.warpAffine(luma, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), matrix


@dataclass
class _Face:
    """A tracked face. `pending` are frames that the detector has not confirmed yet."""

    number: int
    points: np.ndarray
    confirmed_frame: int
    frames: list[tuple[int, float, np.ndarray]] = field(default_factory=list)
    pending: list[tuple[int, np.ndarray]] = field(default_factory=list)

    def confirm(self, frame: int, score: float) -> None:
        """Accept all frames up to this one."""
        self.confirmed_frame = frame
        self.frames += [(number, score, points) for number, points in self.pending]
        self.pending.clear()


class FaceTracker:
    """Landmarks of all faces of a video, frame by frame.

    Args:
        rate: frames per second.
        max_faces: faces tracked at a time, the largest first.

    Raises:
        DetectorMissingError: dlib or its models are not installed.
    """

    def __init__(self, rate: float, max_faces: int = 4):
        try:
            import dlib
        except ImportError:
            raise DetectorMissingError("landmarks cannot be detected: dlib is missing; pip install dlib-bin") from None
        self._dlib = dlib
        self._rate = rate
        self._max_faces = max_faces
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(model_file(_SHAPE_PREDICTOR)))
        self._frame = 0
        self._next_search = 0
        self._next_deep_search = 0
        self._luma: np.ndarray | None = None
        self._thumbnail: np.ndarray | None = None
        self._faces: list[_Face] = []
        self._lost: list[_Face] = []

    def add(self, luma: np.ndarray) -> None:
        """Take the next frame, uint8 [H, W]."""
        luma = np.ascontiguousarray(luma)
        if self._is_cut(luma):
            self._leave_shot()
            self._next_search = self._next_deep_search = self._frame
        for face in list(self._faces):
            self._follow(face, luma)
        if self._frame >= self._next_search:
            self._search(luma)
        self._luma = luma
        self._frame += 1

    def finish(self, shots: Sequence[int] | np.ndarray = (0,)) -> LandmarkTable:
        """Landmarks of all frames so far, smoothed inside the shots that begin at the frames `shots`, int [S].

        Frames without a face have a row with `success` false, as OpenFace writes them. Values are rounded as those of
        an OpenFace csv, so that a run that reads the csv gives the same result.
        """
        self._leave_shot()
        seen = sorted((face for face in self._lost if face.frames), key=lambda face: face.number)
        rows = [(frame, face.number, score, points) for face in seen for frame, score, points in face.frames]
        frame, number = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
        number = np.unique(number, return_inverse=True)[1]  # without the numbers of false detections
        confidence = np.array([1 / (1 + np.exp(-2 - 2 * row[2])) for row in rows])
        points = np.array([row[3] for row in rows], np.float64).reshape(-1, POINTS, 2)
        for face_number in np.unique(number):
            mine = np.flatnonzero(number == face_number)
            for shot in shot_ranges(shots, self._frame):
                inside = mine[(frame[mine] >= shot.start) & (frame[mine] < shot.stop)]
                for run in np.split(inside, np.flatnonzero(np.diff(frame[inside]) > 1) + 1):
                    points[run] = self._smooth(points[run])
        empty = np.setdiff1d(np.arange(self._frame), frame)
        frame = np.concatenate([frame, empty])
        number = np.concatenate([number, np.zeros_like(empty)])
        confidence = np.concatenate([confidence, np.zeros(len(empty))])
        points = np.concatenate([points, np.zeros((len(empty), POINTS, 2))]).astype(np.float32)
        order = np.lexsort((number, frame))
        return LandmarkTable(
            frame=frame[order],
            face_id=number[order],
            confidence=np.round(confidence[order], 2),
            success=np.repeat([True, False], [len(frame) - len(empty), len(empty)])[order],
            points=np.round(points[order].astype(np.float64), 2).astype(np.float32),
        )

    def _smooth(self, points: np.ndarray) -> np.ndarray:
        """Gaussian over time of successive frames [T, 68, 2]."""
        sigma = SMOOTHING_SECONDS * self._rate
        reach = int(np.ceil(4 * sigma))
        if len(points) < 3:
            return points
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        weights /= weights.sum()
        # Mirrored through the end points, so that motion continues beyond the ends.
        reach = min(reach, len(points) - 1)
        weights = weights[len(weights) // 2 - reach : len(weights) // 2 + reach + 1]
        padded = np.pad(points, ((reach, reach), (0, 0), (0, 0)), mode="reflect", reflect_type="odd")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
        return windows @ (weights / weights.sum())

    def _is_cut(self, luma: np.ndarray) -> bool:
        step = max(1, max(luma.shape) // THUMBNAIL_SOURCE)  # averaging over all of a large frame takes milliseconds
        sparse = np.ascontiguousarray(luma[::step, ::step])
        before, self._thumbnail = self._thumbnail, cv2.resize(sparse, (32, 32), interpolation=cv2.INTER_AREA)
        return before is not None and float(cv2.absdiff(before, self._thumbnail).mean()) > CUT_DIFFERENCE

    def _leave_shot(self) -> None:
        """Lose all faces, after a last check in the frame before this one."""
        for face in self._faces:
            if face.pending:
                score = self._score(self._luma, face.points)
                if score > KNOWN_FACE_SCORE:
                    face.confirm(face.pending[-1][0], score)
        self._lose(self._faces)

    def _lose(self, faces: list[_Face]) -> None:
        for face in list(faces):
            face.pending.clear()
            self._faces.remove(face)
            self._lost.append(face)

    def _predict(self, luma: np.ndarray, pose: _Pose, box: tuple[float, float]) -> np.ndarray:
        """Landmarks [68, 2] in the frame, with a box given as (shift down, scale) of the pose's square."""
        patch, matrix = _cut_patch(luma, pose, PREDICTOR_PATCH, PREDICTOR_MARGIN)
        middle = len(patch) / 2
        shift, scale = box
        half, down = PREDICTOR_PATCH * scale / 2, middle + shift * PREDICTOR_PATCH
        sides = (middle - half, down - half, middle + half - 1, down + half - 1)
        shape = self._predictor(patch, self._dlib.rectangle(*(round(side) for side in sides)))
        found = np.array([(part.x, part.y) for part in shape.parts()], float)
        return (found - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T

    def _locate(self, luma: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        """Landmarks near the given ones [68, 2], or None where there is nothing like a face."""
        pose = _pose(points)
        for _ in range(3):
            before = pose
            points = self._predict(luma, pose, TRACKED_BOX)
            pose = _pose(points)
            if not MIN_FACE <= pose.side <= 2 * max(luma.shape):
                return None
            if pose.near(before):
                break
        return (points + self._predict(luma, pose, AVERAGED_BOX)) / 2

    def _follow(self, face: _Face, luma: np.ndarray) -> None:
        points = self._locate(luma, face.points)
        if points is None:
            self._lose([face])
            self._next_search = min(self._next_search, self._frame)
            return
        face.points = points
        face.pending.append((self._frame, points))
        waited = self._frame - face.confirmed_frame
        if waited >= VERIFY_FRAMES:
            score = self._score(luma, points)
            if score > KNOWN_FACE_SCORE:
                face.confirm(self._frame, score)
            elif waited > LOST_FRAMES:
                self._lose([face])
                self._next_search = min(self._next_search, self._frame)

    def _score(self, luma: np.ndarray, points: np.ndarray) -> float:
        """The detector's score of a face at these landmarks; -inf where it sees none."""
        patch, _ = _cut_patch(luma, _pose(points), DETECTOR_PATCH, DETECTOR_MARGIN)
        low = len(patch) / 2 - DETECTOR_PATCH / 2
        expected = np.array([low, low, low + DETECTOR_PATCH, low + DETECTOR_PATCH])
        boxes, scores, _ = self._detector.run(patch, 0, KNOWN_FACE_SCORE)
        fitting = [s for box, s in zip(boxes, scores, strict=True) if _overlap(_sides(box), expected) > MIN_OVERLAP]
        return max(fitting, default=-np.inf)

    def _search(self, luma: np.ndarray) -> None:
        """Search the whole image for faces that are not tracked yet."""
        found = self._detect(luma, SEARCH_SIZES[0])
        if not found and not self._faces and self._frame >= self._next_deep_search:
            self._next_deep_search = self._frame + max(1, round(DEEP_SEARCH_SECONDS * self._rate))
            found = next(filter(None, (self._detect(luma, size) for size in SEARCH_SIZES[1:])), [])
        known = [_sides_of(face.points) for face in self._faces]
        for sides in sorted(found, key=lambda sides: sides[0] - sides[2]):
            if len(self._faces) >= self._max_faces or any(_overlap(sides, other) > MIN_OVERLAP / 2 for other in known):
                continue
            shape = self._predictor(luma, self._dlib.rectangle(*(round(side) for side in sides)))
            points = self._locate(luma, np.array([(part.x, part.y) for part in shape.parts()], float))
            if points is None:
                continue
            # It counts once the detector has seen it a second time: false detections rarely last.
            number = self._number(points)
            self._faces.append(_Face(number, points, self._frame, pending=[(self._frame, points)]))
            known.append(_sides_of(points))
        self._next_search = self._frame + (max(1, round(self._rate)) if self._faces else SEARCH_FRAMES)

    def _detect(self, luma: np.ndarray, size: int) -> list[np.ndarray]:
        """Boxes of faces (left, top, right, bottom), found in the image resized to a longer side of `size`."""
        scale = min(MAX_ENLARGEMENT, size / max(luma.shape))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=method)
        boxes, _, _ = self._detector.run(resized, 0, NEW_FACE_SCORE)
        return [_sides(box) / scale for box in boxes]

    def _number(self, points: np.ndarray) -> int:
        """face_id of a face found: that of a lost one in the same place, else a new one."""
        taken = {face.number for face in self._faces}
        for face in reversed(self._lost):
            if face.number not in taken and _overlap(_sides_of(points), _sides_of(face.points)) > MIN_OVERLAP:
                return face.number
        return max((face.number for face in (*self._lost, *self._faces)), default=-1) + 1


def _sides(box: object) -> np.ndarray:
    """(left, top, right, bottom) of a dlib rectangle, right and bottom exclusive."""
    return np.array([box.left(), box.top(), box.right() + 1, box.bottom() + 1], float)


def _sides_of(points: np.ndarray) -> np.ndarray:
    """(left, top, right, bottom) of the square round landmarks [68, 2]."""
    pose = _pose(points)
    return np.concatenate([pose.centre - pose.side / 2, pose.centre + pose.side / 2])


def _overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    inner = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    if (inner <= 0).any():
        return 0.0
    shared = float(np.prod(inner))
    return shared / (float(np.prod(first[2:] - first[:2])) + float(np.prod(second[2:] - second[:2])) - shared)
