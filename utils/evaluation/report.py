"""Results of an evaluation: table, csv, json, image strips and plots."""

import csv
import io
import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.evaluation.comparison import TRUTH, Scores
from utils.evaluation.csim import EMBEDDING_NETWORK
from utils.evaluation.lip_metrics import MAX_LAG
from utils.files import atomic_path
from utils.media.images import write_png

DECIMALS = 4


@dataclass(frozen=True)
class Column:
    """A metric: name, which direction is better ("higher", "lower" or "" for neither), and its definition."""

    name: str
    better: str
    meaning: str


def _of_both(name: str, better: str, meaning: str) -> list[Column]:
    return [
        Column(f"{name}_crop", better, f"{meaning}; face crop at 416 x 320"),
        Column(f"{name}_mouth", better, f"{meaning}; mouth square of 256 inside that crop"),
    ]


_LSE = "SyncNet of Chung and Zisserman, faces cut by 68 landmarks instead of the S3FD detector's boxes"

COLUMNS = (
    *_of_both("psnr", "higher", "dB, RGB, mean over frames (OpenCV)"),
    *_of_both("ssim", "higher", "SSIM, Gaussian windows of 11 pixels, RGB, mean over frames"),
    *_of_both("ms_ssim", "higher", "MS-SSIM, five scales, RGB, mean over frames"),
    *_of_both("lpips", "lower", "LPIPS 0.1 with AlexNet (torchmetrics)"),
    *_of_both("fid", "lower", "FID, Inception 2015-12-05, 2048 features, all clips together (torchmetrics)"),
    *_of_both("l1", "lower", "mean absolute difference of RGB in levels, 0 .. 255"),
    *_of_both("sharpness", "", "variance of the Laplacian of the luminance; compare with the truth"),
    *_of_both("flicker", "", "|2 now - before - after| / 2 over three frames, levels; compare with the truth"),
    Column(
        "lmd_all", "lower", "mean distance of 68 dlib landmarks, unaligned, over the true outer eye distance (36-45)"
    ),
    Column("lmd_mouth", "lower", "lmd_all of the mouth's 20 points alone"),
    Column(
        "opening_correlation",
        "higher",
        "correlation of the inner lips' distance (62-66) over time with the truth's; cross-audio: the driving video's",
    ),
    Column(
        "opening_lag",
        "",
        f"lag in frames of the highest opening correlation, late is positive, within {MAX_LAG} either way",
    ),
    Column("csim", "higher", f"cosine of {EMBEDDING_NETWORK}, true against scored frame, every other second"),
    Column("sync_confidence", "higher", "our SyncNet: highest mean score over shifts of the audio minus the median"),
    Column(
        "sync_offset",
        "",
        f"our SyncNet: shift of the highest score in frames of 40 ms, late audio is positive, within {MAX_LAG}",
    ),
    Column(
        "sound_correlation",
        "higher",
        "highest correlation of the rate of lip opening with the rate of speech level over shifts",
    ),
    Column(
        "sound_lag",
        "",
        f"shift of the highest sound correlation in frames of 40 ms, late audio is positive, within {MAX_LAG}",
    ),
    Column("lse_d", "lower", f"LSE-D, {_LSE}: smallest mean distance over shifts"),
    Column("lse_c", "higher", f"LSE-C, {_LSE}: median distance minus the smallest"),
    Column("lse_offset", "", f"{_LSE}: shift of the smallest distance in frames of 40 ms, sign of syncnet_python"),
)


@dataclass(frozen=True)
class Row:
    """Mean over the clips of one task and row. `values` lacks columns that were not measured."""

    task: str
    row: str
    clips: int
    frames: int
    values: dict[str, float]


def mean_rows(scores: Sequence[Scores], pooled: dict[tuple[str, str], dict[str, float]]) -> list[Row]:
    """Mean over clips, every clip counting once.

    Args:
        scores: of all clips and rows.
        pooled: figures of all clips together, by (task, row), which are added.
    """
    groups: dict[tuple[str, str], list[Scores]] = defaultdict(list)
    for score in scores:
        groups[score.comparison.task, score.comparison.row].append(score)
    rows = []
    for (task, row), members in groups.items():
        values = dict(pooled.get((task, row), {}))
        for column in COLUMNS:
            known = [member.values[column.name] for member in members if column.name in member.values]
            known = [value for value in known if not math.isnan(value)]
            if known:
                values[column.name] = float(np.mean(known))
        rows.append(Row(task, row, len(members), sum(member.frames for member in members), values))
    return rows


def table_text(rows: Sequence[Row], missing: dict[str, str]) -> str:
    """The table as text, metrics down and rows across, so that it fits a screen; notes below."""
    heads = [f"{row.task}: {row.row}" for row in rows]
    widths = [max(12, len(head)) for head in heads]
    lines = [f"{'':<22}" + "".join(f"  {head:>{width}}" for head, width in zip(heads, widths, strict=True))]
    lines.append(
        f"{'clips / frames':<22}"
        + "".join(f"  {f'{row.clips} / {row.frames}':>{width}}" for row, width in zip(rows, widths, strict=True))
    )
    for column in COLUMNS:
        cells = [_cell(row.values.get(column.name)) for row in rows]
        if all(cell == "-" for cell in cells) and column.name not in missing:
            continue
        arrow = {"higher": " ^", "lower": " v", "": ""}[column.better]
        lines.append(
            f"{column.name + arrow:<22}"
            + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
        )
    lines.append("^ higher is better, v lower is better, - not measured or undefined")
    lines += [f"- {text}" for text in dict.fromkeys(missing.values())]
    return "\n".join(lines)


