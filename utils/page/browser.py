"""What runs in the browser itself: style, messages about uploads, and the source that plays in step with the result."""

import json

from utils.page.settings import PageSettings
from utils.page.texts import GRADIO_ZH, LANGUAGES, say

CSS = """
.gradio-container { max-width: min(1180px, 100vw) !important; margin: 0 auto !important; }
.problem { color: #b42318; font-weight: 600; margin: 2px 0 6px; overflow-wrap: anywhere; }
.dark .problem { color: #fda29b; }
.slot:not(:has(.problem)), .state:not(:has(.work)) { display: none; }
.slot, .slot *, .state, .state .html-container, #figures *, #moments * { padding: 0 !important; }
#source-video, #source-picture, #speech-video { height: auto !important; }
#source-video video, #speech-video video, #source-picture img { max-height: 300px; }
#source-picture img { min-height: 80px; }
/* Gradio's trimming of videos fetches a program from another site. */
#source-video button[aria-label^="Trim video"], #source-video button[aria-label^="Reset video"],
#speech-video button[aria-label^="Trim video"], #speech-video button[aria-label^="Reset video"] { display: none; }
.unplayable:has(video)::after { content: var(--unplayable); display: block; padding: 4px 12px; text-align: center; }
.unplayable video { max-height: 60px !important; }
.pictures { contain: inline-size; }
.pictures .grid-wrap { overflow-y: hidden !important; }
#status { scroll-margin-bottom: 60px; }
#result-part { scroll-margin-top: 8px; }
.pictures .grid-container {
  grid-template-columns: none !important; grid-auto-flow: column; grid-auto-columns: minmax(84px, 118px);
  overflow-x: auto; max-width: 100%;
}
.pictures .caption-label { font-size: 12px; padding: 1px 5px; max-width: 100%; }
.work { padding: 10px 14px !important; border: 1px solid var(--border-color-primary); border-radius: 8px; }
.work p { margin: 0 0 6px; }
.work progress {
  appearance: none; display: block; width: 100%; height: 10px; border: 0; border-radius: 5px; overflow: hidden;
  background: var(--border-color-primary);
}
.work progress::-webkit-progress-bar { background: var(--border-color-primary); }
.work progress::-webkit-progress-value { background: var(--color-accent); border-radius: 5px; }
.work progress::-moz-progress-bar { background: var(--color-accent); border-radius: 5px; }
.work progress:indeterminate {
  background: linear-gradient(90deg, transparent 35%, var(--color-accent) 50%, transparent 65%);
  background-size: 300%;
  animation: to-and-fro 1.6s ease-in-out infinite alternate;
}
.work progress:indeterminate::-webkit-progress-bar { background: transparent; }
.work progress:indeterminate::-moz-progress-bar { background: transparent; }
@keyframes to-and-fro { from { background-position: 100% 0; } to { background-position: 0 0; } }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(140px, 1fr)); gap: 10px 18px; margin: 4px 0; }
.figures div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.figures dt { font-size: 0.85em; opacity: 0.8; }
.figures dd { font-size: 1.25em; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.moments { display: grid; grid-template-columns: repeat(8, 1fr); gap: 4px; margin: 0; padding: 0; list-style: none; }
.moments li { margin: 0; text-align: center; font-size: 0.8em; }
.moments img { width: 100%; border-radius: 4px; display: block; margin: 0; }
#dub, #cancel { min-height: 48px; font-size: 1.05em; }
#example { flex: none; width: auto; align-self: start; min-width: 160px; }
.source-selection button { padding: 8px; box-sizing: content-box; }
@media (max-width: 640px), (pointer: coarse) {
  .moments { grid-template-columns: repeat(4, 1fr); }
  #example, #use-frame, #more > button { min-height: 44px; }
  #more > button { align-items: center; }
  .source-selection button { padding: 11px; }
  .icon-button-wrapper button, .controls button { min-width: 36px; min-height: 36px; }
  #frame input[type=number] { min-height: 36px; }
  #frame input[type=range] { height: 24px; }
}
@media (prefers-reduced-motion: reduce) { .work progress:indeterminate { animation: none; } }
"""

