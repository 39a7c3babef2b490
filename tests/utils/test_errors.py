import pickle

import pytest

from utils.errors import UserError, blame, require_file


class SpecialError(UserError):
    pass


def test_blame_names_the_option_and_keeps_the_type():
    message = r"^--clips: a\.mp4 is empty; give another one$"
    with pytest.raises(SpecialError, match=message), blame("--clips", "give another one"):
        raise SpecialError("a.mp4 is empty")


def test_the_innermost_option_is_named_once():
    with pytest.raises(UserError, match=r"^--inner: no face$"), blame("--outer", "hint of the outer"), blame("--inner"):
        raise UserError("no face")


def test_blame_leaves_other_errors_and_successes_alone():
    with blame("--clips"):
        pass
    with pytest.raises(ValueError, match=r"^a bug$"), blame("--clips"):
        raise ValueError("a bug")


def test_a_blamed_error_comes_back_from_another_process_as_it_is():
    with pytest.raises(UserError) as error, blame("--clips"):
        raise UserError("a.mp4 is empty")
    assert str(pickle.loads(pickle.dumps(error.value))) == "--clips: a.mp4 is empty"


def test_a_missing_file_is_named_with_and_without_its_option(tmp_path):
    path = tmp_path / "none.mp4"
    for option, start in ((None, f"{path} does not exist"), ("--clips", f"--clips: {path} does not exist")):
        with pytest.raises(UserError) as error:
            require_file(path, option, "give a video")
        assert str(error.value) == f"{start}; give a video"
