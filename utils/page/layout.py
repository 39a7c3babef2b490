"""Layout of the page."""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass
from typing import Any

import gradio as gr

from utils.dubbing import DubbingOptions
from utils.page.option_fields import make_field
from utils.page.texts import help_key

Text = Callable[[str], gr.i18n.I18nData]
Problem = Callable[[str], None]
VIDEO_SOURCES, SPEECH_SOURCES = ["upload", "webcam"], ["upload", "microphone"]


@dataclass
class Layout:
    """The components that handlers read and write."""

    source_video: gr.Video
    source_picture: gr.Image
    speech_audio: gr.Audio
    speech_video: gr.Video
    example: gr.Button
    problems: dict[str, gr.HTML]
    """Where the errors of an option are shown, by its name; "frame": of the frame chosen, "": of none of them."""
    look_status: gr.HTML
    faces_part: gr.Column
    faces_title: gr.Markdown
    faces: gr.Gallery
    references_part: gr.Column
    references: gr.Gallery
    timeline_part: gr.Column
    timeline: gr.Gallery
    frame: gr.Slider
    frame_picture: gr.Image
    use_frame: gr.Button
    more: gr.Accordion
    weights: gr.Dropdown
    landmarks: gr.File
    options: dict[str, gr.components.Component]
    """By option name."""
    dub: gr.Button
    cancel: gr.Button
    status: gr.HTML
    result_part: gr.Column
    source_view: gr.Video
    source_picture_view: gr.Image
    result_view: gr.Video
    download: gr.DownloadButton
    download_faces: gr.DownloadButton
    figures: gr.HTML
    moments: gr.HTML


def make_layout(text: Text, options: Mapping[str, Field], defaults: DubbingOptions, weights: list[str]) -> Layout:
    """Make all components, inside a gr.Blocks.

    Args:
        text: gives a text by its key, in the browser's language.
        options: fields of the "more" part, by name.
        defaults: their first values.
        weights: names to choose from.
    """
    problems: dict[str, gr.HTML] = {}

    def problem(name: str) -> None:
        problems[name] = gr.HTML("", elem_id=f"problem-{name or 'other'}", elem_classes="slot")

    found: dict[str, Any] = {"problems": problems}
    gr.Markdown(text("title"), elem_id="title")
    gr.Markdown(text("intro"))
    found["example"] = gr.Button(text("example"), size="sm", elem_id="example")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=320):
            _source(text, found)
            problem("source_video_path")
            found["look_status"] = gr.HTML("", elem_id="look-status", elem_classes="state")
        with gr.Column(min_width=320):
            _speech(text, found)
            problem("driving_audio_path")
    _faces(text, found, problem)
    with gr.Accordion(text("more"), open=False, elem_id="more") as found["more"]:
        _more(text, found, problem, options, defaults, weights)
    with gr.Row():
        found["dub"] = gr.Button(text("dub"), variant="primary", scale=3, min_width=180, elem_id="dub")
        found["cancel"] = gr.Button(text("cancel"), scale=1, min_width=100, interactive=False, elem_id="cancel")
    problem("")
    found["status"] = gr.HTML("", elem_id="status", elem_classes="state")
    _result(text, found)
    return Layout(**found)


def _source(text: Text, found: dict[str, Any]) -> None:
    gr.Markdown(text("source"), elem_classes="step")
    with gr.Tabs():
        with gr.Tab(text("video"), elem_id="tab-video"):
            found["source_video"] = gr.Video(
                label=text("source_video"), sources=VIDEO_SOURCES, height=320, elem_id="source-video", buttons=[]
            )
        with gr.Tab(text("picture"), elem_id="tab-picture"):
            found["source_picture"] = gr.Image(
                label=text("source_picture"),
                type="filepath",
                sources=["upload", "webcam", "clipboard"],
                height=320,
                elem_id="source-picture",
                buttons=[],
            )
            # Handed on as the file that was uploaded: the engine reads more kinds than Gradio, and says what is wrong.
            found["source_picture"].preprocess = lambda upload: upload.path if upload else None


