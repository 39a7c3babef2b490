"""Serve a page in the browser that dubs videos: python app.py."""

from config.app import AppParser
from config.inference import RunSettings
from config.parser import make_settings
from utils.dubbing import DubbingOptions, LoadSettings
from utils.errors import UserError, require_file, run_script
from utils.media.limits import MediaLimits, use_limits
from utils.page.settings import PageSettings
from utils.settings import ASSERTS_DOWNLOAD


def main() -> None:
    """Run the script."""
    options = AppParser().parse_args()
    settings = make_settings(PageSettings, options)
    require_file(
        options.pretrained_clip_DINet_path,
        "--pretrained_clip_DINet_path",
        f"train one, or take clip_training_DINet_256mouth.pth of asserts.zip from {ASSERTS_DOWNLOAD}",
    )
    weights = [options.pretrained_clip_DINet_path, *(require_file(path, "--weights") for path in settings.weights)]
    try:
        from utils.page.build import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UserError("app.py needs gradio, which is not installed; pip install -r requirements-app.txt") from error
    from dataset.fitting import fit_to_source

    longest = max(settings.max_source_seconds, settings.max_speech_seconds) + 1.0
    use_limits(MediaLimits(max_seconds=longest))
    serve(
        settings,
        make_settings(LoadSettings, options, landmark_dir=None),
        make_settings(DubbingOptions, options),
        weights,
        RunSettings,
        fit_to_source,
    )


def command() -> None:
    """Run the installed command (pyproject.toml)."""
    run_script(main)


if __name__ == "__main__":
    command()
