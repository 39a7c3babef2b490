"""What the page keeps of one browser window, and what its visitor asks for."""

from dataclasses import dataclass
from pathlib import Path

from utils.dubbing import DubbingOptions
from utils.page.device_queue import Ticket
from utils.page.engine import Look


@dataclass
class Session:
    """One browser window."""

    look_ticket: Ticket | None = None
    dub_ticket: Ticket | None = None
    look: Look | None = None
    source: str | None = None
    """The last upload that was looked at."""
    selected: int = 0
    """Which of the reference frames is to be changed."""


@dataclass(frozen=True)
class DubRequest:
    """What a visitor asks for, checked."""

    source: Path
    frames: int
    landmarks: Path | None
    weights: str
    options: DubbingOptions
    fit: float | None
    save_face_video: bool
