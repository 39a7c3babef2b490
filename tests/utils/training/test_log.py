"""The training log."""

import importlib.util
import json

import numpy as np
import pytest

from utils.training.log import TrainingLog


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_without_tensorboard_the_log_goes_on(tmp_path, caplog):
    log = TrainingLog(tmp_path, 0, tensorboard=True)
    log.write("train", 1, {"loss": 0.5})
    log.close()
    assert "not installed" in caplog.text
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 0.5


def test_a_log_that_is_not_enabled_writes_and_removes_nothing(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "train", "step": 2}\n')
    log = TrainingLog(tmp_path, 1, tensorboard=True, enabled=False)
    log.write("train", 1, {"loss": 0.5})
    log.image("pictures/train", 1, np.zeros((2, 2, 3), np.uint8))
    log.close()
    assert not log.last_kinds and path.read_text() == '{"kind": "train", "step": 2}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_resumed_log_forgets_what_was_not_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "train", "step": 2}\n{"kind": "tra')
    log = TrainingLog(tmp_path, 1)
    log.write("train", 2, {"again": True})
    log.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2] and records[1]["again"]


def test_a_resumed_log_knows_what_was_written_at_its_step(tmp_path):
    log = TrainingLog(tmp_path, 0)
    assert not log.last_kinds
    log.write("checkpoint", 4, {"path": "a"})
    log.write("validation", 4, {"epoch": 1})
    log.write("checkpoint", 8, {"path": "b"})
    log.close()
    found = {}
    for step in (8, 6, 4):  # from the last step on: each removes what comes later
        log = TrainingLog(tmp_path, step)
        found[step] = log.last_kinds
        log.close()
    assert found == {8: {"checkpoint"}, 6: set(), 4: {"checkpoint", "validation"}}