_SCRIPT = """
(() => {
  const settings = SETTINGS;
  const chinese = (navigator.language || "").toLowerCase().startsWith("zh");
  const texts = settings.texts[chinese ? 1 : 0];
  const root = document.documentElement;
  root.lang = chinese ? "zh" : "en";
  root.style.setProperty("--unplayable", JSON.stringify(texts.unplayable));
  const listen = (names, handle) => { for (const name of names) document.addEventListener(name, handle, true); };

  // The source plays in step with the result, forward and backward where it is shorter.
  const video = (id) => document.querySelector(`#${id} video`);
  const place = (time, length) => {
    if (!(length > 0)) return 0;
    const position = time % (2 * length);
    return position <= length ? position : 2 * length - position;
  };
  listen(["play", "pause", "seeked", "timeupdate", "ratechange", "ended"], (event) => {
    const result = video("result-view");
    const source = video("source-view");
    if (!result || !source || event.target !== result) return;
    source.muted = true;
    source.playbackRate = result.playbackRate;
    const forward = result.currentTime % (2 * source.duration) <= source.duration;
    const wanted = place(result.currentTime, source.duration);
    if (Math.abs(source.currentTime - wanted) > 0.12 || result.paused) source.currentTime = wanted;
    if (!result.paused && forward) source.play().catch(() => {});
    else source.pause();
  });

  // Uploads. The server says which files it can use, so Gradio's check of their names is passed by.
  const kinds = {
    "source-video": "video", "source-picture": "image", "speech-audio": "audio", "speech-video": "video",
  };
  const fieldOf = (element) => element.closest?.(Object.keys(kinds).map((id) => `#${id}`).join());
  const tell = (field, message) => {
    const name = field.id.startsWith("source") ? "source_video_path" : "driving_audio_path";
    const slot = document.getElementById(`problem-${name}`);
    slot?.querySelector(".upload-problem")?.remove();
    if (!slot || !message) return;
    const line = document.createElement("p");
    line.className = "problem upload-problem";
    line.setAttribute("role", "alert");
    line.textContent = message;
    slot.append(line);
  };
  const admit = (field, file) => {
    tell(field, "");
    if (file.size > settings.bytes) {
      const size = Math.ceil(file.size / 1024 / 1024);
      tell(field, texts.too_large.replace("{size}", size).replace("{name}", () => file.name));
      return null;
    }
    const kind = kinds[field.id];
    return file.type.startsWith(`${kind}/`) ? file : new File([file], file.name, { type: `${kind}/x-unknown` });
  };
  const put = (input, file) => {
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
  };
  listen(["change"], (event) => {
    const input = event.target;
    const field = input.type === "file" && fieldOf(input);
    if (!field || !input.files.length) return;
    const file = admit(field, input.files[0]);
    if (!file) event.stopImmediatePropagation();
    else if (file !== input.files[0]) put(input, file);
  });
  listen(["drop"], (event) => {
    const field = fieldOf(event.target);
    const input = field?.querySelector("input[type=file]");
    const dropped = event.dataTransfer?.files[0];
    if (!input || !dropped) return;
    const file = admit(field, dropped);
    if (file === dropped) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    for (let i = 0; i < 5; i++) event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true }));
    if (!file) return;
    put(input, file);
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });
  listen(["loadedmetadata", "error"], (event) => {
    const field = event.target.tagName === "VIDEO" && fieldOf(event.target);
    if (!field) return;
    field.classList.toggle("unplayable", event.type === "error" || event.target.videoWidth === 0);
    if (event.type === "error") event.stopImmediatePropagation();
  });

  // Where to look next.
  const shown = (element) => element && element.getClientRects().length > 0;
  const go = (element, block) => {
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (shown(element)) element.scrollIntoView({ behavior: calm ? "auto" : "smooth", block });
  };
  const begun = (tries = 0) => {
    const status = document.querySelector("#status");
    if (shown(status)) go(status, "nearest");
    else if (tries < 20) setTimeout(begun, 250, tries + 1);
  };
  window.dinet = {
    begun: () => setTimeout(begun, 250),
    ended: () => setTimeout(() => {
      const problem = [...document.querySelectorAll(".problem")].find(shown);
      if (problem) go(problem, "center");
      else go(document.querySelector("#result-part"), "start");
    }, 300),
  };

  // Gradio's own texts that it has in English only.
  const words = chinese ? settings.words : {};
  const translate = (node) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const word = words[node.nodeValue.trim()];
      if (word) node.nodeValue = word;
      return;
    }
    for (const name of ["aria-label", "title"]) {
      const word = words[node.getAttribute?.(name)];
      if (word) node.setAttribute(name, word);
    }
    node.childNodes.forEach(translate);
  };
  if (chinese)
    new MutationObserver((records) => {
      for (const { type, target, addedNodes } of records)
        if (type === "childList") addedNodes.forEach(translate);
        else translate(target);
    }).observe(root, {
      subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["aria-label", "title"],
    });
})();
"""

SHOW_PROGRESS, SHOW_RESULT = "() => window.dinet.begun()", "() => window.dinet.ended()"

_POLICY = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'"
"""Nothing from another address, whatever a part of Gradio asks for."""


def head(settings: PageSettings) -> str:
    """What is added to the page's head."""
    most = settings.max_upload_mb
    texts = [
        {
            "unplayable": say("unplayable", language),
            "too_large": say("too_large", language, name="{name}", size="{size}", most=most),
        }
        for language in LANGUAGES
    ]
    values = json.dumps({"bytes": most * 1024**2, "texts": texts, "words": GRADIO_ZH})
    script = _SCRIPT.replace("SETTINGS", values.replace("<", "\\u003c"), 1)
    return f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n<script>{script}</script>\n'
