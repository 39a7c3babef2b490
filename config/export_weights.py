"""Options of export_weights.py."""

from pathlib import Path

from config.parser import ScriptParser
from utils.dubbing.settings import default_weights
from utils.settings import positive_float

RESULT_DIR = Path("./asserts/exported_weights")
FORMATS = ("pth", "safetensors", "onnx")


class ExportParser(ScriptParser):
    """Options of export_weights.py."""

    def __init__(self):
        super().__init__("Make files of trained weights to share, or a network that other programs run (ONNX).")
        add = self.add_argument
        add("--checkpoint", type=Path, default=default_weights(), help="checkpoint of a training, or weights")
        add(
            "--average_with",
            type=Path,
            nargs="+",
            default=[],
            metavar="CHECKPOINT",
            help="further checkpoints of the same network, whose weights are averaged with those of --checkpoint",
        )
        add(
            "--shares",
            type=positive_float,
            nargs="+",
            help="shares of the checkpoints in the average, --checkpoint first, such as 3 1; None: equal ones",
        )
        add(
            "--format",
            choices=FORMATS,
            help="pth: the published layout; safetensors: the same weights in the format of the Hugging Face tools; "
            "onnx: the generator as two graphs, in a folder; None: as --result_path ends, else pth",
        )
        add(
            "--result_path",
            type=Path,
            help="file to write, or with onnx the folder of the graphs; None: named after the checkpoint, "
            f"in {RESULT_DIR}",
        )
        add(
            "--speech_dir",
            type=Path,
            help="folder with the sound of the training videos (data_processing.py --extract_audio): records how "
            "strong the audio embeddings of a generator are there, and dubbing then limits other speech to that",
        )
        add("--fp32", action="store_true", help="keep full precision in pth and safetensors; onnx has it always")
