"""Small pieces of HTML that the server writes; every value is escaped."""

import base64
import re
from collections.abc import Sequence
from html import escape

import cv2
import numpy as np

from utils.dubbing import DubbingReport
from utils.errors import UserError
from utils.page.device_queue import Ticket
from utils.page.errors_zh import translate_error
from utils.page.texts import has_text, say, say_seconds


def split_error(error: UserError, language: str) -> tuple[str, str]:
    """The option that an error names ("" if none) and its message in `language`, files without their folders."""
    line = " ".join(str(error).split())
    match = re.match(r"--(\w+): (.*)", line)
    option, message = (match[1], match[2]) if match else ("", line)
    return option, translate_error(re.sub(r"(?<![\w.])/(?:[^\s/;:]+/)+", "", message), language)


def problem(message: str) -> str:
    """An error at a field; screen readers say it at once."""
    return f'<p class="problem" role="alert">{escape(message)}</p>' if message else ""


def note(message: str) -> str:
    """A plain message in place of the progress."""
    return f'<p class="work" role="status">{escape(message)}</p>'


def waiting(before: int, length: int, language: str) -> str:
    """The place in the queue."""
    return note(say("waiting", language, before=before, length=length))


def work(ticket: Ticket, frames: int, language: str) -> str:
    """Stage, how much of it is done, and the time left.

    Args:
        ticket: running.
        frames: of the source, the total of stages that do not know theirs; 0: not known.
        language: of the reader.
    """
    key = f"stage_{ticket.stage}"
    stage = say(key, language) if has_text(key) else ticket.stage
    done, total = ticket.done, ticket.total or (frames if ticket.stage in ("landmarks", "read") else 0)
    parts = [stage]
    if total:
        done = min(done, total)
        unit = "of_seconds" if ticket.stage.endswith("seconds") else "of"
        parts.append(say(unit, language, done=done, total=total))
    elif done:
        parts.append(say("count", language, done=done))
    left = ticket.seconds_left(total)
    if left is not None:
        parts.append(say("left", language, time=say_seconds(left, language)))
    label = escape(say("status", language))
    value = f' value="{done}" max="{total}"' if total else ""
    return (
        f'<div class="work"><p>{escape(" · ".join(parts))}</p><progress aria-label="{label}"{value}></progress></div>'
    )


def figures(report: DubbingReport, language: str) -> str:
    """The figures of a dub."""
    rows = [
        ("figure_frames", f"{report.frames}"),
        ("figure_rate", f"{float(report.rate):.4g}"),
        ("figure_speed", f"{report.frames_per_second:.1f}"),
        ("figure_seconds", f"{report.total_seconds:.1f}"),
        ("figure_untouched", f"{report.untouched_frames}"),
        ("figure_references", ", ".join(map(str, report.references))),
    ]
    cells = "".join(f"<div><dt>{escape(say(key, language))}</dt><dd>{value}</dd></div>" for key, value in rows)
    return f'<dl class="figures">{cells}</dl>'


def strip(moments: Sequence[tuple[float, np.ndarray]], language: str) -> str:
    """Pictures, uint8 RGB, side by side under their times."""
    cells = []
    for seconds, picture in moments:
        _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
        address = f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"
        name = escape(say("moment_name", language, time=seconds))
        cells.append(f'<li><img src="{address}" alt="{name}">{name}</li>')
    return f'<ul class="moments">{"".join(cells)}</ul>'
