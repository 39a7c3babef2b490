"""Options of benchmark.py."""

from config.parser import ScriptParser
from utils.benchmark.settings import InferenceBenchmark, StreamBenchmark, TrainingBenchmark


class BenchmarkParser(ScriptParser):
    """Options of benchmark.py: one command for each thing that can be measured."""

    def __init__(self):
        super().__init__("Measure speed, side by side with the published procedure.", "%(prog)s COMMAND [option ...]")
        commands = self.add_subparsers(
            dest="command", required=True, parser_class=ScriptParser, metavar="COMMAND", prog=self.prog
        )
        measured = {
            "inference": (
                "dubbing, the generator alone and end to end with known landmarks, frames per second",
                InferenceBenchmark,
            ),
            "stream": (
                "live dubbing, the delay of frames when speech comes in real time, and the highest frame rate",
                StreamBenchmark,
            ),
            "training": ("training of the frame stage, samples per second", TrainingBenchmark),
        }
        for name, (text, settings) in measured.items():
            command = commands.add_parser(name, help=text, description=f"Measure {text}.")
            command.add_settings("what to measure", settings)
