"""The bank of a person's own lips."""

import numpy as np
import pytest
from helpers.lip_patches import HEIGHT, WIDTH, darkness, lip_patch

from utils.dubbing.lip_detail import LipBank, LipFrame


def entry(opening: float) -> LipFrame:
    details = [np.full((HEIGHT, WIDTH, channels), opening, np.float32) for channels in (1, 2)]
    return LipFrame(float(opening), lip_patch(opening), details, [(0, 0), (0, 0)], np.eye(2, 3))


def bank(openings: np.ndarray) -> LipBank:
    return LipBank([entry(opening) for opening in openings])


def test_the_entry_with_the_same_opening_is_found_whatever_the_light():
    found = bank(np.arange(12.0)).match(lip_patch(7.0, level=90.0))
    assert found.entry.opening == 7
    assert np.median(found.trust[10:30, 12:40]) > 0.9


def test_spots_that_agree_by_chance_among_others_are_not_trusted():
    lookup = bank(np.arange(12.0))
    tiles = np.add.outer(np.arange(HEIGHT) // 5, np.arange(WIDTH) // 5) % 2  # every other tile differs
    odd = lip_patch(7.0) + 60 * (tiles[..., None] * (1, 0, 0)).astype(np.float32)
    assert lookup.match(odd).trust.max() < 0.75


def test_a_choice_stays_until_another_is_clearly_nearer_and_a_cut_ends_that():
    lookup = bank(np.arange(12.0))

    def afresh(opening: float) -> float:
        lookup.reset()
        return lookup.match(lip_patch(opening)).entry.opening

    barely_six = next(opening for opening in np.arange(5.0, 6.0, 0.005) if afresh(opening) == 6)
    assert afresh(5.0) == 5
    assert lookup.match(lip_patch(barely_six)).entry.opening == 5
    assert afresh(barely_six) == 6


def test_lips_close_as_far_as_the_source_shows():
    lookup = bank(np.linspace(1, 11, 24))
    assert darkness(lookup.close(lip_patch(9), 1.0)) == pytest.approx(darkness(lip_patch(1.2)), rel=0.15)
    half = darkness(lookup.close(lip_patch(9), 0.5))
    assert darkness(lip_patch(1)) < half < darkness(lip_patch(9))
    assert np.array_equal(lookup.close(lip_patch(9), 0.0), lip_patch(9))


def test_lips_close_in_the_light_of_the_frame():
    lookup = bank(np.linspace(1, 11, 24))
    bluish = lip_patch(9) + np.array([-20, 12, -10], np.float32)
    closed = lookup.close(bluish, 1.0)
    skin = closed[30:, 20:32].reshape(-1, 3).mean(0)  # below the lips
    assert skin == pytest.approx(bluish[30:, 20:32].reshape(-1, 3).mean(0), abs=3)
