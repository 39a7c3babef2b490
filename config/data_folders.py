"""Default folders of the training data.

The published code has it in ./asserts/training_data, the published document in ./asserts; the folders inside have the
same names. ./asserts is used if it has what ./asserts/training_data lacks.
"""

import os
from pathlib import Path

DATA_FOLDERS = (Path("./asserts/training_data"), Path("./asserts"))
"""Of the published code and of the published document."""
TRAINING_JSON = "training_json.json"
LANDMARK_FOLDER = "split_video_25fps_landmark_openface"


def data_folder(*names: str) -> Path:
    """The one of DATA_FOLDERS that contains a file or folder; the published code's if neither does.

    Args:
        *names: files or folders to look for, in this order: the second one decides if the first is in neither folder.
            A folder without a visible file counts as missing: a failed run may have left it empty.
    """
    for name in names:
        for folder in DATA_FOLDERS:
            if _holds_something(folder / name):
                return folder
    return DATA_FOLDERS[0]


def both_folders(name: str) -> str:
    """Both places where `name` may lie, for the message that it lies in neither."""
    return " nor ".join(str(folder / name) for folder in DATA_FOLDERS)


def default_training_json() -> Path:
    """The training json that data_processing.py writes if no option names another: the default of --train_data."""
    return data_folder(TRAINING_JSON) / TRAINING_JSON


def default_landmark_dir() -> Path:
    """The folder of the videos' landmarks if no option names another: the default of --openface_landmark_dir."""
    return data_folder(LANDMARK_FOLDER) / LANDMARK_FOLDER


def _holds_something(path: Path) -> bool:
    if not path.is_dir():
        return path.exists()
    with os.scandir(path) as entries:
        return any(not entry.name.startswith(".") for entry in entries)
