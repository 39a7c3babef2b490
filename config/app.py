"""Options of app.py."""

from config.inference import MODEL_FILES, NETWORK_OPTIONS
from config.parser import ScriptParser
from utils.dubbing.settings import DubbingOptions, LoadSettings, default_weights
from utils.page.settings import PageSettings


class AppParser(ScriptParser):
    """Options of app.py: the page's own, and those of inference.py."""

    def __init__(self):
        super().__init__("Serve a page in the browser that dubs videos.")
        self.add_settings("page", PageSettings)
        files = [name for name in MODEL_FILES if name != "landmark_dir"]  # the page keeps landmarks itself
        self.add_settings("weights and models", LoadSettings, files, pretrained_clip_DINet_path=default_weights())
        self.add_settings("network and device", LoadSettings, NETWORK_OPTIONS)
        self.add_settings("result, where a visitor chooses nothing else", DubbingOptions)
