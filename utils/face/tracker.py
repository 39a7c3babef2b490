"""The built-in landmark detector: dlib's 68 points, tracked from frame to frame, smoothed without lag.

dlib's predictor is run on an upright patch of constant size that is cut out where the face was in the frame before;
that is faster and steadier than its face detector on every frame. The detector searches the whole image at the
start, after cuts, and once per second for new faces, and checks on the patch that the face is still there.

Two trackers that begin at different frames soon agree to the last bit, so that parts of a video can be tracked at the
same time (utils.face.parallel): patches are cut on a grid of poses, and searches and checks have fixed frame numbers.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.errors import UserError
from utils.face.landmarks import LandmarkTable
from utils.face.tracks import FaceTrack, Pose, box_overlap, face_box, landmark_table, pose_of

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

POSE_GRID = 0.01
"""Patches are cut at poses of a grid, so that small differences between two trackers die out within a few frames:
steps of the centre, as a fraction of the face's side, and of the side (ratio of neighbours - 1)."""
ANGLE_GRID = 0.02
"""Steps of the rotation, in radians."""

VERIFY_FRAMES = 5
"""A tracked face is checked by the detector at the multiples of this frame number."""
LOST_FRAMES = 15
"""A face that the detector has not confirmed for longer is lost, together with its frames since then."""
SEARCH_FRAMES = 3
"""While no face is known, a search takes place at the multiples of this frame number."""
SEARCH_SIZES = (640, 1280, 2560)
"""Longer side in pixels of the image that is searched. The detector finds faces of at least 80 pixels; the larger sizes
are slow and find small faces if there are no others."""
MAX_ENLARGEMENT = 2.0
"""Maximum factor by which a small image is enlarged for the search."""
DEEP_SEARCH_SECONDS = 1.0
"""Time between two searches at the larger sizes while no face is known."""
THUMBNAIL_SOURCE = 480
"""Longer side in pixels of the image that is tested for cuts."""
NEW_FACE_SCORE = 0.0
"""Minimum detector score of a new face."""
KNOWN_FACE_SCORE = -0.6
"""Minimum detector score of a face that is tracked: lower, to bridge poor frames."""
MIN_OVERLAP = 0.3
"""Minimum intersection over union of a detection with the tracked face to confirm it. A detection in the whole
image that overlaps a tracked face by more than half of this is no new face."""
MIN_FACE = 30
"""Smaller faces (side in pixels) are not followed."""
CUT_DIFFERENCE = 20.0
"""Mean change of luminance (of 255) between frames that makes the tracker search again."""

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


def _on_grid(pose: Pose) -> Pose:
    """The nearest pose of the grid."""
    side = float(np.exp(round(np.log(pose.side) / POSE_GRID) * POSE_GRID))
    cell = POSE_GRID * side
    return Pose(np.round(pose.centre / cell) * cell, side, round(pose.angle / ANGLE_GRID) * ANGLE_GRID)


