"""Selection of the five reference frames."""

from collections.abc import Callable, Sequence

import numpy as np

from utils.errors import UserError
from utils.face.crop_plan import CropPlan
from utils.face.landmarks import frontality, lip_opening

REFERENCE_COUNT = 5
CANDIDATES_PER_REFERENCE = 3


def parse_reference_frames(text: str, plan: CropPlan) -> list[int]:
    """Frame numbers (from 0) of `--reference_frames`, repeated up to five.

    Raises:
        UserError: no numbers, more than five, outside the video, or without a face.
    """
    try:
        frames = [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"--reference_frames: {text!r} is no list of frame numbers; give up to five, such as 3,40,81"
        ) from None
    if len(frames) > REFERENCE_COUNT:
        raise UserError(f"--reference_frames: {len(frames)} frames given; give up to {REFERENCE_COUNT}")
    for frame in frames:
        if not 0 <= frame < len(plan.radius):
            raise UserError(f"--reference_frames: frame {frame} is not there; give some of 0 to {len(plan.radius) - 1}")
        if not plan.usable[frame]:
            raise UserError(f"--reference_frames: frame {frame} has no usable face; choose another one")
    return [frames[i % len(frames)] for i in range(REFERENCE_COUNT)]


def random_references(plan: CropPlan, seed: int) -> list[int]:
    """Five usable frames drawn at random, as published but repeatable."""
    usable = np.flatnonzero(plan.usable)
    draw = np.random.default_rng(seed).choice(usable, REFERENCE_COUNT, replace=len(usable) < REFERENCE_COUNT)
    return [int(frame) for frame in draw]


def spread_references(
    plan: CropPlan, width: int, height: int, sharpness: Callable[[Sequence[int]], Sequence[float]]
) -> list[int]:
    """Five frames from the closed mouth to the open one, sharp and facing the camera; always the same.

    Args:
        plan: crops of the video.
        width: frame width in pixels.
        height: frame height in pixels.
        sharpness: returns a number for each of the given frames, which rise; higher is sharper.
    """
    usable = np.flatnonzero(plan.weight == 1)
    if len(usable) == 0:
        usable = np.flatnonzero(plan.usable)
    inside = [frame for frame in usable if plan.box(frame).inside(width, height)]
    frames = np.array(inside if len(inside) >= REFERENCE_COUNT else usable)
    opening = lip_opening(plan.points[frames])
    facing = frontality(plan.points[frames])
    by_opening = np.argsort(opening, kind="stable")
    # The outermost values are as often wrong landmarks as wide mouths.
    trimmed = by_opening[len(frames) // 50 : len(frames) - len(frames) // 50]
    groups = np.array_split(trimmed, REFERENCE_COUNT)
    shortlists = []
    for number, group in enumerate(groups):
        group = group if len(group) else by_opening
        target = np.quantile(opening[trimmed], number / (REFERENCE_COUNT - 1))
        # Prefer openings near the group's target among the more frontal half of the group.
        frontal = group[facing[group] >= np.median(facing[group])]
        nearest = frontal[np.argsort(np.abs(opening[frontal] - target), kind="stable")]
        shortlists.append([int(frames[i]) for i in nearest[:CANDIDATES_PER_REFERENCE]])
    wanted = sorted({frame for shortlist in shortlists for frame in shortlist})
    measured = dict(zip(wanted, sharpness(wanted), strict=True))
    return [max(shortlist, key=lambda frame: (measured[frame], -frame)) for shortlist in shortlists]
