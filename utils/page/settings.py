"""Settings of the page. Without PyTorch and Gradio: `app.py --help` has to be instant."""

from dataclasses import dataclass
from pathlib import Path

from utils.settings import as_paths, option, positive_int


@dataclass(frozen=True)
class PageSettings:
    """Where the page is served, and what its visitors may use."""

    host: str = option("127.0.0.1", help="address to serve; 127.0.0.1: this computer alone, 0.0.0.0: the whole network")
    port: int = option(7860, type=int, help="port to serve; 0 takes a free one")
    weights: list[Path] = option(
        [], type=Path, nargs="+", help="further DINet weights that the page offers, .pth or .safetensors"
    )
    max_upload_mb: int = option(500, type=positive_int, help="largest upload, in megabytes")
    max_source_seconds: int = option(600, type=positive_int, help="longest source video, in seconds")
    max_speech_seconds: int = option(600, type=positive_int, help="longest speech, in seconds")
    max_fit_minutes: float = option(
        10.0, type=float, help="longest training that a visitor may ask for with fit, in minutes; 0: none"
    )
    max_waiting: int = option(20, type=positive_int, help="how many may wait in the queue; further ones are refused")
    keep_minutes: int = option(60, type=positive_int, help="uploads and results are deleted after this many minutes")
    page_dir: Path = option(
        Path("./asserts/page"),
        type=Path,
        help="folder of uploads and results; it belongs to the page, which empties it at the start and at the end",
    )

    def __post_init__(self):
        as_paths(self, "page_dir")
