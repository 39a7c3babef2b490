"""Open media files with any supported PyAV version, and nothing but the file itself."""

import os
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av

from utils.files import descriptor_name, open_regular_file
from utils.media.limits import current_limits

_FORMATS = (
    # Containers of video and sound. None of them opens a second file, unlike hls, concat, image2, dash or sdp.
    "3g2 3gp asf avi f4v flv gxf iamf ivf live_flv m4a matroska mj2 mov mp4 mpeg mpegts mxf nut nuv ogg rm swf webm "
    # One track without a container.
    "aac ac3 ac4 aiff amr amrnb amrwb ape apng au av1 avs2 avs3 caf cavsvideo dirac dnxhd dsf dts dtshd dv eac3 flac "
    "gif h261 h263 h264 hevc loas m4v mjpeg mlp mp3 mpc mpc8 mpegvideo obu qcp qoa sox tak truehd tta vc1 voc vvc w64 "
    "wav wtv wv xwma yuv4mpegpipe "
    # Pictures.
    "bmp_pipe dds_pipe dpx_pipe exr_pipe gif_pipe hdr_pipe j2k_pipe jpeg_pipe jpegls_pipe jpegxl_anim jpegxl_pipe "
    "pam_pipe pbm_pipe pcx_pipe pgm_pipe pgmyuv_pipe png_pipe ppm_pipe psd_pipe qoi_pipe sgi_pipe sunrast_pipe "
    "tiff_pipe webp_pipe xbm_pipe xpm_pipe xwd_pipe"
)
_OPTIONS = {"format_whitelist": ",".join(_FORMATS.split()), "protocol_whitelist": "file"}
"""A playlist, whatever its name ends with, opens neither another file nor an address."""
_MAX_STREAMS = 1000  # ffmpeg's own limit
_PYAV_18 = int(av.__version__.split(".")[0]) < 19


class Rational(Protocol):
    """A rational number of any kind: `fractions.Fraction` (PyAV 18) or `av.rational.AVRational` (PyAV 19)."""

    numerator: int
    denominator: int


def open_input(path: Path, max_pixels: int | None = None) -> av.container.InputContainer:
    """Open a media file for reading. Tags that are not UTF-8 do not matter, and no other file is opened.

    Args:
        path: a file, not a pipe.
        max_pixels: larger pictures are not decoded (None: as the script says); a stream of them may then have no size.

    Raises:
        av.FFmpegError, OSError: the file cannot be read or is no media file.
    """
    descriptor = open_regular_file(path)
    try:
        # Not by its path: ffmpeg would take "a:b.mp4" for a protocol and "a%d.jpg" for a series of pictures, and PyAV
        # refuses names that are not UTF-8.
        name = descriptor_name(descriptor, path)
        limit = decoder_options(max_pixels or current_limits().max_pixels)
        if not _PYAV_18:  # its options reach the decoders of all streams, and it never fails on metadata
            return av.open(name, options=_OPTIONS | limit)
        given = {"options": _OPTIONS, "metadata_errors": "replace"}
        try:
            return av.open(name, stream_options=[limit] * _MAX_STREAMS, **given)
        except ValueError as error:
            # MPEG streams are found by reading on; PyAV has no way to limit their decoders before.
            if isinstance(error, av.FFmpegError):
                raise
            return av.open(name, **given)
    finally:
        os.close(descriptor)


def decoder_options(max_pixels: int) -> dict[str, str]:
    """Options of a decoder that refuses much larger pictures before it takes memory for them.

    ffmpeg counts the padding of its buffers too, so that its limit is a coarse one.
    """
    return {"max_pixels": str(2 * max_pixels + (1 << 16))}


def as_fraction(value: Rational | None) -> Fraction | None:
    """Return a rational number of PyAV as a Fraction; None for None and for 0/0, which ffmpeg calls unknown."""
    if value is None or not value.denominator:
        return None
    return Fraction(value.numerator, value.denominator)
