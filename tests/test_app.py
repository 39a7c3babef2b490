"""The page in a real browser: upload or record, dub, watch; cancel; mistakes; two visitors; a phone; no other files."""

import contextlib
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import av
import pytest
from helpers.browser import open_browser, require_browser
from helpers.sample_media import write_face_video, write_speech

from config.inference import RunSettings
from utils.dubbing import DubbingOptions, FitSettings, LoadSettings
from utils.dubbing.settings import SHIPPED_WEIGHTS
from utils.errors import UserError
from utils.media.images import write_png
from utils.media.video_reader import VideoReader
from utils.media.yuv import rgb_patch
from utils.page.folder import PageFolder
from utils.page.settings import PageSettings

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    write_face_video(folder / "face.mp4", frames=12)
    write_speech(folder / "speech.wav", 1.0)
    write_speech(folder / "long.wav", 25.0)
    write_face_video(folder / "spoken.mp4", frames=10, size=128, audio=write_speech(folder / "short.wav", 0.4))
    first = next(VideoReader(folder / "face.mp4").frames())
    write_png(folder / "face.png", rgb_patch(first.yuv, 0, 512, 0, 512, VideoReader(folder / "face.mp4").info.colour))
    write_as(folder / "face.mp4", folder / "phone.mov", "mpeg4")  # as browsers do not play it
    write_as(folder / "face.mp4", folder / "camera.y4m", "rawvideo", format="yuv4mpegpipe")
    (folder / "wrong.mp4").write_text("not a video")
    (folder / "notes.txt").write_text("not a video either")
    (folder / "large.mp4").write_bytes(bytes(3 * 1024**2))
    return folder


def write_as(source, path, codec, format=None):
    """The pictures of a video in another codec and container."""
    reader = VideoReader(source)
    with av.open(str(path), "w", format=format) as container:
        stream = container.add_stream(codec, reader.info.rate)
        stream.width, stream.height, stream.pix_fmt = reader.info.width, reader.info.height, "yuv420p"
        for frame in reader.frames():
            picture = av.VideoFrame.from_ndarray(frame.yuv, format="yuv420p")
            picture.pts, picture.time_base = frame.index, 1 / reader.info.rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """One server for all tests: (address, its folder)."""
    pytest.importorskip("gradio", reason="needs requirements-app.txt")
    from dataset.fitting import fit_to_source
    from utils.page.build import serve

    folder = tmp_path_factory.mktemp("page") / "page"
    settings = PageSettings(port=0, page_dir=folder, max_source_seconds=20, max_upload_mb=2)
    load = LoadSettings(device="cpu", landmark_dir=None)
    app, folder, address = serve(
        settings, load, DubbingOptions(preset="ultrafast"), [SHIPPED_WEIGHTS], RunSettings, fit_to_source, block=False
    )
    yield address.rstrip("/"), folder
    app.close()
    folder.close()


@pytest.fixture
def visit(page):
    """Open browsers at the page."""
    require_browser()
    with contextlib.ExitStack() as stack:
        yield lambda **choices: stack.enter_context(open_browser(page[0], **choices))


def give(browser, media, speech="speech.wav"):
    browser.upload("#source-video", media / "face.mp4")
    browser.upload("#speech-audio", media / speech)
    browser.wait(lambda: browser.all("#faces button img"), 60, "thumbnails of faces")
    browser.wait(lambda: browser.all("#speech-audio [data-testid=waveform-controls], #speech-audio .controls"), 20)


def results(folder):
    return sorted(path for path in (folder.uploads / "results").rglob("*") if path.is_file())


PLAYING = """
const [result, source] = ['#result-view video', '#source-view video'].map((name) => document.querySelector(name));
result.muted = true;
result.play();
return [result.currentTime, source.currentTime, result.duration, result.error === null];
"""


