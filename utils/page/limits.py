"""How long uploads are, looked up without decoding them."""

from contextlib import closing
from pathlib import Path

import av

from utils.errors import UserError, require_file
from utils.media.container import open_input


def media_seconds(path: Path) -> float:
    """Length of a video or audio file in seconds; 0 for a still picture.

    Recordings of browsers do not state it: then the time stamps are read.

    Raises:
        UserError: the file cannot be read.
    """
    require_file(path)
    try:
        with closing(open_input(path)) as container:
            if container.format.name == "image2" or container.format.name.endswith("_pipe"):
                return 0.0
            if container.duration:
                return container.duration / av.time_base
            ends = (
                float((packet.pts + (packet.duration or 0)) * packet.time_base)
                for packet in container.demux()
                if packet.pts is not None
            )
            return max(ends, default=0.0)
    except (OSError, av.FFmpegError) as error:
        raise UserError(
            f"{path.name} is no video, picture or audio file that can be read ({error.strerror or error}); "
            "give a file that a player opens"
        ) from error


def check_length(path: Path, most: float) -> float:
    """Length in seconds; see media_seconds.

    Raises:
        UserError: unreadable, or longer than `most`.
    """
    seconds = media_seconds(path)
    if seconds > most:
        raise UserError(f"{path.name} is {seconds:.0f} s long, at most {most:g} s are taken; cut it shorter")
    return seconds
