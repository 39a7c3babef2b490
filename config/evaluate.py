"""Options of evaluate.py."""

from pathlib import Path

from config.parser import ScriptParser, positive_int
from utils.media.limits import MediaLimits

LSE_OPTION = "--lse_syncnet_path"
LSE_ADDRESS = "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model"


class EvaluationParser(ScriptParser):
    """Options of evaluate.py: dubbed videos against true ones, or a checkpoint on a list of clips."""

    def __init__(self):
        super().__init__("Score dubbed videos against true ones, or DINet weights on clips.")
        videos = self.add_argument_group("dubbed videos")
        add = videos.add_argument
        add("--generated", type=Path, help="dubbed video, or a folder of them, as inference.py names them or not")
        add("--reference", type=Path, help="true video, or a folder with one for each dubbed video, by name")
        add("--other_words", action="store_true", help="the dubbed videos say something else than the true ones")

        weights = self.add_argument_group("weights")
        add = weights.add_argument
        add(
            "--checkpoint",
            "--pretrained_clip_DINet_path",
            dest="pretrained_clip_DINet_path",
            type=Path,
            help="DINet weights, to dub the clips with their own words and with other words",
        )
        add("--clips", type=Path, nargs="+", help="videos with sound, or text files with the path of one a line")
        add(
            "--driving_audio",
            type=Path,
            nargs="+",
            default=[],
            help="the other words, by turns; none: each clip gets the next clip's",
        )
        add("--deepspeech_model_path", type=Path, default=Path("./asserts/output_graph.pb"), help="see inference.py")
        add("--whisper_model", default="tiny.en", help="see inference.py")
        add("--precision", choices=("auto", "fp32", "bf16", "fp16"), default="auto", help="see inference.py")
        add(
            "--batch_size", type=positive_int, help="frames dubbed at a time; None: 2 per thread on the CPU, 16 on CUDA"
        )

        both = self.add_argument_group("both")
        add = both.add_argument
        add("--result_dir", type=Path, default=Path("./asserts/evaluation_result"), help="folder of the results")
        add("--baselines", action="store_true", help="also score the untouched source and pasted references")
        add("--syncnet_path", type=Path, help="SyncNet weights for the sync columns")
        add(LSE_OPTION, type=Path, help="syncnet_v2.model of Chung and Zisserman for LSE-D and LSE-C")
        add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        add("--workers", type=positive_int, help="processes that detect landmarks; None: one a core")
        add(
            "--landmark_dir",
            type=Path,
            default=Path("./asserts/detected_landmark"),
            help="folder where detected landmarks are kept for the next run on the same video",
        )
        self.add_settings("limits on files that are read", MediaLimits)
