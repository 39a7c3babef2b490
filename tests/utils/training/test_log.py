"""The training log."""

import importlib.util
import json

import pytest

from utils.training.log import TrainingLog


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed")
def test_without_tensorboard_the_log_goes_on(tmp_path, caplog):
    log = TrainingLog(tmp_path, 0, tensorboard=True)
    log.write("train", 1, {"loss": 0.5})
    log.close()
    assert "not installed" in caplog.text
    assert json.loads((tmp_path / "log.jsonl").read_text())["loss"] == 0.5


def test_a_resumed_log_forgets_what_was_not_kept(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"kind": "train", "step": 1}\n{"kind": "train", "step": 2}\n{"kind": "tra')
    log = TrainingLog(tmp_path, 1)
    log.write("train", 2, {"again": True})
    log.close()
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2] and records[1]["again"]