def test_upload_dub_and_watch(visit, media, page):
    browser = visit()
    give(browser, media)
    assert len(browser.all("#references button img")) == 5
    browser.click("#dub")
    browser.wait(lambda: browser.text("#status").startswith("Done"), 120, "the dub")
    browser.wait(lambda: browser.script("return document.querySelector('#result-view video')?.readyState >= 3"), 20)

    def in_step():
        result, source, length, fine = browser.script(PLAYING)
        return fine and abs(length - 1) < 0.15 and result > 0.2 and source > 0.05

    browser.wait(in_step, 20, "the result plays, and the source with it")
    assert len(browser.all("#moments img")) == 8
    assert browser.one("#dub").is_enabled() and not browser.one("#cancel").is_enabled()
    figures = browser.text("#figures")
    assert "frames dubbed per second" in figures and "25" in figures.split()
    link = browser.one("#download a[download], a#download[download], #download").get_attribute("href")
    if link:
        assert urllib.request.urlopen(link).read(12)[4:8] == b"ftyp"
    assert browser.script("return document.querySelector('#result-part').getBoundingClientRect().top < innerHeight")
    elsewhere = [url for url in browser.requested() if not url.startswith((page[0], "data:", "blob:", "chrome:"))]
    assert not elsewhere
    # Nor could anything be: Gradio's button for trimming videos would load a program.
    fetch = "fetch('https://example.org').then(() => arguments[0]('loaded'), () => arguments[0]('refused'))"
    assert browser.driver.execute_async_script(fetch) == "refused"
    assert any("Content Security Policy" in entry["message"] for entry in browser.driver.get_log("browser"))


def test_cancel_stops_and_leaves_nothing(visit, media, page):
    browser = visit()
    give(browser, media, "long.wav")
    before = results(page[1])
    browser.click("#dub")
    browser.wait(lambda: browser.text("#status").startswith("Dubbing"), 60, "progress")
    browser.wait(lambda: browser.all("#status progress[max]"), 20, "a bar")
    start = time.monotonic()
    browser.click("#cancel")
    browser.wait(lambda: browser.text("#status").startswith("Cancelled"), 10, "the end")
    assert time.monotonic() - start < 4  # 2 s, and as much for a busy test machine
    browser.wait(lambda: results(page[1]) == before, 4, "an empty folder")
    assert not list(page[1].path.rglob("*.partial"))
    assert not browser.all("#result-view video")


def test_mistakes_are_one_line_at_their_field(visit, media):
    browser = visit()
    browser.one("#dub")
    browser.click("#dub")
    browser.wait(lambda: "Upload or record a video" in browser.text("#problem-source_video_path"), 20)
    browser.upload("#source-video", media / "wrong.mp4")
    browser.wait(lambda: "wrong.mp4 is no video" in browser.text("#problem-source_video_path"), 30)
    problem = browser.text("#problem-source_video_path")
    assert "\n" not in problem.strip() and "/" not in problem  # nothing about the server's folders
    assert browser.one("#problem-source_video_path [role=alert]")


def test_the_server_says_which_files_it_takes(visit, media):
    """Not the browser, by their names; a file that is too large is not sent at all."""
    browser = visit(language="zh-CN")
    browser.upload("#source-video", media / "notes.txt")
    browser.wait(lambda: "无法读取 notes.txt" in browser.text("#problem-source_video_path"), 30)
    browser.upload("#speech-audio", media / "large.mp4")
    browser.wait(lambda: "large.mp4 大小为 3 MB，最多 2 MB" in browser.text("#problem-driving_audio_path"), 10)
    browser.upload("#speech-audio", media / "spoken.mp4")  # a video where sound is asked for
    browser.one("#speech-audio [data-testid=waveform-controls], #speech-audio .controls", 30)
    assert not browser.text("#problem-driving_audio_path").strip() and not browser.all(".toast-body")


@pytest.mark.slow
def test_a_source_that_browsers_cannot_play(visit, media):
    """Its field says so, and the result stands beside a copy. What was chosen for another source is forgotten."""
    browser = visit()
    browser.one("#dub")
    browser.click("#more button")
    give(browser, media)
    browser.click("#references button")
    browser.click("#timeline button")
    browser.click("#use-frame")
    chosen = "return document.querySelector('#option-reference_frames :is(input, textarea)')?.value"
    browser.wait(lambda: (browser.script(chosen) or "").startswith("0,"), 20, "frame 0 as the first reference")
    browser.click("#source-video button[aria-label=Clear]")
    browser.wait(lambda: not browser.all("#faces button img"), 20)
    browser.upload("#source-video", media / "phone.mov")
    browser.wait(lambda: browser.all("#faces button img"), 60, "thumbnails")
    assert browser.script(chosen) == ""
    browser.one("#source-video.unplayable", 10)
    browser.click("#dub")
    browser.wait(lambda: browser.text("#status").startswith("Done"), 120, "the dub")
    browser.wait(lambda: browser.script("return document.querySelector('#source-view video')?.readyState >= 3"), 20)
    about = "const video = document.querySelector('#source-view video'); return [video.src, video.videoWidth]"
    address, width = browser.script(about)
    assert address.endswith("phone_preview.mp4") and width == 480
    assert not browser.all(".toast-body")


