"""The page as a Gradio app."""

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr

from utils.dubbing import DubbingOptions, FitSettings, LoadSettings
from utils.errors import UserError
from utils.page.browser import CSS, SHOW_PROGRESS, SHOW_RESULT, head
from utils.page.device_queue import DeviceQueue
from utils.page.engine import PageEngine
from utils.page.folder import PageFolder
from utils.page.handlers import Handlers
from utils.page.layout import make_layout
from utils.page.option_fields import option_help, page_options
from utils.page.settings import PageSettings
from utils.page.texts import text_key, translations

logger = logging.getLogger(__name__)

# Fonts of the visitor's computer: nothing is fetched from elsewhere.
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "sans-serif"]
# Explanations in a grey that can be read: a contrast of 4.5 at least. `set` forgets the theme's background.
_READABLE = {
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "background_fill_primary": "*neutral_50",
}
_MONO = ["ui-monospace", "Consolas", "monospace"]


def serve(
    settings: PageSettings,
    load_settings: LoadSettings,
    options: DubbingOptions,
    weights: Sequence[Path],
    run_settings: type,
    fit: Callable[..., Path],
    block: bool = True,
) -> tuple[gr.Blocks, PageFolder, str]:
    """Load the engine and serve the page.

    Args:
        settings: where, and what visitors may use.
        load_settings: how the engine is loaded.
        options: what visitors start from.
        weights: files to choose from, the first one is loaded.
        run_settings: dataclass with the option save_face_video.
        fit: dataset.fitting.fit_to_source, which this layer cannot import.
        block: serve until interrupted, then empty the folder; else return at once.

    Returns:
        The app, its folder and its address.

    Raises:
        UserError: unusable weights, device, folder or port.
    """
    folder = PageFolder(settings.page_dir, 60 * settings.keep_minutes)
    try:
        engine = PageEngine(load_settings, options, weights, folder, fit)
        os.environ["GRADIO_TEMP_DIR"] = str(folder.uploads)
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        logging.getLogger("httpx").setLevel(logging.WARNING)
        page, texts = make_page(settings, engine, run_settings)
        address = _launch(page, texts, settings)
        logger.info(f"the page: {address}")
        if block:
            threading.Event().wait()  # Gradio's own wait would hide from the script that it was interrupted
    except BaseException:
        folder.close()
        raise
    return page, folder, address


def _launch(page: gr.Blocks, texts: gr.I18n, settings: PageSettings) -> str:
    """Serve a page from other threads; returns its address.

    Raises:
        UserError: not on that port.
    """
    try:
        _, address, _ = page.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            max_file_size=f"{settings.max_upload_mb}mb",
            i18n=texts,
            theme=gr.themes.Soft(font=_FONTS, font_mono=_MONO).set(**_READABLE),
            css=CSS,
            head=head(settings),
            footer_links=[],
            ssr_mode=False,
            share=False,
            inline=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UserError(
            f"--port: {settings.host}:{settings.port} cannot be served, it may be in use ({error}); name another port"
        ) from error
    return address


def make_page(settings: PageSettings, engine: PageEngine, run_settings: type) -> tuple[gr.Blocks, gr.I18n]:
    """All components with their handlers, and the texts."""
    fields = page_options(DubbingOptions)
    if settings.max_fit_minutes > 0:
        fields["fit"] = page_options(FitSettings)["fit"]
    fields["save_face_video"] = page_options(run_settings)["save_face_video"]
    words = translations()
    for text in words.values():
        for key, english in option_help(fields).items():
            text.setdefault(key, english)
    i18n = gr.I18n(**words)
    with gr.Blocks(title="DINet", analytics_enabled=False, fill_width=False) as page:
        layout = make_layout(lambda key: i18n(text_key(key)), fields, engine.options, list(engine.weights))
        handlers = Handlers(layout, engine, DeviceQueue(settings.max_waiting), settings, fields)
        _connect(page, handlers)
    page.queue(default_concurrency_limit=None, api_open=False)
    return page, i18n


def _connect(page: gr.Blocks, handlers: Handlers) -> None:
    """Tie events to handlers."""
    layout = handlers.layout
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    at_once = quiet | {"queue": False}
    outputs = [
        *layout.problems.values(),
        layout.options["face"],
        layout.options["reference_frames"],
        layout.look_status,
        layout.faces_part,
        layout.faces_title,
        layout.faces,
        layout.references_part,
        layout.references,
        layout.timeline_part,
        layout.timeline,
        layout.frame,
        layout.frame_picture,
        layout.more,
        layout.dub,
        layout.cancel,
        layout.status,
        layout.result_part,
        layout.source_view,
        layout.source_picture_view,
        layout.result_view,
        layout.download,
        layout.download_faces,
        layout.figures,
        layout.moments,
    ]
    look = {"fn": handlers.look, "inputs": handlers.inputs, "outputs": outputs, "trigger_mode": "always_last"}
    for component in (layout.source_video, layout.source_picture):
        component.change(**look | {"fn": handlers.look_at_source}, **quiet)
    layout.landmarks.change(**look, **quiet)
    layout.options["face"].submit(**look, **quiet)
    # A video in place of a picture, a sound in place of a video: what is given last counts.
    for given, other in (
        (layout.source_video, layout.source_picture),
        (layout.source_picture, layout.source_video),
        (layout.speech_audio, layout.speech_video),
        (layout.speech_video, layout.speech_audio),
    ):
        given.input(lambda value: None if value else gr.skip(), given, other, **at_once)
    layout.example.click(
        handlers.example,
        None,
        [layout.source_video, layout.source_picture, layout.speech_audio, layout.speech_video],
        **at_once,
    )
    references = layout.options["reference_frames"]
    chosen = [layout.options["face"], references]
    layout.faces.select(handlers.choose_face, None, chosen, **at_once).then(**look, **quiet)
    layout.references.select(handlers.choose_reference, None, [layout.frame, layout.timeline_part], **at_once)
    layout.timeline.select(handlers.choose_frame, None, layout.frame, **at_once)
    layout.frame.change(handlers.show_frame, layout.frame, layout.frame_picture, trigger_mode="always_last", **quiet)
    shown = [layout.references, layout.problems["reference_frames"]]
    layout.use_frame.click(handlers.use_frame, layout.frame, [references, layout.problems["frame"], *shown], **quiet)
    for event in (references.submit, references.blur):
        event(handlers.show_references, references, shown, **quiet)
    layout.dub.click(None, js=SHOW_PROGRESS)
    layout.dub.click(handlers.dub, handlers.inputs, outputs, **quiet).then(None, js=SHOW_RESULT)
    layout.cancel.click(handlers.cancel, None, layout.cancel, **at_once)
    page.unload(handlers.leave)
