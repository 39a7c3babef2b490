"""The bank of a person's own lips."""

import numpy as np
import pytest

from utils.dubbing.lip_detail import LipBank, LipFrame, LipMatch

HEIGHT, WIDTH = 44, 52


def shape(opening: float) -> np.ndarray:
    """What the mouth reader would predict: opening and width."""
    return np.array([opening, 14.0], np.float32)


def lips(opening: float, level: float = 120.0) -> np.ndarray:
    """A lip patch: a dark ellipse on skin, `opening` cells high."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    inside = ((x - 26) / 14) ** 2 + ((y - 19) / (1 + opening)) ** 2
    luma = level - 80 / (1 + np.exp(np.minimum(8 * (inside - 1), 50)))
    return np.dstack([luma, np.full_like(luma, -8), np.full_like(luma, 20)]).astype(np.float32)


FRONTAL = np.zeros(2)


def entry(opening: float, pose: np.ndarray = FRONTAL) -> LipFrame:
    details = [np.full((HEIGHT, WIDTH, channels), opening, np.float32) for channels in (1, 2)]
    origins = [(0, 0), (0, 0)]
    return LipFrame(float(opening), shape(opening), pose, lips(opening), details, origins, np.eye(2, 3))


def bank(openings: np.ndarray) -> LipBank:
    return LipBank([entry(opening) for opening in openings])


def match(
    lookup: LipBank,
    patch: np.ndarray,
    opening: float,
    pose: np.ndarray = FRONTAL,
    closed: float = 0.0,
    source: np.ndarray | None = None,
) -> LipMatch:
    """What is found for `patch`, in a frame of the same light unless the `source` is given."""
    source = lips(4.0) if source is None else source
    return lookup.match(patch, source, shape(opening), pose, closed)


def fit(lookup: LipBank, real: list[float], generated: list[float], blots: np.ndarray | None = None) -> None:
    """Fit a bank on lips of these openings, the generated ones with additional `blots`."""
    made = np.stack([lips(opening) for opening in generated])
    made = made if blots is None else made + blots
    lookup.fit(np.stack([lips(opening) for opening in real]), made, np.stack([shape(o) for o in generated]))


def replaced(
    lookup: LipBank, patch: np.ndarray, opening: float, closed: float = 0.0, source: np.ndarray | None = None
) -> np.ndarray:
    lookup.reset()
    return lookup.replace(patch, match(lookup, patch, opening, closed=closed, source=source), closed)


def darkness(patch: np.ndarray) -> float:
    return float((lips(0)[..., 0] - patch[..., 0]).clip(0).sum())


def test_the_entry_with_the_same_opening_is_found_whatever_the_light():
    found = match(bank(np.arange(12.0)), lips(7.0, level=90.0), 7.0)
    assert found.entry.opening == 7
    assert np.median(found.trust[10:30, 12:40]) > 0.9


def test_spots_that_agree_by_chance_among_others_are_not_trusted():
    lookup = bank(np.arange(12.0))
    tiles = np.add.outer(np.arange(HEIGHT) // 5, np.arange(WIDTH) // 5) % 2  # every other tile differs
    odd = lips(7.0) + 60 * (tiles[..., None] * (1, 0, 0)).astype(np.float32)
    assert match(lookup, odd, 7.0).trust.max() < 0.75


def test_a_choice_stays_until_another_is_clearly_nearer_and_a_cut_ends_that():
    lookup = bank(np.arange(12.0))

    def afresh(opening: float) -> float:
        lookup.reset()
        return match(lookup, lips(opening), opening).entry.opening

    barely_six = next(opening for opening in np.arange(5.0, 6.0, 0.005) if afresh(opening) == 6)
    assert afresh(5.0) == 5
    assert match(lookup, lips(barely_six), barely_six).entry.opening == 5
    assert afresh(barely_six) == 6


def test_lips_are_matched_with_the_motion_of_real_ones():
    lookup = bank(np.linspace(0, 11, 24))
    openings = np.linspace(0, 10, 16)
    fit(lookup, openings, 3 + 0.4 * openings)
    low, high = (match(lookup, lips(opening), opening).entry.opening for opening in (3.4, 6.6))
    assert high - low > 1.4 * (6.6 - 3.4)


@pytest.mark.parametrize(("motion", "least", "most"), [(1.0, 0.95, 1.05), (0.4, 1.4, 4)])
def test_lips_that_move_too_little_are_moved_further(motion, least, most):
    lookup = bank(np.linspace(0, 11, 48))
    openings = np.linspace(0, 10, 16)
    fit(lookup, openings, 5 + motion * (openings - 5))
    low, high = (darkness(replaced(lookup, lips(opening), opening)) for opening in (4.0, 6.0))
    assert least < (high - low) / (darkness(lips(6.0)) - darkness(lips(4.0))) < most


def test_poor_lips_are_replaced_by_real_ones_of_the_opening_that_they_ask_for():
    lookup = bank(np.linspace(0, 11, 48))
    openings = np.linspace(0, 10, 16)
    noise = np.random.default_rng(0).normal(0, 15, (17, HEIGHT, WIDTH, 3)).astype(np.float32)
    fit(lookup, openings, openings, noise[1:])
    for opening in (2.0, 5.0, 8.0):
        smudged = lips(opening) + noise[0]
        found = replaced(lookup, smudged, opening)
        mouth = np.s_[12:28, 16:36]
        left = np.abs(found - lips(opening))[mouth].mean() / np.abs(smudged - lips(opening))[mouth].mean()
        assert left < 0.4


def test_good_lips_are_not_replaced():
    lookup = bank(np.linspace(0, 11, 48))
    openings = np.linspace(0, 10, 16)
    fit(lookup, openings, openings)
    blot = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    blot[17:21, 23:29, 0] = 20
    assert replaced(lookup, lips(5) + blot, 5.0) == pytest.approx(lips(5) + blot, abs=1)


def test_a_source_that_hardly_talks_does_not_hold_the_lips():
    lookup = bank(np.linspace(1, 1.2, 24))
    blots = np.random.default_rng(0).normal(0, 3, (16, HEIGHT, WIDTH, 3)).astype(np.float32)
    fit(lookup, np.linspace(1, 1.2, 16), np.linspace(1, 1.2, 16), blots)
    held = np.abs(replaced(lookup, lips(4.0), 4.0) - lips(4.0))[12:28, 16:36].mean()
    assert held < 0.6 * np.abs(lips(1.2) - lips(4.0))[12:28, 16:36].mean()


def poor_bank(entries: list[LipFrame]) -> LipBank:
    """A bank whose lips replace the generated ones wholly."""
    lookup = LipBank(entries)
    openings = np.linspace(0, 10, 16)
    fit(lookup, openings, openings, np.random.default_rng(0).normal(0, 15, (16, HEIGHT, WIDTH, 3)).astype(np.float32))
    assert lookup.need == 1
    return lookup


def test_real_lips_have_the_light_of_the_frame_and_their_own_colour():
    lookup = poor_bank([entry(opening) for opening in np.linspace(0, 11, 48)])
    light = np.array([-30, 5, -5], np.float32)
    grey = lips(5.0)
    grey[..., 1:] = 0  # the network's picture has lost its colour
    found = replaced(lookup, grey, 5.0, source=lips(2.0) + light)
    difference = np.abs(found - lips(5.0) - light)[12:28, 16:36]
    assert np.median(difference[..., 0]) < 4
    assert difference[..., 1:].max() < 4


def test_background_beside_a_turned_head_is_no_light():
    lookup = poor_bank([entry(opening) for opening in np.linspace(0, 11, 48)])
    source = lips(2.0)
    source[:, :12] = (240, 0, 0)
    found = replaced(lookup, lips(5.0), 5.0, source=source)
    assert found[10:30, 16:40] == pytest.approx(replaced(lookup, lips(5.0), 5.0)[10:30, 16:40], abs=3)


def test_entries_of_a_head_that_is_turned_likewise_are_taken():
    turned = np.array([3.0, 0.0])
    entries = [entry(opening, pose) for opening in np.linspace(0, 11, 24) for pose in (FRONTAL, turned)]
    lookup = poor_bank(entries)
    for pose in (FRONTAL, turned):
        for opening in (3.0, 5.0, 8.0):
            assert match(lookup, lips(opening), opening, pose).entry.pose is pose


def test_lips_of_a_portrait_do_not_hold_the_generated_ones():
    lookup = bank(np.full(24, 4.0) + 0.01 * np.arange(24))
    fit(lookup, 4.0 + 0.01 * np.arange(16), np.arange(16) / 2)
    for opening in (0.0, 4.0, 7.0):
        assert replaced(lookup, lips(opening), opening) == pytest.approx(lips(opening), abs=0.5)


def test_lips_close_as_far_as_the_source_shows():
    lookup = bank(np.linspace(1, 11, 24))
    assert darkness(replaced(lookup, lips(9), 9.0, closed=1.0)) == pytest.approx(darkness(lips(1.2)), rel=0.15)
    half = darkness(replaced(lookup, lips(9), 9.0, closed=0.5))
    assert darkness(lips(1)) < half < darkness(lips(9))


def test_lips_close_in_the_light_of_the_frame():
    lookup = bank(np.linspace(1, 11, 24))
    bluish = lips(9) + np.array([-20, 12, -10], np.float32)
    closed = replaced(lookup, bluish, 9.0, closed=1.0)
    skin = closed[30:, 20:32].reshape(-1, 3).mean(0)  # below the lips
    assert skin == pytest.approx(bluish[30:, 20:32].reshape(-1, 3).mean(0), abs=3)