@pytest.mark.slow
def test_camera_and_microphone(visit, media):
    """Recordings of a browser: WebM without a length, its frames at uneven times."""
    browser = visit(
        arguments=(
            "--use-fake-ui-for-media-stream",
            "--use-fake-device-for-media-stream",
            f"--use-file-for-fake-video-capture={media / 'camera.y4m'}",
            f"--use-file-for-fake-audio-capture={media / 'long.wav'}",
        )
    )
    browser.click("#source-video button[aria-label='Capture from camera']")
    press(browser, "#source-video", "Webcam")
    press(browser, "#source-video", "Record")
    time.sleep(1.5)
    press(browser, "#source-video", "Stop")
    browser.wait(lambda: browser.all("#faces button img"), 60, "thumbnails of the recording")
    browser.click("#speech-audio button[aria-label='Record audio']")
    press(browser, "#speech-audio", "Record")
    time.sleep(1)
    press(browser, "#speech-audio", "Stop")
    browser.one("#speech-audio [data-testid=waveform-controls], #speech-audio .controls", 20)
    browser.click("#dub")
    browser.wait(lambda: browser.text("#status").startswith("Done"), 120, "the dub")

    def both_play():
        result, source, length, fine = browser.script(PLAYING)
        return fine and length > 0.5 and result > 0.3 and abs(result - source) < 0.2

    browser.wait(both_play, 30, "the result plays beside the recording")


def press(browser, field, text):
    """Click the button of a field that says `text`."""
    buttons = "return [...document.querySelectorAll(arguments[0] + ' button')]"
    said = f"{buttons}.find((button) => button.innerText.includes(arguments[1]))"
    browser.wait(lambda: browser.script(said, field, text), 20, f"the button {text}").click()


def test_an_option_that_cannot_be_is_named_at_its_field(visit, media):
    browser = visit()
    browser.click("#more button")
    field = browser.one("#option-fps input, #option-fps textarea")
    field.send_keys("fast")
    browser.upload("#source-video", media / "face.mp4")
    browser.wait(lambda: "'fast' is not a frame rate" in browser.text("#problem-fps"), 30)


def test_two_visitors_take_turns(visit, media):
    first, second = visit(), visit(language="zh-CN")
    give(first, media, "long.wav")
    give(second, media)
    first.click("#dub")
    first.wait(lambda: first.text("#status").startswith("Dubbing"), 60)
    second.click("#dub")
    second.wait(lambda: "前面还有 1 个（队列共 2 个）" in second.text("#status"), 20, "the place in the queue")
    first.driver.close()  # who leaves makes room
    second.wait(lambda: second.text("#status").startswith("完成"), 120, "the second dub")


def test_phone_in_chinese(visit, media):
    browser = visit(language="zh-CN", width=390, height=844)
    browser.one("#dub")
    assert "为视频中的人脸配音" in browser.text("#title") and browser.text("#dub") == "开始配音"
    assert browser.script("return document.documentElement.lang") == "zh"
    browser.click("#more button")
    browser.wait(lambda: "原视频" in browser.text("#more"), 10)
    give(browser, media)
    browser.click("#dub")
    browser.wait(lambda: browser.text("#status").startswith("完成"), 120, "the dub")
    # Not window.innerWidth: a phone zooms out until everything fits.
    assert browser.script("return document.documentElement.scrollWidth") == 390
    assert browser.script("return document.querySelector('#result-view video').getBoundingClientRect().right") <= 390


def test_picture_and_sound_of_a_video(visit, media):
    """The other tabs: what is given there is dubbed as well."""
    browser = visit()
    browser.click("#tab-picture-button, [role=tab][aria-controls=tab-picture]")
    browser.upload("#source-picture", media / "face.png")
    browser.wait(lambda: browser.all("#faces button img"), 60, "the face")
    browser.click("#tab-sound-of-video-button, [role=tab][aria-controls=tab-sound-of-video]")
    browser.upload("#speech-video", media / "spoken.mp4")
    browser.one("#speech-video video", 30)
    browser.click("#dub")
    browser.wait(lambda: browser.text("#status").startswith("Done"), 120, "the dub")
    browser.one("#source-picture-view img", 20)


