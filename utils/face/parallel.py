"""Track the faces of one video in parts, in several processes; the result equals that of a single pass.

A part is tracked from its first frame on as if nothing came before. Trackers of two parts that agree in a frame find
the same from there on, so that the part before is tracked a few frames further, to where the two agree; in the rare
case that they do not, it is tracked on until they do. Nothing depends on the number of processes or on the parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

from utils.executors import RunJobs
from utils.face.landmarks import LandmarkTable
from utils.face.tracker import DetectorModels, FaceTracker, TrackerState, load_models
from utils.face.tracks import FaceTrack, landmark_table
from utils.media.shots import ShotDetector
from utils.media.video_parts import PartError, Seam, VideoParts, check_seams, read_frames

OVERLAP = 12
"""Frames that a part is tracked beyond its end. Measured: trackers agree after 0 to 5 frames, rarely 15."""


@dataclass
class TrackedPart:
    """What was tracked from frame `first` on.

    Attributes:
        first: first frame.
        tracks: faces, in the order in which they were found.
        states: tracker states by frame, compared with those of the next part to find where the two agree.
        changes: of each frame, for the scene cuts, see ShotDetector.
        seam: checksums of the first and last frames.
    """

    first: int
    tracks: list[FaceTrack]
    states: list[TrackerState]
    changes: list[float] = field(default_factory=list)
    seam: Seam = field(default_factory=Seam)


def track_in_parts(parts: VideoParts, run: RunJobs) -> tuple[list[FaceTrack], list[float]]:
    """Track the faces of a video.

    Args:
        parts: the video.
        run: runs jobs, in other processes or in this one.

    Returns:
        The tracks, for `table_of_parts`, and the changes of all frames, for the scene cuts.

    Raises:
        PartError: the parts are not what the packets of the file promise.
        DetectorMissingError: the landmark detector is not installed.
    """
    tracked = run(track_part, [(parts, first, end) for first, end in parts.bounds])
    check_seams([part.seam for part in tracked])
    changes = tracked[0].changes[:1]
    for part, (first, end) in zip(tracked, parts.bounds, strict=True):
        changes += part.changes[1 : end - first + 1]  # the last is that of the first frame of the next part
    whole = tracked[0]
    for part in tracked[1:]:
        joined = join(whole, part)
        if joined is None:
            if not whole.states:
                raise PartError
            (further,) = run(track_further, [(parts, whole.states[-1], part)])
            whole = join(whole, further)
            joined = join(whole, part) or whole
        whole = joined
    return whole.tracks, changes


def table_of_parts(parts: VideoParts, tracks: Sequence[FaceTrack], shots: Sequence[int]) -> LandmarkTable:
    """Landmarks of the video, smoothed inside its shots, as FaceTracker.finish makes them."""
    return landmark_table(tracks, shots, len(parts.pts), float(parts.reader.info.rate))


def track_part(parts: VideoParts, first: int, end: int) -> TrackedPart:
    """Track frames `first` .. `end` - 1 and OVERLAP further ones, as if the video began there. Runs in any process."""
    rate = float(parts.reader.info.rate)
    tracker, detector, seam = FaceTracker(rate, first_frame=first, models=_models()), ShotDetector(rate), Seam()
    states = []
    last = min(end + OVERLAP, len(parts.pts))
    for frame in read_frames(parts, first, last, seam, OVERLAP):
        detector.add(frame.luma)
        states.append(tracker.add(frame.luma))
    if last == len(parts.pts):
        tracker.end_tracks()
    return TrackedPart(first, tracker.tracks, [state for state in states if state], detector.changes, seam)


def track_further(parts: VideoParts, state: TrackerState, following: TrackedPart) -> TrackedPart:
    """Track from `state` on until the tracker agrees with that of the part `following`, or to where that one ends.

    Runs in any process.
    """
    tracker = FaceTracker(float(parts.reader.info.rate), models=_models())
    known = {other.frame: other for other in following.states}
    end = following.first + len(following.changes)
    begin = max(start for start in parts.starts if start <= state.frame)
    states = [state]
    for frame in read_frames(parts, begin, end, Seam()):
        if frame.index == state.frame:
            tracker.resume(state, frame.luma)
            states = [replace(state, faces=[(index, points) for index, (_, points) in enumerate(state.faces)])]
        if frame.index <= state.frame:
            continue
        reached = tracker.add(frame.luma)
        if reached is not None:
            states.append(reached)
            if frame.index in known and reached.matches(known[frame.index]) is not None:
                break
    if tracker.next_frame == len(parts.pts):
        tracker.end_tracks()
    return TrackedPart(state.frame, tracker.tracks, states)


def join(whole: TrackedPart, following: TrackedPart) -> TrackedPart | None:
    """Two parts as one, from the first frame on in which their trackers agree; None where there is none."""
    theirs = {state.frame: state for state in following.states}
    both = (state for state in whole.states if state.frame in theirs)
    meetings = ((state.frame, state.matches(theirs[state.frame])) for state in both)
    frame, pairs = next((meeting for meeting in meetings if meeting[1] is not None), (None, None))
    if frame is None:
        return None
    tracks = [_up_to(track, frame) for track in whole.tracks if track.start <= frame]
    new_index: dict[int, int] = {}
    for index, their_index in pairs:
        new_index[their_index] = index
        tracks[index] = _continued(tracks[index], following.tracks[their_index], frame)
    for their_index, track in enumerate(following.tracks):
        if track.start > frame:
            new_index[their_index] = len(tracks)
            tracks.append(track)
    states = [
        replace(state, faces=[(new_index[index], points) for index, points in state.faces])
        for state in following.states
        if state.frame >= frame
    ]
    return TrackedPart(whole.first, tracks, states)


def _up_to(track: FaceTrack, frame: int) -> FaceTrack:
    """What was known of a track after `frame`."""
    ended = track.end is not None and track.end <= frame
    frames = [row for row in track.frames if row[0] <= frame]
    return replace(track, frames=frames, pending=[], end=track.end if ended else None)


def _continued(track: FaceTrack, further: FaceTrack, frame: int) -> FaceTrack:
    """A track up to `frame`, and from there on what another tracker has found of the same face."""
    frames = track.frames + [row for row in further.frames if row[0] > frame]
    return replace(track, frames=frames, points=further.points, end=further.end)


@lru_cache(maxsize=1)
def _models() -> DetectorModels:
    """The models, loaded once in a process that works on one part after the other."""
    return load_models()
