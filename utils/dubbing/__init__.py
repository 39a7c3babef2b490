"""The dubbing engine behind inference.py.

from utils.dubbing import DubbingJob, DubbingOptions, LoadSettings, load_dubber

dubber = load_dubber(LoadSettings(device="cpu"), DubbingOptions(fps=25))
report = dubber.dub(DubbingJob("face.mp4", "speech.wav", "dubbed.mp4"))
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