def _cut_patch(luma: np.ndarray, pose: Pose, face_side: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """The pose upright in the middle of a square patch, and the affine map [2, 3] from frame to patch."""
    side = int(face_side * (1 + 2 * margin))
    scale = face_side / pose.side
    cos, sin = np.cos(pose.angle) * scale, np.sin(pose.angle) * scale
    rotation = np.array([[cos, sin], [-sin, cos]])
    matrix = np.column_stack([rotation, side / 2 - 0.5 - rotation @ pose.centre])
    return cv2.warpAffine(luma, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE), matrix


@dataclass(frozen=True)
class TrackerState:
    """What a tracker goes on from after `frame`, where the detector has just confirmed all faces: for each, the index
    of its track and its landmarks [68, 2]."""

    frame: int
    faces: list[tuple[int, np.ndarray]]

    def matches(self, other: "TrackerState") -> list[tuple[int, int]] | None:
        """Pairs of tracks (this tracker's, the other's) if the two find the same from now on, else None."""
        mine, theirs = (sorted((points.tobytes(), index) for index, points in each.faces) for each in (self, other))
        if self.frame != other.frame or [key for key, _ in mine] != [key for key, _ in theirs]:
            return None
        return [(index, their_index) for (_, index), (_, their_index) in zip(mine, theirs, strict=True)]


@dataclass(frozen=True)
class DetectorModels:
    """dlib's face detector, its landmark predictor, and its type of boxes (left, top, right, bottom)."""

    detector: Callable
    predictor: Callable
    rectangle: type


def load_models() -> DetectorModels:
    """Load dlib and its models, 95 MB.

    Raises:
        DetectorMissingError: dlib or its models are not installed.
    """
    try:
        import dlib
    except ImportError:
        raise DetectorMissingError("landmarks cannot be detected: dlib is missing; pip install dlib-bin") from None
    predictor = dlib.shape_predictor(str(model_file(_SHAPE_PREDICTOR)))
    return DetectorModels(dlib.get_frontal_face_detector(), predictor, dlib.rectangle)


class FaceTracker:
    """Landmarks of all faces of a video, frame by frame.

    `tracks` are the faces found so far, in the order in which they were found.

    Args:
        rate: frames per second.
        max_faces: faces tracked at a time, the largest first.
        first_frame: number of the first frame that `add` is given.
        models: None loads them.

    Raises:
        DetectorMissingError: dlib or its models are not installed.
    """

    def __init__(self, rate: float, max_faces: int = 4, first_frame: int = 0, models: DetectorModels | None = None):
        models = models or load_models()
        self._detector, self._predictor, self._rectangle = models.detector, models.predictor, models.rectangle
        self._rate = rate
        self._max_faces = max_faces
        self._first_frame = self._frame = first_frame
        self._search_period = max(1, round(rate))
        self._deep_search_period = SEARCH_FRAMES * max(1, round(DEEP_SEARCH_SECONDS * rate / SEARCH_FRAMES))
        self._luma: np.ndarray | None = None
        self._thumbnail: np.ndarray | None = None
        self._active: list[FaceTrack] = []
        self.tracks: list[FaceTrack] = []

    def add(self, luma: np.ndarray) -> TrackerState | None:
        """Take the next frame, uint8 [H, W].

        Returns:
            The tracker's state if another tracker may agree with it here, else None.
        """
        luma = np.ascontiguousarray(luma)
        fresh = self._frame == self._first_frame
        if self._store_thumbnail(luma):
            self.end_tracks()
            fresh = True
        known = len(self._active)
        for track in list(self._active):
            self._follow(track, luma)
        lost = len(self._active) < known
        period = self._search_period if self._active else SEARCH_FRAMES
        if fresh or lost or self._frame % period == 0:
            self._search(luma, deep=fresh or self._frame % self._deep_search_period == 0)
        self._luma = luma
        self._frame += 1
        if any(track.pending for track in self._active):
            return None
        return TrackerState(self._frame - 1, [(self.tracks.index(track), track.points) for track in self._active])

    def finish(self, shots: Sequence[int] | np.ndarray = (0,)) -> LandmarkTable:
        """Landmarks of all frames so far, smoothed inside the shots that begin at the frames `shots`, int [S].

        Frames without a face have a row with `success` false, as OpenFace writes them.
        """
        self.end_tracks()
        return landmark_table(self.tracks, shots, self._frame, self._rate)

    def resume(self, state: TrackerState, luma: np.ndarray) -> None:
        """Go on from the state of another tracker and its frame, uint8 [H, W]; the tracks begin there, in its order."""
        luma = np.ascontiguousarray(luma)
        self._first_frame = -1  # the faces are known: no full search at the next frame
        self._store_thumbnail(luma)  # the first one: there is none to compare it with
        self._luma, self._frame = luma, state.frame + 1
        for _, points in state.faces:
            track = FaceTrack(state.frame, points, points, state.frame)
            self.tracks.append(track)
            self._active.append(track)

    @property
    def next_frame(self) -> int:
        """Number of the frame that `add` takes next."""
        return self._frame

    def end_tracks(self) -> None:
        """End all tracks, as at a cut or at the end of the video, after a last check in the frame before this one."""
        for track in self._active:
            if track.pending:
                score = self._score(self._luma, track.points)
                if score > KNOWN_FACE_SCORE:
                    track.confirm(track.pending[-1][0], score)
        self._lose(self._active)

    def _store_thumbnail(self, luma: np.ndarray) -> bool:
        """Store the frame's thumbnail; return whether it differs from the previous one as at a cut."""
        step = max(1, max(luma.shape) // THUMBNAIL_SOURCE)  # averaging over all of a large frame takes milliseconds
        sparse = np.ascontiguousarray(luma[::step, ::step])
        before, self._thumbnail = self._thumbnail, cv2.resize(sparse, (32, 32), interpolation=cv2.INTER_AREA)
        return before is not None and float(cv2.absdiff(before, self._thumbnail).mean()) > CUT_DIFFERENCE

    def _lose(self, tracks: list[FaceTrack]) -> None:
        for track in list(tracks):
            track.pending.clear()
            track.end = self._frame
            self._active.remove(track)

    def _predict(self, luma: np.ndarray, pose: Pose, box: tuple[float, float]) -> np.ndarray:
        """Landmarks [68, 2] in the frame, with a box given as (shift down, scale) of the pose's square."""
        patch, matrix = _cut_patch(luma, pose, PREDICTOR_PATCH, PREDICTOR_MARGIN)
        middle = len(patch) / 2
        shift, scale = box
        half, down = PREDICTOR_PATCH * scale / 2, middle + shift * PREDICTOR_PATCH
        sides = (middle - half, down - half, middle + half - 1, down + half - 1)
        shape = self._predictor(patch, self._rectangle(*(round(side) for side in sides)))
        found = np.array([(part.x, part.y) for part in shape.parts()], float)
        return (found - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T

    def _locate(self, luma: np.ndarray, points: np.ndarray) -> np.ndarray | None:
        """Landmarks near the given ones [68, 2], or None where there is nothing like a face."""
        pose = _on_grid(pose_of(points))
        for _ in range(3):
            before = pose
            points = self._predict(luma, pose, TRACKED_BOX)
            found = pose_of(points)
            if not MIN_FACE <= found.side <= 2 * max(luma.shape):
                return None
            pose = _on_grid(found)
            if pose.near(before):
                break
        return (points + self._predict(luma, pose, AVERAGED_BOX)) / 2

    def _follow(self, track: FaceTrack, luma: np.ndarray) -> None:
        points = self._locate(luma, track.points)
        if points is None:
            self._lose([track])
            return
        track.points = points
        track.pending.append((self._frame, points))
        if self._frame % VERIFY_FRAMES == 0:
            score = self._score(luma, points)
            if score > KNOWN_FACE_SCORE:
                track.confirm(self._frame, score)
            elif self._frame - track.confirmed_frame > LOST_FRAMES:
                self._lose([track])

    def _score(self, luma: np.ndarray, points: np.ndarray) -> float:
        """The detector's score of a face at these landmarks; -inf where it sees none."""
        patch, _ = _cut_patch(luma, pose_of(points), DETECTOR_PATCH, DETECTOR_MARGIN)
        low = len(patch) / 2 - DETECTOR_PATCH / 2
        expected = np.array([low, low, low + DETECTOR_PATCH, low + DETECTOR_PATCH])
        boxes, scores, _ = self._detector.run(patch, 0, KNOWN_FACE_SCORE)
        fitting = [s for box, s in zip(boxes, scores, strict=True) if box_overlap(_sides(box), expected) > MIN_OVERLAP]
        return max(fitting, default=-np.inf)

    def _search(self, luma: np.ndarray, deep: bool) -> None:
        """Search the whole image for faces that are not tracked yet; `deep`: at the larger sizes, too, if need be."""
        found = self._detect(luma, SEARCH_SIZES[0])
        if deep and not found and not self._active:
            found = next(filter(None, (self._detect(luma, size) for size in SEARCH_SIZES[1:])), [])
        known = [face_box(track.points) for track in self._active]
        for sides in sorted(found, key=lambda sides: sides[0] - sides[2]):
            overlaps = [box_overlap(sides, other) for other in known]
            if len(self._active) >= self._max_faces or max(overlaps, default=0) > MIN_OVERLAP / 2:
                continue
            shape = self._predictor(luma, self._rectangle(*(round(side) for side in sides)))
            points = self._locate(luma, np.array([(part.x, part.y) for part in shape.parts()], float))
            if points is None:
                continue
            # It counts once the detector has seen it a second time: false detections rarely last.
            track = FaceTrack(self._frame, points, points, self._frame, pending=[(self._frame, points)])
            self._active.append(track)
            self.tracks.append(track)
            known.append(face_box(points))

    def _detect(self, luma: np.ndarray, size: int) -> list[np.ndarray]:
        """Boxes of faces (left, top, right, bottom), found in the image resized to a longer side of `size`."""
        scale = min(MAX_ENLARGEMENT, size / max(luma.shape))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(luma, None, fx=scale, fy=scale, interpolation=method)
        boxes, _, _ = self._detector.run(resized, 0, NEW_FACE_SCORE)
        return [_sides(box) / scale for box in boxes]


def _sides(box: object) -> np.ndarray:
    """(left, top, right, bottom) of a dlib rectangle, right and bottom exclusive."""
    return np.array([box.left(), box.top(), box.right() + 1, box.bottom() + 1], float)
