"""Hostile and damaged checkpoints: one line, before anything is loaded."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from utils.checkpoints import read_checkpoint
from utils.errors import UserError
from utils.pickle_check import HostileFileError, check_torch_file

WEIGHT = torch.arange(6.0).reshape(2, 3)


def save(path: Path, content, **options) -> Path:
    torch.save(content, path, **options)
    return path


def repack(path: Path, pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a checkpoint's zip again, with another pickle or compressed."""
    with zipfile.ZipFile(path) as archive:
        parts = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts:
            archive.writestr(name, pickled if pickled is not None and name.endswith("data.pkl") else data)
    return path


def zip_with_pickle(path: Path, pickled: bytes) -> Path:
    return repack(save(path, {"state_dict": {"net_g": {"w": WEIGHT}}}), pickled)


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("legacy", [False, True])
def test_what_torch_saves_is_let_through(tmp_path, legacy):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    everything = {
        "state_dict": {"net_g": module.state_dict()},
        "optimizer": {"net_g": optimizer.state_dict()},
        "parameters": list(module.parameters()),
        "plain": [1, -(2**40), 2.5, "text", None, True, (1, 2), {"a": {"b": []}}, {3, 4}],
        "kinds": [torch.ones(2, dtype=kind) for kind in (torch.half, torch.bfloat16, torch.uint8, torch.bool)],
        "empty": torch.zeros(0, 3),
        "views": [WEIGHT[1], WEIGHT.T],
    }
    check_torch_file(save(tmp_path / "a.pth", everything, _use_new_zipfile_serialization=not legacy))


def deep_list() -> list:
    value = []
    for _ in range(100):
        value = [value]
    return value


def holding_itself() -> dict:
    value = {"state_dict": {"net_g": {"w": WEIGHT}}}
    value["self"] = value
    return value


HOSTILE = {
    "a call": lambda: {"x": Call(print, "run")},
    "bytearray": lambda: {"x": Call(bytearray, 10**12)},
    "numpy": lambda: {"x": np.float64(1)},
    "a class": lambda: {"x": Path("a")},
    "a device": lambda: {"x": torch.device("cpu")},
    "sparse": lambda: {"x": torch.eye(3).to_sparse()},
    "meta": lambda: {"x": torch.empty(10**6, device="meta")},
    "quantized": lambda: {"x": torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8)},
    "stride 0": lambda: {"x": torch.ones(1).expand(10**9)},
    "deep": deep_list,
    "holding itself": holding_itself,
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_plain_value_is_refused_before_it_is_loaded(tmp_path, monkeypatch, kind, legacy):
    path = save(tmp_path / "a.pth", HOSTILE[kind](), _use_new_zipfile_serialization=not legacy)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UserError) as caught:
        read_checkpoint(path, "--weights")
    assert str(caught.value).startswith(f"--weights: {path} ") and ";" in str(caught.value)


def claim(count: int, size: tuple, stride: tuple, offset: int = 0, legacy_path: Path | None = None) -> bytes:
    """A pickle of one tensor that claims `count` numbers in its storage."""
    out = io.BytesIO()
    pickler = pickle._Pickler(out, 2)

    class Rebuilt:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, stride, False, {})

    class Storage:
        pass

    pickler.persistent_id = lambda thing: (
        ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(thing, Storage) else None
    )
    pickler.dump({"state_dict": {"net_g": {"w": Rebuilt()}}})
    return out.getvalue()


@pytest.mark.parametrize(
    ("count", "size", "stride", "offset"),
    [
        (10**12, (10**12,), (1,), 0),
        (7, (7,), (1,), 0),  # the file holds six
        (6, (7,), (1,), 0),
        (6, (2, 3), (4, 1), 0),
        (6, (6,), (1,), 1),
        (6, (-1,), (1,), 0),
        (-1, (1,), (1,), 0),
        (6, (10**6, 10**6, 10**6, 10**6), (0, 0, 0, 0), 0),
    ],
)
def test_a_tensor_that_claims_more_than_the_file_holds(tmp_path, monkeypatch, count, size, stride, offset):
    path = zip_with_pickle(tmp_path / "a.pth", claim(count, size, stride, offset))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UserError, match=r"claims more numbers|damaged one"):
        read_checkpoint(path, "--weights")


