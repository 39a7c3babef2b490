"""Video files encoded one after the other's end, as one MP4: their packets are copied, the sound is added."""

from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av

from utils.errors import UserError
from utils.files import PartialFile
from utils.media.aac import AacTrack, aac_format
from utils.media.container import as_fraction, open_input


class UnlikePartsError(Exception):
    """Files that cannot be one track: they were encoded with other settings or in another time base."""


def join_videos(
    paths: Sequence[Path],
    frame_counts: Sequence[int],
    target: Path,
    rate: Fraction,
    audio_path: Path | None = None,
    duration: float | None = None,
) -> None:
    """Join the video tracks of MP4 files that VideoWriter has written with the same settings.

    Args:
        paths: the files, in order.
        frame_counts: frames of each.
        target: the MP4 to write; it takes its name when it is complete.
        rate: frames per second.
        audio_path: file of the sound; None: no sound.
        duration: seconds after which the sound ends; None: all of it.

    Raises:
        UnlikePartsError: the files cannot be one track.
        UserError: the disk is full or the file cannot be written; no sound.
    """
    audio_format = None if audio_path is None else aac_format(audio_path, "--source_video_dir")
    try:
        with ExitStack() as stack:
            partial = stack.enter_context(PartialFile(target))
            first = stack.enter_context(open_input(paths[0])).streams.video[0]
            options = {"movflags": "+faststart"}
            result = stack.enter_context(av.open(partial.writable_name, "w", format="mp4", options=options))
            result.metadata["comment"] = ""
            video = result.add_stream_from_template(first)
            video.time_base = first.time_base
            sound = None
            if audio_format is not None:
                sound = AacTrack(result, audio_path, audio_format, duration, "--source_video_dir")
                stack.callback(sound.close)
            result.start_encoding()
            done = 0
            for path, count in zip(paths, frame_counts, strict=True):
                with open_input(path) as source:
                    track = source.streams.video[0]
                    offset = done / rate / as_fraction(first.time_base)
                    alike = track.time_base == first.time_base and offset.denominator == 1
                    if not alike or track.codec_context.extradata != first.codec_context.extradata:
                        raise UnlikePartsError
                    for packet in source.demux(track):
                        if packet.size:
                            packet.pts += int(offset)
                            packet.dts += int(offset)
                            packet.stream = video
                            result.mux(packet)
                            if sound is not None:
                                sound.write(until=Fraction(packet.dts) * as_fraction(first.time_base))
                    done += count
            if sound is not None:
                sound.write(until=None)
    except OSError as error:  # PyAV's errors of the system are OSErrors too
        raise UserError(
            f"{target} cannot be written ({error.strerror or error}); check the folder, its permissions and the "
            "free space"
        ) from error