def write_report(
    folder: Path,
    scores: Sequence[Scores],
    rows: Sequence[Row],
    missing: dict[str, str],
    facts: dict[str, object],
) -> None:
    """Write results.csv, results.json, table.txt, strips/ and plots/ into `folder`, each file complete or not at all.

    Args:
        folder: exists.
        scores: one per clip and row.
        rows: their means.
        missing: columns that could not be measured, and what they need.
        facts: command line and the like, for the json.
    """
    for name, written in (
        ("results.csv", _csv_text(scores, rows)),
        ("results.json", json.dumps(_json_content(scores, rows, missing, facts), indent=1, allow_nan=False) + "\n"),
        ("table.txt", table_text(rows, missing) + "\n"),
    ):
        with atomic_path(folder / name) as partial:
            partial.write_text(written, encoding="utf-8")
    for kind in ("strips", "plots"):
        (folder / kind).mkdir(exist_ok=True)
    truths = {score.comparison.clip: score for score in scores if score.comparison.row == TRUTH}
    for score in scores:
        if score.comparison.row == TRUTH:
            continue
        name = "_".join((score.comparison.clip, score.comparison.task, score.comparison.row)).replace(" ", "_") + ".png"
        if score.strip:
            with atomic_path(folder / "strips" / name) as partial:
                write_png(partial, image_strip(score.strip))
        with atomic_path(folder / "plots" / name) as partial:
            plot(partial, score, truths.get(score.comparison.clip))


def _csv_text(scores: Sequence[Scores], rows: Sequence[Row]) -> str:
    """One line per clip and row, then the means."""
    names = [column.name for column in COLUMNS]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "task", "row", "frames", *names])
    lines = [(s.comparison.clip, s.comparison.task, s.comparison.row, s.frames, s.values) for s in scores]
    lines += [("mean", row.task, row.row, row.frames, row.values) for row in rows]
    for *head, values in lines:
        writer.writerow([*head, *(_number(values.get(name)) for name in names)])
    return text.getvalue()


def _json_content(
    scores: Sequence[Scores], rows: Sequence[Row], missing: dict[str, str], facts: dict[str, object]
) -> dict[str, object]:
    """Everything that results.json holds."""
    return {
        **facts,
        "columns": {column.name: {"better": column.better, "meaning": column.meaning} for column in COLUMNS},
        "not_measured": missing,
        "means": [
            {"task": row.task, "row": row.row, "clips": row.clips, "frames": row.frames, **_plain(row.values)}
            for row in rows
        ],
        "clips": [
            {
                "clip": s.comparison.clip,
                "task": s.comparison.task,
                "row": s.comparison.row,
                "generated": str(s.comparison.generated),
                "reference": str(s.comparison.reference),
                "sound": None if s.comparison.audio is None else str(s.comparison.audio),
                "frames": s.frames,
                **_plain(s.values),
            }
            for s in scores
        ],
    }


def image_strip(images: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Rows of true images, scored ones and their difference (mid-grey: none), uint8 [3 h, n w, 3]."""
    rows = [
        [true for true, _ in images],
        [other for _, other in images],
        [np.clip(other.astype(np.int16) - true + 128, 0, 255).astype(np.uint8) for true, other in images],
    ]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def plot(path: Path, score: Scores, truth: Scores | None) -> None:
    """Draw the lip opening over time and the scores over the shift of the audio, as png whatever the suffix of `path`.

    Args:
        path: the image to write.
        score: of a dub or a baseline. Only lips that its own should follow are drawn beside them.
        truth: of the true video, whose scores over the shift are drawn too.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no window, and no global state
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3 + 3 * len(score.curves)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + len(score.curves), 1, squeeze=False)[:, 0]
    for name, opening in score.openings.items():
        axes[0].plot(np.arange(len(opening)) / float(score.opening_rate), opening, label=name)
    axes[0].set(xlabel="seconds", ylabel="lip opening / eye distance", title=score.comparison.clip)
    axes[0].legend()
    true_label = TRUTH if score.comparison.same_audio else f"{TRUTH} with its own audio"
    for axis, (name, curve) in zip(axes[1:], score.curves.items(), strict=True):
        shifts = np.arange(len(curve)) - len(curve) // 2
        if truth is not None and name in truth.curves:
            axis.plot(shifts, truth.curves[name], label=true_label)
        axis.plot(shifts, curve, label=score.comparison.row)
        axis.axvline(0, color="grey", linewidth=0.5)
        axis.set(xlabel="shift of the audio, frames of 40 ms (late is positive)", ylabel=name)
        axis.legend()
    figure.savefig(path, format="png", dpi=100)


def _cell(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{DECIMALS}f}"


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.6g}"


def _plain(values: dict[str, float]) -> dict[str, float | str | None]:
    """Values for json, which has neither infinity nor NaN."""
    return {
        name: None if math.isnan(value) else ("inf" if math.isinf(value) else value) for name, value in values.items()
    }
