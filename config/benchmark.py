"""Options of benchmark.py."""

import argparse
from collections.abc import Callable
from pathlib import Path

from config.parser import ScriptParser, positive_int
from utils.dubbing.settings import default_weights

_EXAMPLE = Path(__file__).parent.parent / "asserts" / "example"


class BenchmarkParser(ScriptParser):
    """Options of benchmark.py: one command for each thing that can be measured."""

    def __init__(self):
        super().__init__("Measure speed, side by side with a straight reading of the published code.")
        commands = self.add_subparsers(dest="command", required=True, parser_class=ScriptParser, metavar="COMMAND")
        self._add_inference(commands)
        self._add_training(commands)
        self._add_stream(commands)

    def _add_inference(self, commands: argparse._SubParsersAction) -> None:
        text = "dubbing, the generator alone and from end to end with landmarks at hand, frames a second"
        add = commands.add_parser("inference", help=text, description=f"Measure {text}.").add_argument
        add("--source_video_path", type=Path, default=_EXAMPLE / "astronaut.mp4", help="video to dub")
        add("--driving_audio_path", type=Path, default=_EXAMPLE / "speech.wav", help="speech")
        add("--seconds", type=float, nargs="+", default=[2.0], help="lengths of the dub; the speech is repeated")
        add("--mouth_region_size", type=positive_int, nargs="+", default=[64, 128, 256], help="sides of mouth regions")
        add("--source_size", choices=("512", "720p", "1080p"), nargs="+", default=["512"], help="sizes of the video")
        add(
            "--precision",
            choices=("fp32", "bf16", "fp16"),
            nargs="+",
            default=["fp32"],
            help="precisions of this project to measure; the published procedure runs in fp32",
        )
        add("--batch_size", type=positive_int, help="frames at a time; None: as in inference.py")
        add("--feature_channel", type=positive_int, default=256, help="width of the generator; 256 as published")
        add("--without_published", action="store_true", help="from end to end, leave out the published procedure")
        add("--figure_path", type=Path, help="picture of where the time goes, such as time.png")
        add("--rounds", type=positive_int, default=3, help="rounds of the generator; of each kind the fastest counts")
        self._add_common(add)

    @staticmethod
    def _add_common(add: Callable[..., argparse.Action]) -> None:
        add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
        add("--threads", type=positive_int, help="CPU threads of PyTorch; None: as many as it takes")
        add("--json_path", type=Path, help="file for the figures")

    def _add_stream(self, commands: argparse._SubParsersAction) -> None:
        text = "live dubbing, the delay of frames when speech comes in real time, and frames per second at most"
        add = commands.add_parser("stream", help=text, description=f"Measure {text}.").add_argument
        add("--source_video_path", type=Path, default=_EXAMPLE / "astronaut.mp4", help="video to dub")
        add("--driving_audio_path", type=Path, default=_EXAMPLE / "speech.wav", help="speech")
        add("--pretrained_clip_DINet_path", type=Path, default=default_weights(), help="DINet weights for mel features")
        add("--seconds", type=float, default=10.0, help="length of the speech, which is repeated")
        self._add_common(add)

    def _add_training(self, commands: argparse._SubParsersAction) -> None:
        text = "training of the frame stage, samples a second"
        add = commands.add_parser("training", help=text, description=f"Measure {text}.").add_argument
        add("--train_data", type=Path, help="training json; None: pictures made up for the purpose")
        add("--perceptual_weights", type=Path, help="VGG weights; None: VGG19 with random weights, equally fast")
        add("--mouth_region_size", type=positive_int, default=64, help="side of the mouth region in pixels")
        add("--batch_size", type=positive_int, default=8, help="samples a step")
        add("--steps", type=positive_int, default=3, help="steps of each kind in a round")
        add("--rounds", type=positive_int, default=3, help="rounds; of each kind the fastest counts")
        add(
            "--amp",
            choices=("off", "bf16", "fp16"),
            nargs="+",
            default=["off"],
            help="precisions of this project to measure; the published loop runs in fp32",
        )
        add("--num_workers", type=int, help="loader processes of this project; None: as in training")
        add("--cache", choices=("none", "ram", "device"), default="none", help="where this project keeps its crops")
        add("--channels_last", action=argparse.BooleanOptionalAction, help="memory layout; None: as in training")
        add("--compile", action="store_true", help="compile this project's networks with torch.compile")
        self._add_common(add)
