"""The page's use of the dubbing engine: what a visitor asked for in, files and pictures out. No dubbing logic."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from utils.dubbing import Dubber, DubbingJob, DubbingOptions, DubbingReport, LoadSettings, load_dubber
from utils.dubbing.references import parse_reference_frames
from utils.dubbing.settings import FitSettings
from utils.face.analysis import AnalyzedVideo
from utils.face.crop_geometry import CropBox
from utils.face.landmark_cache import landmark_cache
from utils.face.openface_csv import read_openface_csv
from utils.page.folder import PageFolder
from utils.page.pictures import (
    TIMELINE_FRAMES,
    FoundFace,
    evenly_spaced,
    face_crop,
    face_region,
    face_thumbnail,
    find_faces,
    make_pictures,
    moments,
    region_picture,
)
from utils.page.previews import plays_everywhere, write_preview
from utils.progress import Progress


@dataclass(frozen=True)
class Look:
    """What is shown of a source before it is dubbed; pictures are uint8 RGB."""

    analyzed: AnalyzedVideo
    region: CropBox
    faces: list[FoundFace]
    face_pictures: list[np.ndarray]
    references: list[int]
    reference_pictures: list[np.ndarray]
    timeline: list[int]
    timeline_pictures: list[np.ndarray]

    @property
    def frames(self) -> int:
        """Frames of the source."""
        return len(self.analyzed.plan.radius)

    def parse_references(self, text: str) -> list[int]:
        """Frame numbers of the option --reference_frames; raises UserError."""
        return parse_reference_frames(text, self.analyzed.plan)

    def picture(self, frame: int) -> np.ndarray:
        """The face, and what is round it, in a frame."""
        reader = self.analyzed.reader
        return make_pictures(reader, [region_picture(self.region, reader, frame)])[0]

    def with_references(self, references: list[int]) -> "Look":
        """The same source with other reference frames."""
        pictures = make_pictures(self.analyzed.reader, [face_crop(self.analyzed, frame) for frame in references])
        return replace(self, references=references, reference_pictures=pictures)


@dataclass(frozen=True)
class Dubbed:
    """A result: what the engine reports, the video of the faces if wanted, and what is shown beside it.

    `source` is the source, or a copy that browsers play, `still` whether it is a picture; `moments` are (seconds,
    picture) of eight moments.
    """

    report: DubbingReport
    face_video: Path | None
    source: Path
    still: bool
    moments: list[tuple[float, np.ndarray]]


class PageEngine:
    """Dubbers by weights, the last one kept loaded. To be used by one thread at a time, after the first load.

    Args:
        settings: how to load.
        options: how to dub where a visitor chooses nothing else.
        weights: files that are offered, the first one at the start.
        folder: takes landmarks and results.
        fit: dataset.fitting.fit_to_source, which this layer cannot import.

    Raises:
        UserError: unusable weights, device or feature model.
    """

    def __init__(
        self,
        settings: LoadSettings,
        options: DubbingOptions,
        weights: Sequence[Path],
        folder: PageFolder,
        fit: Callable[..., Path],
    ):
        self._fit = fit
        self._settings = replace(settings, landmark_dir=folder.landmarks)
        self.options = options
        self.weights = {path.name: path for path in reversed(weights)}
        self.folder = folder
        self._loaded: tuple[Path, Dubber] | None = None
        self._dubber(self.weights[weights[0].name])

    def look(
        self, weights: str, source: Path, landmarks: Path | None, options: DubbingOptions, progress: Progress
    ) -> Look:
        """Find faces and reference frames; raises UserError."""
        analyzed, references = self._dubber(self.weights[weights]).prepare(source, landmarks, options, progress)
        progress("pictures", 0, 0)
        reader = analyzed.reader
        region = face_region(analyzed.plan, reader.info.width, reader.info.height)
        faces = find_faces(read_openface_csv(landmarks or landmark_cache(source, self.folder.landmarks)))
        timeline = evenly_spaced(len(analyzed.plan.radius), TIMELINE_FRAMES)
        cuts = [face_thumbnail(face, reader) for face in faces]
        cuts += [face_crop(analyzed, frame) for frame in references]
        cuts += [region_picture(region, reader, frame) for frame in timeline]
        pictures = iter(make_pictures(reader, cuts))
        shown = [[next(pictures) for _ in part] for part in (faces, references, timeline)]
        return Look(analyzed, region, faces, shown[0], references, shown[1], timeline, shown[2])

    def dub(
        self, weights: str, minutes: float | None, job: DubbingJob, options: DubbingOptions, progress: Progress
    ) -> Dubbed:
        """Dub, with weights fitted to the person for so many minutes if wanted; raises UserError."""
        path = self.weights[weights]
        if minutes is not None:
            fitting = FitSettings(minutes, self.folder.fitted)
            start = replace(self._settings, pretrained_clip_DINet_path=path)
            path = self._fit(job.source, fitting, start, options, progress, job.landmark_path)
        dubber = self._dubber(path)
        progress("speech", 0, 0)  # the engine's first stage, which reports nothing
        report = dubber.dub(job, options, progress)
        progress("moments", 0, 0)
        analyzed, _ = dubber.prepare(job.source, job.landmark_path, options)  # which the dubber has at hand
        info = analyzed.reader.info
        source = job.source
        if not (info.is_still or plays_everywhere(source)):
            source = job.result.with_name(f"{job.source.stem[:80]}_preview.mp4")
            write_preview(analyzed.reader, source, report.rate, report.frames, progress)
        region = face_region(analyzed.plan, info.width, info.height)
        return Dubbed(report, job.face_video, source, info.is_still, moments(report.result, region))

    def _dubber(self, path: Path) -> Dubber:
        if self._loaded is None or self._loaded[0] != path:
            self._loaded = None  # the old network's memory is free before the new one is read
            self._loaded = path, load_dubber(replace(self._settings, pretrained_clip_DINet_path=path), self.options)
        return self._loaded[1]
