"""Seeded damage to files and options: what comes from the internet, a broken disk or a hostile hand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ODD_TOKENS = (
    "", "NaN", "inf", "-inf", "-1", "0", "1e30", "1e400", "9" * 30, "9" * 5000, "x", "\0", "é", "null", "true", "[]",
    "{}", "..", ".", "/", "/dev/zero", "a" * 300, '"', "'", ",", "\n", "\ud800", "0x10", "1_000", " ", "-0.0",
    "http://127.0.0.1/a",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 5, 2**31, 2**63, 10**30, 0.5, -1.0, 1e300, "", "x", "foo" * 1000,
    "/", ".", "..", "a\0b",
    [], {}, [None], {"a": 1}, [[[[]]]], "64", "/dev/zero", "\ud800",
)  # fmt: skip
ODD_KEYS = ("more", "", "x" * 300, 3, None, 2.5, (1, 2))
_ODD_INTEGERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
ODD_NUMBERS = (
    "0",
    "-1",
    "1",
    "nan",
    "inf",
    "-inf",
    "1e9",
    "1e100000000",
    "9" * 30,
    "0.5",
    "x",
    "",
    "1/0",
    "64 ",
    "٣",
    "1e-9",
)


def damage_bytes(data: bytes, random: np.random.Generator) -> bytes:
    """Flip bits, write odd integers, cut, insert, repeat or exchange parts: one to eight times."""
    data = bytearray(data)
    for _ in range(random.integers(1, 9)):
        if not data:
            break
        # Headers lie at the beginning and at the end of most files.
        place = random.choice(["start", "end", "any"])
        span = min(len(data), 512)
        low = {"start": 0, "end": len(data) - span, "any": 0}[place]
        position = int(random.integers(low, low + (len(data) if place == "any" else span)))
        kind = random.integers(7)
        if kind == 0:
            data[position] ^= 1 << int(random.integers(8))
        elif kind == 1:
            size = int(random.choice([1, 2, 4, 8]))
            number = int(random.choice(_ODD_INTEGERS)) & (256**size - 1)
            data[position : position + size] = number.to_bytes(size, str(random.choice(["little", "big"])))
        elif kind == 2:
            del data[position:]
        elif kind == 3:
            data[position:position] = random.bytes(int(random.integers(1, 200)))
        elif kind == 4:
            end = position + int(random.integers(1, 2000))
            data[position:position] = data[position:end]
        elif kind == 5:
            del data[position : position + int(random.integers(1, 2000))]
        else:
            data[position : position + 16] = random.bytes(16)
    return bytes(data)


def damage_text(text: str, random: np.random.Generator) -> bytes:
    """Replace cells, repeat or drop lines, or damage the bytes."""
    if random.random() < 0.2:
        return damage_bytes(text.encode(), random)
    lines = text.splitlines()
    for _ in range(random.integers(1, 6)):
        if not lines:
            break
        row = int(random.integers(len(lines)))
        kind = random.integers(5)
        if kind == 0:
            del lines[row]
        elif kind == 1:
            lines.insert(row, lines[row])
        else:
            cells = lines[row].split(",")
            column = int(random.integers(len(cells)))
            cells[column] = str(random.choice(ODD_TOKENS))
            lines[row] = ",".join(cells)
    return "\n".join(lines).encode(errors="surrogatepass")


def damage_tree(tree: Any, random: np.random.Generator, odd: tuple = ODD_VALUES) -> Any:
    """Replace, remove or add one to three entries of nested lists and dicts."""
    for _ in range(random.integers(1, 4)):
        places: list[tuple[Any, Any]] = []
        _collect(tree, places)
        if not places:
            break
        holder, key = places[int(random.integers(len(places)))]
        kind = random.integers(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            name = ODD_KEYS[int(random.integers(len(ODD_KEYS)))]
            holder[name] = holder[key]
        else:
            holder[key] = odd[int(random.integers(len(odd)))]
    return tree


def _collect(tree: Any, places: list) -> None:
    if isinstance(tree, dict | list):
        for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
            places.append((tree, key))
            _collect(tree[key], places)


def damage_json(text: str, random: np.random.Generator) -> bytes:
    """Change the values of a JSON file, or its bytes."""
    if random.random() < 0.25:
        return damage_bytes(text.encode(), random)
    if random.random() < 0.05:
        return b"[" * 100_000
    tree = damage_tree(json.loads(text), random)
    keep = json.dumps(tree, default=str, skipkeys=True)
    # Written as the project writes it, a video a line, or all in one line.
    if random.random() < 0.5 and isinstance(tree, dict):
        rows = ",\n".join(f"{json.dumps(str(key))}: {json.dumps(value, skipkeys=True)}" for key, value in tree.items())
        keep = "{\n" + rows + "\n}\n"
    return keep.encode()


def damage_checkpoint(path: Path, random: np.random.Generator) -> None:
    """Change what a checkpoint holds, or its bytes."""
    if random.random() < 0.5:
        path.write_bytes(damage_bytes(path.read_bytes(), random))
        return
    import torch

    content = torch.load(path, weights_only=True)
    tensor = torch.ones(3)
    odd = (*ODD_VALUES, tensor, tensor.long(), torch.zeros(0), torch.full((3,), float("nan")), (1, 2), {3: tensor},
           torch.ones(1).expand(10**8), tensor.to(torch.complex64), torch.eye(3).to_sparse())  # fmt: skip
    content = damage_tree(content, random, odd)
    try:
        torch.save(content, path, _use_new_zipfile_serialization=bool(random.random() < 0.7))
    except Exception:  # not everything odd can be saved
        path.write_bytes(damage_bytes(path.read_bytes() or b"x", random))


def damage_file(path: Path, random: np.random.Generator) -> None:
    """Damage a file as suits its kind, or put something else in its place."""
    if random.random() < 0.1:
        put_something_else(path, random)
    elif path.suffix == ".pth":
        damage_checkpoint(path, random)
    elif path.suffix in (".json", ".jsonl"):
        text = path.read_text()
        path.write_bytes(damage_json(text, random) if path.suffix == ".json" else damage_text(text, random))
    elif path.suffix == ".csv":
        path.write_bytes(damage_text(path.read_text(), random))
    else:
        path.write_bytes(damage_bytes(path.read_bytes(), random))


def put_something_else(path: Path, random: np.random.Generator) -> None:
    """Replace a file by what is no such file: nothing, a folder, a pipe, a loop, another kind, a playlist."""
    import os

    content = path.read_bytes()
    path.unlink()
    secret = path.parent / "secret.mp4"
    choices: list[Callable[[], Any]] = [
        lambda: None,
        lambda: path.mkdir(),
        lambda: os.mkfifo(path),
        lambda: path.symlink_to(path.name),
        lambda: path.touch(),
        lambda: path.write_bytes(random.bytes(5000)),
        lambda: path.write_text("this is a text\n" * 20),
        lambda: path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{secret}\n#EXT-X-ENDLIST\n"),
        lambda: path.write_text(f"ffconcat version 1.0\nfile {secret.name}\n"),
        lambda: path.write_bytes(content * 3),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.write_bytes(b"\0" * 100_000),
    ]
    choices[int(random.integers(len(choices)))]()