def _speech(text: Text, found: dict[str, Any]) -> None:
    gr.Markdown(text("speech"), elem_classes="step")
    with gr.Tabs():
        with gr.Tab(text("sound"), elem_id="tab-sound"):
            found["speech_audio"] = gr.Audio(
                label=text("speech_audio"), type="filepath", sources=SPEECH_SOURCES, elem_id="speech-audio", buttons=[]
            )
        with gr.Tab(text("sound_of_video"), elem_id="tab-sound-of-video"):
            found["speech_video"] = gr.Video(
                label=text("speech_video"), sources=VIDEO_SOURCES, height=260, elem_id="speech-video", buttons=[]
            )


def _faces(text: Text, found: dict[str, Any], problem: Problem) -> None:
    with gr.Column(visible=False, elem_id="faces-part") as found["faces_part"]:
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=280):
                found["faces_title"] = gr.Markdown("")
                found["faces"] = _gallery("faces", columns=3, height=150)
            with gr.Column(scale=3, min_width=280) as found["references_part"]:
                gr.Markdown(text("references"))
                found["references"] = _gallery("references", columns=5, height=150)
        with gr.Column(visible=False, elem_id="timeline-part") as found["timeline_part"]:
            gr.Markdown(text("timeline"))
            found["timeline"] = _gallery("timeline", columns=10, height=150)
            with gr.Row(equal_height=False):
                with gr.Column(scale=3, min_width=240):
                    found["frame"] = gr.Slider(0, 1, 0, step=1, label=text("frame_number"), elem_id="frame", buttons=[])
                    found["use_frame"] = gr.Button(text("use_frame"), size="sm", elem_id="use-frame")
                    problem("frame")
                found["frame_picture"] = gr.Image(
                    show_label=False,
                    label=text("frame_number"),
                    interactive=False,
                    height=150,
                    scale=1,
                    min_width=160,
                    buttons=[],
                    elem_id="frame-picture",
                )


def _gallery(name: str, columns: int, height: int) -> gr.Gallery:
    return gr.Gallery(
        show_label=False,
        columns=columns,
        height=height,
        object_fit="cover",
        fit_columns=False,
        allow_preview=False,
        interactive=False,
        buttons=[],
        elem_id=name,
        elem_classes="pictures",
    )


def _more(
    text: Text,
    found: dict[str, Any],
    problem: Problem,
    options: Mapping[str, Field],
    defaults: DubbingOptions,
    weights: list[str],
) -> None:
    found["weights"] = gr.Dropdown(
        weights, value=weights[0], label=text("weights"), info=text("weights_info"), elem_id="weights"
    )
    problem("pretrained_clip_DINet_path")
    found["options"] = {}
    names = list(options)
    for pair in (names[i : i + 2] for i in range(0, len(names), 2)):
        with gr.Row(equal_height=False):
            for name in pair:
                with gr.Column(min_width=260):
                    found["options"][name] = make_field(
                        options[name], getattr(defaults, name, None), text(help_key(name))
                    )
                    problem(name)
    found["landmarks"] = gr.File(
        label=text("landmarks"), file_types=[".csv"], type="filepath", height=120, elem_id="landmarks"
    )
    problem("source_openface_landmark_path")


def _result(text: Text, found: dict[str, Any]) -> None:
    with gr.Column(visible=False, elem_id="result-part") as found["result_part"]:
        gr.Markdown(text("result"), elem_classes="step")
        with gr.Row(equal_height=False):
            found["source_view"] = gr.Video(
                label=text("source_view"),
                interactive=False,
                height=340,
                min_width=280,
                elem_id="source-view",
                buttons=[],
            )
            found["source_picture_view"] = gr.Image(
                label=text("source_view"),
                interactive=False,
                height=340,
                min_width=280,
                visible=False,
                elem_id="source-picture-view",
                buttons=[],
            )
            found["result_view"] = gr.Video(
                label=text("result_view"),
                interactive=False,
                height=340,
                min_width=280,
                elem_id="result-view",
                buttons=["download"],
            )
        with gr.Row():
            found["download"] = gr.DownloadButton(text("download"), variant="primary", elem_id="download")
            found["download_faces"] = gr.DownloadButton(text("download_faces"), visible=False, elem_id="download-faces")
        found["figures"] = gr.HTML("", elem_id="figures")
        gr.Markdown(text("moments"))
        found["moments"] = gr.HTML("", elem_id="moments")
