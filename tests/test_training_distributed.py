"""Two processes that share each batch train as one process does with the whole batch."""

import json
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from helpers.distributed_training import MOUTH, STAGES, train, train_in_process
from helpers.training_data import run_script, train_here, write_perceptual_weights, write_training_set

from utils.checkpoints import read_checkpoint
from utils.distributed import DistInfo


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def joined(state: dict[str, torch.Tensor], statistics: bool) -> torch.Tensor:
    """All running statistics of a network, or all else, as one vector."""
    return torch.cat([value.flatten().double() for key, value in state.items() if ("running" in key) == statistics])


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    """Folder with what two processes made of each stage."""
    folder = tmp_path_factory.mktemp("shared")
    torch.multiprocessing.spawn(train_in_process, (free_port(), folder), nprocs=2)
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_take_the_steps_of_one(stage, shared):
    state, records = train(stage, DistInfo(), torch.device("cpu"))
    for rank in range(2):
        shared_state, shared_records = torch.load(shared / f"{stage}_{rank}.pth")
        for record, shared_record in zip(records, shared_records, strict=True):
            assert record == pytest.approx(shared_record, rel=1e-7)
        for name, network in state.items():
            for statistics in {False, any("running" in key for key in network)}:
                own, other = joined(network, statistics), joined(shared_state[name], statistics)
                assert (own - other).norm() <= 1e-7 * own.norm(), (name, statistics)


def test_torchrun_starts_a_script_in_two_processes(tmp_path):
    options = (
        "train_DINet_frame.py", "--train_data", write_training_set(tmp_path / "set"),
        "--perceptual_weights", write_perceptual_weights(tmp_path / "vgg.pth"), "--mouth_region_size", MOUTH,
        "--D_num_blocks", 3, "--D_block_expansion", 8, "--augment_num", 1, "--batch_size", 2, "--max_steps", 1,
        "--val_data", tmp_path / "set/training_json.json", "--val_samples", 3, "--checkpoint", 1, "--num_workers", 0,
    )  # fmt: skip
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2)
    run_script(*torchrun, *options, "--result_path", tmp_path / "two")
    train_here(*options, "--result_path", tmp_path / "one")
    one, two = (read_checkpoint(tmp_path / name / "netG_model_epoch_1.pth", "--x") for name in ("one", "two"))
    assert one.extra["position"] == two.extra["position"]
    for key in ("source_in_conv.0.norm.running_mean", "source_in_conv.0.norm.running_var"):
        assert torch.allclose(one.networks["net_g"][key], two.networks["net_g"][key], rtol=1e-4, atol=1e-6), key
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    records = [[json.loads(line) for line in log] for log in logs]
    assert [record["kind"] for record in records[1]] == ["start", "train", "checkpoint", "validation"]
    for name in ("dI", "perception"):
        assert records[0][1][name] == pytest.approx(records[1][1][name], rel=1e-3)
    for name in ("perception", "mouth_l1_of_mean_reference"):
        assert records[0][3][name] == pytest.approx(records[1][3][name], rel=1e-2)
