"""What runs in the browser itself: style, and the source video that plays in step with the result."""

CSS = """
.gradio-container { max-width: min(1180px, 100vw) !important; margin: 0 auto !important; }
.problem { color: #b42318; font-weight: 600; margin: 2px 0 6px; overflow-wrap: anywhere; }
.dark .problem { color: #fda29b; }
.slot:not(:has(.problem)) { display: none; }
#source-video, #source-picture, #speech-video { height: auto !important; }
#source-video video, #speech-video video { max-height: 300px; }
.pictures { contain: inline-size; }
.pictures .grid-container {
  grid-template-columns: none !important; grid-auto-flow: column; grid-auto-columns: minmax(84px, 118px);
  overflow-x: auto; max-width: 100%;
}
.work { padding: 10px 14px; border: 1px solid var(--border-color-primary); border-radius: 8px; }
.work progress { width: 100%; height: 12px; accent-color: var(--color-accent); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px 18px; margin: 4px 0; }
.figures div { display: flex; flex-direction: column-reverse; justify-content: flex-end; }
.figures dt { font-size: 0.85em; opacity: 0.8; }
.figures dd { font-size: 1.25em; font-weight: 600; margin: 0; overflow-wrap: anywhere; }
.moments { display: grid; grid-template-columns: repeat(8, 1fr); gap: 4px; margin: 0; padding: 0; list-style: none; }
.moments li { margin: 0; text-align: center; font-size: 0.8em; }
.moments img { width: 100%; border-radius: 4px; display: block; margin: 0; }
@media (max-width: 640px) { .moments { grid-template-columns: repeat(4, 1fr); } }
#dub { min-height: 48px; }
#dub, #cancel { font-size: 1.05em; }
"""

HEAD = """
<script>
(() => {
  const chinese = (navigator.language || "").toLowerCase().startsWith("zh");
  document.documentElement.lang = chinese ? "zh" : "en";
  const video = (id) => document.querySelector(`#${id} video`);
  // The source is played forward and backward where it is shorter than the result.
  const place = (time, length) => {
    if (!(length > 0)) return 0;
    const position = time % (2 * length);
    return position <= length ? position : 2 * length - position;
  };
  const follow = (event) => {
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
  };
  for (const name of ["play", "pause", "seeked", "timeupdate", "ratechange", "ended"])
    document.addEventListener(name, follow, true);
})();
</script>
"""
