"""What the page does when a visitor uploads, chooses, dubs or cancels."""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any

import gradio as gr

from utils.dubbing import DubbingJob, DubbingOptions
from utils.dubbing.settings import EXAMPLE_AUDIO, EXAMPLE_SOURCE
from utils.errors import UserError, blame
from utils.page import html
from utils.page.device_queue import DeviceQueue, QueueFullError, Ticket, WorkCancelledError
from utils.page.engine import Dubbed, Look, PageEngine
from utils.page.layout import Layout
from utils.page.limits import check_length
from utils.page.option_fields import read_field
from utils.page.session import DubRequest, Session
from utils.page.settings import PageSettings
from utils.page.texts import language_of, say

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
_SOURCE, _SPEECH = "source_video_path", "driving_audio_path"
_WEIGHTS, _LANDMARKS = "pretrained_clip_DINet_path", "source_openface_landmark_path"

Updates = dict[Any, Any]


class Handlers:
    """The page's event handlers; generators yield updates of components.

    Args:
        layout: the components.
        engine: dubs; used in the queue's thread only.
        queue: of the device.
        settings: limits.
        options: fields of the "more" part, by name.
    """

    def __init__(
        self,
        layout: Layout,
        engine: PageEngine,
        queue: DeviceQueue,
        settings: PageSettings,
        options: Mapping[str, Field],
    ):
        self.layout = layout
        self._engine = engine
        self._queue = queue
        self._settings = settings
        self._options = options
        self._sessions: dict[str, Session] = {}
        self.inputs = [
            layout.source_video,
            layout.source_picture,
            layout.speech_audio,
            layout.speech_video,
            layout.landmarks,
            layout.weights,
            *layout.options.values(),
        ]

    def look_at_source(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Look at a source that was given, unless that is under way: Gradio reports some changes twice."""
        session, given = self._session(request), dict(zip(self.inputs, values, strict=True))
        ticket = session.look_ticket
        if ticket is None or ticket.cancelled or ticket.error or self._given_source(given) != session.source:
            yield from self.look(request, *values)
        else:
            yield {self.layout.look_status: gr.skip()}

    def look(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Find the faces and reference frames of a source that was given, and show them."""
        session, language = self._session(request), _language(request)
        given = dict(zip(self.inputs, values, strict=True))
        place = self.layout.look_status
        if session.look_ticket is not None:
            session.look_ticket.cancel()
        session.look_ticket, session.look, session.selected = None, None, 0
        hidden = {self.layout.faces_part: gr.update(visible=False)}
        if not self._given_source(given):
            yield self._no_problems() | hidden | {place: ""}
            return
        forgotten = self._forget_choices(session, given)
        try:
            asked = self._check(given, language)
            yield self._no_problems() | forgotten | {place: html.note(say("stage_start", language))}
            session.look_ticket = ticket = self._queue.submit(
                lambda progress: self._engine.look(
                    asked.weights, asked.source, asked.landmarks, asked.options, progress
                )
            )
        except (UserError, QueueFullError) as error:
            yield self._failed(error, language, place) | hidden | forgotten
            return
        yield {self.layout.cancel: gr.update(interactive=True)}
        yield from self._follow(ticket, asked.frames, language, place)
        if isinstance(ticket.result, Look) and not ticket.cancelled:
            session.look = ticket.result
            yield self._shown(ticket.result, asked.options, language) | self._idle(session)
        elif ticket is session.look_ticket:  # otherwise another source has taken its place
            yield self._failed(ticket.error or WorkCancelledError(), language, place) | self._idle(session) | hidden

    def dub(self, request: gr.Request, *values: Any) -> Iterator[Updates]:
        """Dub, and show the result."""
        session, language = self._session(request), _language(request)
        given = dict(zip(self.inputs, values, strict=True))
        layout = self.layout
        if session.dub_ticket is not None and not (session.dub_ticket.finished or session.dub_ticket.cancelled):
            yield {layout.problems[""]: html.problem(say("busy", language))}
            return
        folder: Path | None = None
        try:
            asked = self._check(given, language)
            speech = self._speech(given, language)
            starting = html.note(say("stage_start", language))
            yield self._no_problems() | {layout.result_part: gr.update(visible=False), layout.status: starting}
            folder = self._engine.folder.new_result_dir()
            name = asked.source.stem[:80]
            job = DubbingJob(
                asked.source,
                speech,
                folder / f"{name}_facial_dubbing_add_audio.mp4",
                asked.landmarks,
                folder / f"{name}_synthetic_face.mp4" if asked.save_face_video else None,
            )
            session.dub_ticket = ticket = self._queue.submit(
                lambda progress: self._engine.dub(asked.weights, asked.fit, job, asked.options, progress),
                lambda succeeded: None if succeeded else shutil.rmtree(folder),
            )
        except (UserError, QueueFullError) as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            yield self._failed(error, language, layout.status)
            return
        yield {layout.dub: gr.update(interactive=False), layout.cancel: gr.update(interactive=True)}
        yield from self._follow(ticket, asked.frames, language, layout.status)
        ready = {layout.dub: gr.update(interactive=True), layout.cancel: gr.update(interactive=False)}
        if isinstance(ticket.result, Dubbed) and not ticket.cancelled:
            yield ready | self._result(ticket.result, asked.source, language)
        else:
            yield ready | self._failed(ticket.error or WorkCancelledError(), language, layout.status)

    def cancel(self, request: gr.Request) -> Updates:
        """Stop what this window has begun; its own handler says so and cleans up."""
        self._stop(self._session(request))
        return {self.layout.cancel: gr.update(interactive=False)}

    def leave(self, request: gr.Request) -> None:
        """The window was closed."""
        session = self._sessions.pop(request.session_hash, None)
        if session is not None:
            self._stop(session)

    def example(self) -> Updates:
        """Put the example into the fields."""
        folder = self._engine.folder.new_result_dir()
        source, speech = (shutil.copy(path, folder) for path in (EXAMPLE_SOURCE, EXAMPLE_AUDIO))
        layout = self.layout
        empty = {layout.source_picture: None, layout.speech_video: None}
        return {layout.source_video: source, layout.speech_audio: speech} | empty

    def choose_face(self, request: gr.Request, event: gr.SelectData) -> Any:
        """Give the face_id of a thumbnail, and no reference frames: those chosen before are of another face."""
        look = self._session(request).look
        if look is None:
            return gr.skip()
        options = self.layout.options
        return {options["face"]: str(look.faces[event.index].face_id), options["reference_frames"]: ""}

    def choose_reference(self, request: gr.Request, event: gr.SelectData) -> Any:
        """Remember which reference frame is to be changed, and show the frames that could take its place."""
        session = self._session(request)
        session.selected = event.index
        if session.look is None:
            return gr.skip()
        frame = session.look.references[event.index]
        return {self.layout.frame: frame, self.layout.timeline_part: gr.update(visible=True)}

    def choose_frame(self, request: gr.Request, event: gr.SelectData) -> Any:
        """Give the frame number of a picture of the timeline."""
        look = self._session(request).look
        return look.timeline[event.index] if look else gr.skip()

    def show_frame(self, request: gr.Request, frame: int) -> Any:
        """Give the picture of a frame."""
        look = self._session(request).look
        return look.picture(int(frame)) if look and 0 <= frame < look.frames else None

    def use_frame(self, request: gr.Request, frame: int) -> Updates:
        """Put a frame into the place of the chosen reference."""
        session, place = self._session(request), self.layout.problems["frame"]
        if session.look is None:
            return {place: ""}
        references = list(session.look.references)
        references[session.selected] = int(frame)
        text = ",".join(map(str, references))
        try:
            session.look.parse_references(text)
        except UserError as error:
            return {place: html.problem(html.split_error(error, _language(request))[1])}
        return {place: "", self.layout.options["reference_frames"]: text} | self.show_references(request, text)

    def show_references(self, request: gr.Request, text: str) -> Updates:
        """Show the reference frames that were chosen by number."""
        session, language = self._session(request), _language(request)
        look, problem = session.look, self.layout.problems["reference_frames"]
        if look is None or not text.strip():
            return {problem: ""}
        try:
            references = look.parse_references(text)
        except UserError as error:
            return {problem: html.problem(html.split_error(error, language)[1])}
        session.look = look.with_references(references)
        return {problem: "", self.layout.references: self._reference_gallery(session.look, language)}

    def _given_source(self, given: Updates) -> str | None:
        return given[self.layout.source_video] or given[self.layout.source_picture]

    def _session(self, request: gr.Request) -> Session:
        return self._sessions.setdefault(request.session_hash, Session())

    @staticmethod
    def _stop(session: Session) -> None:
        for ticket in (session.look_ticket, session.dub_ticket):
            if ticket is not None:
                ticket.cancel()

    def _forget_choices(self, session: Session, given: Updates) -> Updates:
        """Take back the face and the reference frames that were chosen for another source, in `given` as well."""
        upload = self._given_source(given)
        known, session.source = session.source, upload
        if known in (None, upload):
            return {}
        forgotten = {}
        for name in ("face", "reference_frames"):
            default = getattr(self._engine.options, name)
            forgotten[self.layout.options[name]] = "" if default is None else str(default)
        given |= forgotten
        return forgotten

    def _follow(self, ticket: Ticket, frames: int, language: str, place: gr.HTML) -> Iterator[Updates]:
        """Yield the progress until the work has ended or was cancelled; a visitor who leaves cancels it."""
        try:
            while not ticket.wait(_POLL_SECONDS) and not ticket.cancelled:
                if ticket.running:
                    yield {place: html.work(ticket, frames, language)}
                else:
                    waiting = html.waiting(self._queue.before(ticket), len(self._queue), language)
                    yield {place: waiting}
        finally:
            if not ticket.finished:
                ticket.cancel()

    def _check(self, given: Updates, language: str) -> DubRequest:
        """The request for a source, with every option checked.

        Raises:
            UserError: naming the option.
        """
        layout = self.layout
        source = self._upload(self._given_source(given), _SOURCE, say("no_source", language), language)
        seconds = _seconds(source, self._settings.max_source_seconds, _SOURCE)
        landmarks = given[layout.landmarks] and self._upload(given[layout.landmarks], _LANDMARKS, "", language)
        values = {name: read_field(field, given[layout.options[name]]) for name, field in self._options.items()}
        save_face_video, fit = values.pop("save_face_video"), values.pop("fit", None)
        if fit is not None and fit > self._settings.max_fit_minutes:
            raise UserError(f"--fit: {fit:g} minutes, at most {self._settings.max_fit_minutes:g} are given here")
        return DubRequest(
            source,
            round(25 * seconds),
            landmarks,
            given[layout.weights],
            DubbingOptions(**values),
            fit,
            save_face_video,
        )

    def _speech(self, given: Updates, language: str) -> Path:
        upload = given[self.layout.speech_audio] or given[self.layout.speech_video]
        speech = self._upload(upload, _SPEECH, say("no_speech", language), language)
        _seconds(speech, self._settings.max_speech_seconds, _SPEECH)
        return speech

    def _upload(self, value: str | None, option: str, missing: str, language: str) -> Path:
        """The file of an upload, which is not deleted while it is in use.

        Raises:
            UserError: no upload, or none of the page's files.
        """
        if not value:
            raise UserError(f"--{option}: {missing}")
        path = Path(value)
        if not self._engine.folder.holds(path) or not path.is_file():
            raise UserError(f"--{option}: {say('gone', language)}")
        os.utime(path)
        return path

    def _idle(self, session: Session) -> Updates:
        """Nothing to cancel, unless a dub goes on."""
        dub = session.dub_ticket
        busy = dub is not None and not dub.finished and not dub.cancelled
        return {self.layout.cancel: gr.update(interactive=busy)}

    def _no_problems(self) -> Updates:
        return dict.fromkeys(self.layout.problems.values(), "")

    def _failed(self, error: Exception, language: str, place: gr.HTML) -> Updates:
        """Show an error at its field; nothing goes on any more in `place`, where progress was shown."""
        updates = self._no_problems() | {place: ""}
        if isinstance(error, WorkCancelledError):
            return updates | {place: html.note(say("cancelled", language))}
        if isinstance(error, QueueFullError):
            return updates | {self.layout.problems[""]: html.problem(say("full", language, length=len(self._queue)))}
        if not isinstance(error, UserError):
            return updates | {self.layout.problems[""]: html.problem(say("failed", language))}
        option, message = html.split_error(error, language)
        place = self.layout.problems.get(option, self.layout.problems[""])
        hidden = option in self.layout.options or option in (_WEIGHTS, _LANDMARKS)
        opened = {self.layout.more: gr.update(open=True)} if hidden else {}
        return updates | opened | {place: html.problem(message)}

    def _shown(self, look: Look, options: DubbingOptions, language: str) -> Updates:
        """What was found in a source."""
        layout = self.layout
        names = [say("face_name", language, share=face.share) for face in look.faces]
        chosen = [face.face_id for face in look.faces]
        timeline = zip(look.timeline_pictures, _frame_names(look.timeline, language), strict=True)
        return {
            layout.faces_part: gr.update(visible=True),
            layout.faces_title: say("face_found" if len(names) == 1 else "faces_found", language, count=len(names)),
            layout.faces: gr.update(
                value=list(zip(look.face_pictures, names, strict=True)),
                selected_index=chosen.index(options.face) if options.face in chosen else 0,
            ),
            layout.references_part: gr.update(visible=look.frames > 1),
            layout.references: self._reference_gallery(look, language),
            layout.timeline_part: gr.update(visible=False),
            layout.timeline: gr.update(value=list(timeline), selected_index=None),
            layout.frame: gr.update(maximum=max(1, look.frames - 1), value=look.references[0]),
            layout.frame_picture: look.picture(look.references[0]),
            layout.look_status: html.note(say("ready", language)),
        }

    @staticmethod
    def _reference_gallery(look: Look, language: str) -> Any:
        pictures = zip(look.reference_pictures, _frame_names(look.references, language), strict=True)
        return gr.update(value=list(pictures), selected_index=None)

    def _result(self, dubbed: Dubbed, source: Path, language: str) -> Updates:
        layout, report, still = self.layout, dubbed.report, dubbed.still
        faces = dubbed.face_video
        return {
            layout.status: html.note(say("done", language)),
            layout.result_part: gr.update(visible=True),
            layout.source_view: gr.update(value=None if still else str(dubbed.source), visible=not still),
            layout.source_picture_view: gr.update(value=str(source) if still else None, visible=still),
            layout.result_view: str(report.result),
            layout.download: str(report.result),
            layout.download_faces: gr.update(value=faces and str(faces), visible=faces is not None),
            layout.figures: html.figures(report, language),
            layout.moments: html.strip(dubbed.moments, language),
        }


def _language(request: gr.Request) -> str:
    return language_of(request.headers.get("accept-language"))


def _frame_names(frames: Sequence[int], language: str) -> list[str]:
    return [say("frame_name", language, frame=frame) for frame in frames]


def _seconds(path: Path, most: float, option: str) -> float:
    with blame(f"--{option}"):
        return check_length(path, most)
