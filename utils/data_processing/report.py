"""Summary of a data preparation: steps done, videos skipped."""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Skip:
    """A video that was not prepared, and why."""

    name: str
    step: str
    cause: str
    traceback: str = ""


@dataclass
class StepCount:
    """What a step did: videos made now and kept from earlier runs, seconds of work, frames of what was made."""

    made: int = 0
    kept: int = 0
    seconds: float = 0.0
    frames: int = 0


@dataclass
class Report:
    """Result of the preparation of some videos. `causes` counts unusable clips by cause."""

    steps: dict[str, StepCount] = field(default_factory=lambda: defaultdict(StepCount))
    skips: list[Skip] = field(default_factory=list)
    causes: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Report") -> None:
        """Add the report of other videos."""
        for step, count in other.steps.items():
            total = self.steps[step]
            total.made += count.made
            total.kept += count.kept
            total.seconds += count.seconds
            total.frames += count.frames
        self.skips += other.skips
        self.causes += other.causes

    def log(self) -> None:
        """Log what was done, and what was not done and why."""
        for step, count in self.steps.items():
            rate = f", {count.frames / count.seconds:.0f} frames per second and process" if count.frames else ""
            logger.info(f"{step:>22}: {count.made} made, {count.kept} there already, {count.seconds:.1f} s{rate}")
        for cause, count in sorted(self.causes.items()):
            logger.info(f"{count:>22} clips not used: {cause}")
        for skip in sorted(self.skips, key=lambda skip: (skip.name, skip.step)):
            logger.warning(f"skipped {skip.name} ({skip.step}): {skip.cause}")
            if skip.traceback:
                logger.warning(skip.traceback)
        if self.skips:
            logger.warning(f"{len(self.skips)} videos skipped")
