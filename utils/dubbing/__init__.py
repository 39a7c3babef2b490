"""The dubbing engine behind inference.py.

    from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber

    dubber = load_dubber(LoadSettings(device="cpu"), DubbingOptions(fps=25))
    report = dubber.dub(DubbingJob("face.mp4", "speech.wav", "dubbed.mp4"))

Files:

    settings.py       options of a dub, with their defaults
    load.py           weights to a `Dubber`
    engine.py         `Dubber`: analyses the source, chooses the references, runs the dub
    run.py            the stages of one dub: decode, crop, generator, blend, encode
    generator.py      the network: face crops and audio in, faces out
    references.py     the five reference frames
    blending.py       --blend feather and hard: colour match, paste with a mask
    face_blend.py     --blend face, the default: only the lower face changes
    face_geometry.py  its masks, and coordinates that move with the head
    lip_detail.py     detail of its lips, taken from other frames of the same person
    lip_quality.py    whether the generated lips are good enough to be shown
    own_lips.py       if not: the source's own lips, moved as the generated ones are
    lip_warp.py       lips of a frame moved to another opening and width
    mouth_reader.py   opening and width of the lips in a face crop
    sample_grid.py    its maps, resampled to the frame's planes
    silence.py        lips close in pauses of the speech
    streaming.py      live dubbing
    job_list.py       lists of videos (--jobs)
"""

from typing import TYPE_CHECKING, Any

from utils.dubbing.settings import DubbingJob, DubbingOptions, DubbingReport, FitSettings, LoadSettings

if TYPE_CHECKING:
    from utils.dubbing.engine import Dubber
    from utils.dubbing.load import load_dubber

__all__ = ["Dubber", "DubbingJob", "DubbingOptions", "DubbingReport", "FitSettings", "LoadSettings", "load_dubber"]


def __getattr__(name: str) -> Any:
    """Load what needs PyTorch, which takes seconds, when it is asked for."""
    if name == "load_dubber":
        from utils.dubbing.load import load_dubber

        return load_dubber
    if name == "Dubber":
        from utils.dubbing.engine import Dubber

        return Dubber
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