def test_every_option_is_explained_in_chinese():
    from utils.page.option_fields import option_help, page_options
    from utils.page.texts import translations

    options = page_options(DubbingOptions) | page_options(FitSettings, without=("fitted_dir",))
    missing = option_help(options).keys() - translations()["zh"].keys()
    assert not missing, "a new option needs its Chinese text in utils/page/texts.py, _OPTIONS_ZH"


def test_keyboard_and_labels(visit):
    from selenium.webdriver.common.keys import Keys

    browser = visit()
    browser.one("#dub")
    browser.click("#more button")
    reached = set()
    for _ in range(60):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.add(browser.script("return document.activeElement.closest('[id]')?.id"))
    assert {"dub", "example"} <= reached and any(name.startswith("option-") for name in reached if name)
    nameless = browser.script("""
        const shown = (element) => element.getClientRects().length > 0;
        const named = (element) => element.getAttribute('aria-label') || element.getAttribute('aria-labelledby')
            || element.title || element.innerText?.trim() || element.labels?.length || element.placeholder;
        return [...document.querySelectorAll('button, input:not([type=file]), textarea, select, a')]
            .filter((element) => shown(element) && !named(element)).map((element) => element.outerHTML.slice(0, 200));
    """)
    assert not nameless


def test_no_other_file_is_given_out(page, tmp_path):
    address, folder = page
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    inside = folder.uploads
    for path in (
        "/etc/passwd",
        str(secret),
        str(ROOT / "README.md"),
        str(SHIPPED_WEIGHTS),
        f"{inside}/../../../{secret.name}",
        f"{inside}/../landmarks",
        "file:///etc/passwd",
    ):
        for quoted in (urllib.parse.quote(path), urllib.parse.quote(path, safe="")):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{address}/gradio_api/file={quoted}")
            assert caught.value.code in (403, 404), path


def test_no_other_file_can_be_dubbed(page):
    """A request that names a file of the server as its upload."""
    address, _ = page
    config = json.loads(urllib.request.urlopen(f"{address}/config").read())
    event = next(item for item in config["dependencies"] if len(item["inputs"]) > 10)
    given = {"path": str(ROOT / "asserts" / "example" / "astronaut.mp4"), "meta": {"_type": "gradio.FileData"}}
    body = {"data": [given] + [None] * (len(event["inputs"]) - 1), "fn_index": event["id"], "session_hash": "x"}
    request = urllib.request.Request(
        f"{address}/gradio_api/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        urllib.request.urlopen(request).read()
        events = urllib.request.urlopen(f"{address}/gradio_api/queue/data?session_hash=x").read().decode()
    except urllib.error.HTTPError as error:
        assert error.code in (400, 403, 422)
    else:
        assert '"success":false' in events.replace(" ", ""), events[:500]


def test_a_port_in_use_is_one_line(page, tmp_path):
    from dataset.fitting import fit_to_source
    from utils.page.build import serve

    port = urllib.parse.urlsplit(page[0]).port
    settings = PageSettings(port=port, page_dir=tmp_path / "other")
    load = LoadSettings(device="cpu", landmark_dir=None)
    uploads = os.environ["GRADIO_TEMP_DIR"]
    try:
        with pytest.raises(UserError, match=rf"^--port: 127.0.0.1:{port} cannot be served"):
            serve(settings, load, DubbingOptions(), [SHIPPED_WEIGHTS], RunSettings, fit_to_source, block=False)
    finally:
        os.environ["GRADIO_TEMP_DIR"] = uploads  # of the page that the other tests use
    assert not (tmp_path / "other").exists()


class TestFolder:
    def test_old_files_go_and_new_ones_stay(self, tmp_path):
        folder = PageFolder(tmp_path / "page", 100)
        old, new = folder.new_result_dir() / "old.mp4", folder.new_result_dir() / "new.mp4"
        for path in (old, new):
            path.write_bytes(b"x")
        os.utime(old, (0, 0))
        os.utime(old.parent, (0, 0))
        folder.sweep()
        assert not old.exists() and new.exists()
        folder.sweep()
        folder.close()
        assert not (tmp_path / "page").exists()

    def test_a_folder_of_somebody_else_is_left_alone(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("x")
        with pytest.raises(UserError, match=r"^--page_dir: .* holds other files"):
            PageFolder(tmp_path, 100)
        assert (tmp_path / "thesis.txt").exists()

    def test_names_outside(self, tmp_path):
        folder = PageFolder(tmp_path / "page", 100)
        inside = folder.new_result_dir() / "a"
        assert folder.holds(inside) and not folder.holds(folder.uploads / ".." / "a") and not folder.holds(tmp_path)