def test_the_largest_claim_that_is_true(tmp_path):
    path = zip_with_pickle(tmp_path / "a.pth", claim(6, (2, 3), (3, 1)))
    check_torch_file(path)
    assert read_checkpoint(path, "--weights").networks["net_g"]["w"].shape == (2, 3)


def test_a_pickle_that_inflates(tmp_path):
    path = repack(save(tmp_path / "a.pth", {"x": "a" * 10**7}), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    with pytest.raises(HostileFileError, match="compressed"):
        check_torch_file(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo of 2^31 entries
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",  # a bytearray of 1 TiB
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
        b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        b"\x80\x02cos\nsystem\n(X\x04\x00\x00\x00truetR.",
        b"\x80\x02" + b"(" * 10**5,
        b"\x80\x02K\x01K\x02b.",
        b"\x80\x02Q.",
        b"",
        b"\x80\x02.",
        b"I" + b"9" * 10**6 + b"\n.",
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_odd_pickles(tmp_path, pickled, legacy):
    path = tmp_path / "a.pth"
    if legacy:
        path.write_bytes(pickle.dumps(1, 2) * 3 + pickled)
    else:
        zip_with_pickle(path, pickled)
    with pytest.raises(HostileFileError):
        check_torch_file(path)


def test_a_file_cut_anywhere_or_with_a_flipped_bit_is_one_line(tmp_path):
    whole = save(tmp_path / "a.pth", {"state_dict": {"net_g": {"w": WEIGHT}}}).read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "b.pth"
    for _ in range(150):
        data = bytearray(whole)
        if random.random() < 0.4:
            data = data[: random.integers(1, len(data))]
        else:
            data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(data)
        try:
            read_checkpoint(path, "--weights")  # a flipped weight is no error
        except UserError as error:
            assert str(error).startswith(f"--weights: {path} ")


METADATA = {
    "mouth_region_size": ["64", [64], 64.0, -64, 0, 4096, 10**9, True, {"a": 1}],
    "feature_channel": [10**5, "foo", 0, -4, 2.5],
    "audio_channel": [10**9, "80", 0],
    "audio_rows_per_frame": [0, -1, 10**9, "4"],
    "max_audio_norm": ["3", -1.0, 0, float("nan"), float("inf"), [1.0]],
    "audio_feature": ["unknown", 3, ["mel"], "x" * 10**5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in METADATA for value in METADATA[name]])
def test_metadata_of_a_wrong_type_or_size(tmp_path, name, value):
    content = {"state_dict": {"net_g": {"w": WEIGHT}}, "dinet": {"metadata": {name: value}}}
    with pytest.raises(UserError, match=f"records {name} ") as caught:
        read_checkpoint(save(tmp_path / "a.pth", content), "--weights")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("content", [{3: {"w": WEIGHT}}, {"net_g": {3: WEIGHT}}, {"net_g": {("a", 1): WEIGHT}}])
def test_names_that_are_no_text(tmp_path, content):
    with pytest.raises(UserError, match="something else than text"):
        read_checkpoint(save(tmp_path / "a.pth", {"state_dict": content}), "--weights")


@pytest.mark.parametrize("content", [{"epoch": "x"}, {"epoch": 10**30}, {"optimizer": 3}, {"dinet": [1]}])
def test_other_entries_of_a_wrong_type_are_left_out(tmp_path, content):
    checkpoint = read_checkpoint(save(tmp_path / "a.pth", {"state_dict": {"net_g": {"w": WEIGHT}}} | content), "--w")
    assert (checkpoint.epoch, checkpoint.optimizers, checkpoint.extra) == (None, {}, {})


def test_a_changed_bit_among_the_numbers_is_found_where_the_whole_file_is_to_be_checked(tmp_path):
    path = save(tmp_path / "flipped.pth", {"state_dict": {"net_g": {"w": WEIGHT}}})
    data = bytearray(path.read_bytes())
    data[data.index(WEIGHT.numpy().tobytes()) + 5] ^= 1
    path.write_bytes(data)
    assert check_torch_file(path)
    with pytest.raises(HostileFileError, match="damaged one; copy or download it again"):
        check_torch_file(path, whole=True)
