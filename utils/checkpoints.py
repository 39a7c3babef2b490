"""Checkpoint files: read, checked, loaded into networks, written.

Published layout: {epoch, state_dict: {net_g, net_dI[, net_dV]}, optimizer: {the same names}} with the prefix `module.`
on every parameter, and {state_dict: {net}} without a prefix for a SyncNet. Ours is the same with one more entry,
`dinet`, so that tools for the published layout read our files. Both are read with or without the prefix.

A `.safetensors` file holds weights alone: tensors `net_g.PARAMETER` without prefix, and in its header the metadata.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any

import torch

from utils.errors import UserError, require_file
from utils.files import atomic_path
from utils.pickle_check import read_torch_file

SYNCNET = "net"
"""Name of the SyncNet in its checkpoint; those of DINet are net_g, net_dI and net_dV."""
AUDIO_ENCODER = "net_a"
"""Name of the network that predicts the lip shape from audio."""
LIP_REGRESSOR = "net_m"
"""Name of the network that predicts the lip shape from a mouth image."""
WHISPER_ENCODER = "net_w"
"""Name of the encoder of Whisper."""
EMA_SUFFIX = "_ema"
"""Appended to the name of a network whose weights are an exponential moving average: net_g_ema."""
SAFETENSORS = ".safetensors"
"""Ending of the files that are read and written as safetensors."""
_OWN_ENTRY = "dinet"
_PREFIX = "module."
_WRAPPERS = (_PREFIX, "_orig_mod.")  # of distributed training and of torch.compile
_TITLES = {
    "net_g": "a DINet generator",
    "net_dI": "a frame discriminator",
    "net_dV": "a clip discriminator",
    AUDIO_ENCODER: "an audio encoder",
    LIP_REGRESSOR: "a lip shape regressor",
    WHISPER_ENCODER: "a Whisper encoder",
    SYNCNET: "a SyncNet",
}
_OPTIONS = {  # first part of a parameter's name -> the options that its shape depends on
    "source_in_conv": "--source_channel",
    "ref_in_conv": "--ref_channel",
    "trans_conv": "--feature_channel",
    "audio_encoder": "--audio_channel and --audio_feature",
    "down_blocks": "--D_num_blocks, --D_block_expansion and --D_max_features",
}

_AUDIO_FEATURES = ("deepspeech", "mel", "whisper")
_BOUNDS = {  # of the numbers in Metadata: beyond them, networks would not fit into memory
    "mouth_region_size": (16, 1024),
    "audio_channel": (1, 4096),
    "audio_rows_per_frame": (1, 100),
    "feature_channel": (4, 2048),
}
_MAX_EPOCH = 10**9

StateDict = Mapping[str, Any]


@dataclass(frozen=True)
class Metadata:
    """What the networks of a checkpoint were trained for; None where unknown, as in published files."""

    mouth_region_size: int | None = None
    """Side of the masked square, pixels."""
    audio_feature: str | None = None
    audio_channel: int | None = None
    """Numbers in one row of the audio feature."""
    audio_rows_per_frame: int | None = None
    """Rows in 40 ms."""
    feature_channel: int | None = None
    """Channels of the generator's feature maps."""
    max_audio_norm: float | None = None
    """Limit on the norm of the audio embedding in dubbing: a high quantile of those of the training speech, see
    utils/export/audio_norm.py; None: no limit."""


@dataclass(frozen=True)
class Checkpoint:
    """Contents of a checkpoint file, on the CPU, possibly mapped from the file (a private copy once changed)."""

    path: Path
    networks: dict[str, dict[str, torch.Tensor]]
    """State dicts by name (net_g, net_dI, net_dV, or net for a SyncNet), keys without prefix."""
    metadata: Metadata = field(default_factory=Metadata)
    optimizers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Optimizer state dicts by the name of their network."""
    epoch: int | None = None
    """First epoch still to be trained, N + 1 in the file of epoch N; None where not recorded."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Whatever else the training that wrote the file needs to go on."""

    def averaged(self, name: str) -> str:
        """Name of the moving average of the network `name`, which is better to use; `name` itself if there is none."""
        average = f"{name}{EMA_SUFFIX}"
        return average if average in self.networks else name

    def describe(self) -> str:
        """Say what kind of checkpoint it is."""
        if set(self.networks) == {SYNCNET}:
            return "a SyncNet checkpoint"
        kind = "a DINet checkpoint" if "net_g" in self.networks else "a checkpoint"
        return f"{kind} (of {', '.join(self.networks)})"


def _read_safetensors(path: Path, option: str, hint: str) -> dict[str, Any]:
    """Return what a safetensors file holds, in the layout of our `.pth` files; see read_torch_file."""
    from safetensors import SafetensorError, safe_open

    require_file(path, option, hint)
    networks: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            for key in file.keys():  # noqa: SIM118 (no mapping, and not iterable)
                name, _, parameter = key.partition(".")
                networks.setdefault(name, {})[parameter] = file.get_tensor(key)
    except SafetensorError as error:
        raise UserError(
            f"{option}: {path} is no safetensors file, or a damaged one ({error}); copy or download it again"
        ) from error
    if not set(networks) & set(_TITLES):
        holds = ", ".join(f"`{name}`" for name in list(networks)[:3]) or "nothing"
        raise UserError(f"{option}: {path} holds no network of DINet (net_g.*, net.*), but {holds}; name another file")
    recorded = {key: _plain(value) for key, value in header.items()}
    return {"state_dict": networks, "epoch": recorded.get("epoch"), _OWN_ENTRY: {"metadata": recorded}}


def _plain(text: str) -> Any:
    """The number or word that a safetensors header states: all its values are texts."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_checkpoint(path: str | Path, option: str, hint: str = "", whole: bool = False) -> Checkpoint:
    """Read a checkpoint in the published layout or ours, or a safetensors file of ours.

    The arguments are those of `read_torch_file`; safetensors files have no checksums.

    Raises:
        UserError: as `read_torch_file`, or the file holds no networks in that layout.
    """
    path = Path(path)
    if path.suffix.lower() == SAFETENSORS:
        content = _read_safetensors(path, option, hint)
    else:
        content = read_torch_file(path, option, hint, whole)
    networks = content.get("state_dict") if isinstance(content, dict) else None
    if not (isinstance(networks, dict) and networks and all(_is_state(state) for state in networks.values())):
        if isinstance(content, dict) and content:
            holds = "only " + ", ".join(f"`{key}`" for key in list(content)[:3]) + (", ..." if len(content) > 3 else "")
        else:
            holds = f"a {type(content).__name__}"
        raise UserError(
            f"{option}: {path} is no DINet or SyncNet checkpoint: it holds {holds} and no networks under `state_dict`; "
            "name a checkpoint of the training scripts or published weights"
        )
    problem = _state_problem(networks)
    if problem is not None:
        raise UserError(f"{option}: {path} {problem}; it is damaged or no checkpoint of DINet: take another one")
    own = _dict(content.get(_OWN_ENTRY))
    recorded = _dict(own.get("metadata"))
    epoch = content.get("epoch")
    return Checkpoint(
        path=path,
        networks={name: {_clean(key): value for key, value in state.items()} for name, state in networks.items()},
        metadata=_checked_metadata(recorded, f"{option}: {path}"),
        optimizers=_dict(content.get("optimizer")),
        epoch=epoch if type(epoch) is int and 0 <= epoch < _MAX_EPOCH else None,
        extra=_dict(own.get("extra")),
    )


def load_network(module: torch.nn.Module, checkpoint: Checkpoint, name: str, option: str) -> None:
    """Load the network `name` of a checkpoint into `module`, which keeps its device and precision.

    Raises:
        UserError: no such network in the checkpoint, or its parameters have other names or shapes.
    """
    check_fits(module, checkpoint, name, option)
    module.load_state_dict(checkpoint.networks[name])


def check_fits(module: torch.nn.Module, checkpoint: Checkpoint, name: str, option: str) -> None:
    """Check that the network `name` of a checkpoint fits `module`, which may be on the meta device.

    Raises:
        UserError: no such network in the checkpoint, or its parameters have other names or shapes.
    """
    prefix = f"{option}: {checkpoint.path}"
    state = checkpoint.networks.get(name)
    if state is None:
        needed = f"{_TITLES.get(name, 'a network')} ({name})"
        raise UserError(f"{prefix} is {checkpoint.describe()}, {needed} is needed; name another one")
    expected = module.state_dict()
    for problem, keys in (
        ("is missing", [key for key in expected if key not in state]),
        ("is unknown to this network", [key for key in state if key not in expected]),
    ):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(f"{prefix}: {name} does not fit: `{keys[0]}`{more} {problem}; {_advice(keys[0])}")
    for key, value in expected.items():
        if value.shape != state[key].shape:
            raise UserError(
                f"{prefix}: {name} does not fit: `{key}` is {list(state[key].shape)} in the file and "
                f"{list(value.shape)} is needed; {_advice(key)}"
            )


def load_part(part: torch.nn.Module, checkpoint: Checkpoint, name: str, prefix: str, option: str) -> None:
    """Load what the network `name` of a checkpoint has under `prefix` into `part`; see load_network."""
    state = checkpoint.networks.get(name)
    if state is not None:
        start = f"{prefix}."
        state = {key.removeprefix(start): value for key, value in state.items() if key.startswith(start)}
        checkpoint = replace(checkpoint, networks=checkpoint.networks | {name: state})
    load_network(part, checkpoint, name, option)


def write_checkpoint(
    path: str | Path,
    networks: Mapping[str, torch.nn.Module | StateDict],
    optimizers: Mapping[str, torch.optim.Optimizer | StateDict],
    epoch: int,
    metadata: Metadata,
    extra: StateDict | None = None,
) -> None:
    """Write a checkpoint in the published layout, with our own entry beside it.

    Args:
        path: file to write; folders are made. A file of that name stays as it is until the new one is complete.
        networks: modules or state dicts by name, wrapped for distributed training or compiled or not.
        optimizers: their optimizers or the state dicts of these, by the name of the network.
        epoch: first epoch still to be trained (N + 1 after epoch N).
        metadata: what the networks are for.
        extra: anything else; tensors, numbers, texts, None, and lists, tuples and dicts of these.

    Raises:
        UserError: the file cannot be written (full disk, permissions); an older file is left intact.
        TypeError: `extra` holds a value that could not be read back.
    """
    path = Path(path)
    content = {
        "epoch": epoch,
        "state_dict": {
            name: {("" if name == SYNCNET else _PREFIX) + _clean(key): value for key, value in _state(network).items()}
            for name, network in networks.items()
        },
        "optimizer": {name: _state(optimizer) for name, optimizer in optimizers.items()},
        _OWN_ENTRY: {"metadata": asdict(metadata), "extra": extra or {}},
    }
    content = _portable(content)
    _write(path, lambda file: torch.save(content, file))


def write_safetensors(path: str | Path, networks: Mapping[str, StateDict], epoch: int, metadata: Metadata) -> None:
    """Write weights alone, as a safetensors file with the metadata in its header.

    Arguments as for `write_checkpoint`; metadata that is None is left out.

    Raises:
        UserError: the file cannot be written (full disk, permissions); an older file is left intact.
    """
    from safetensors.torch import save

    tensors = {
        f"{name}.{_clean(key)}": value.contiguous()
        for name, state in networks.items()
        for key, value in _portable(state).items()
    }
    known = {key: str(value) for key, value in asdict(metadata).items() if value is not None}
    content = save(tensors, {"format": "pt", "epoch": str(epoch), **known})
    _write(Path(path), lambda file: file.write(content))


def _write(path: Path, save: Callable[[IO[bytes]], object]) -> None:
    """Write a file with `save`; it gets its name only when it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, partial.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise UserError(
            f"{path} cannot be written ({cause.strerror}); free some space or choose another folder"
        ) from error


def _is_state(state: object) -> bool:
    return isinstance(state, dict) and bool(state) and all(isinstance(value, torch.Tensor) for value in state.values())


def _state_problem(networks: Mapping[Any, Mapping[Any, torch.Tensor]]) -> str | None:
    """What makes state dicts unusable; None if nothing does."""
    for name, state in networks.items():
        if not isinstance(name, str) or not all(isinstance(key, str) for key in state):
            return "names networks or parameters by something else than text"
        for key, value in state.items():
            if value.layout != torch.strided or value.is_meta or value.is_quantized:
                return f"has a parameter without plain numbers, `{key}` of {name}"
            # A view that repeats its numbers takes any amount of memory once it is copied.
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                return f"claims more numbers than it holds, `{key}` of {name}"
    return None


def _checked_metadata(recorded: Mapping[str, Any], named: str) -> Metadata:
    """The metadata that a file records, of the right types and within bounds.

    Raises:
        UserError: something else is recorded; the message begins with `named`.
    """
    values = {item.name: recorded.get(item.name) for item in fields(Metadata)}
    for name, value in values.items():
        if value is None:
            continue
        if name == "audio_feature":
            fits, wanted = value in _AUDIO_FEATURES, f"one of {', '.join(_AUDIO_FEATURES)}"
        elif name == "max_audio_norm":
            # A NaN fails the comparison.
            fits, wanted = type(value) in (int, float) and 0 < value < 1e9, "a number above 0"
        else:
            (least, most), wanted = _BOUNDS[name], "a whole number from {} to {}".format(*_BOUNDS[name])
            fits = type(value) is int and least <= value <= most
        if not fits:
            shown = repr(value) if len(repr(value)) < 40 else f"a {type(value).__name__}"
            raise UserError(f"{named} records {name} {shown}, not {wanted}; it is damaged: take another checkpoint")
    return Metadata(**values)


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _clean(key: str) -> str:
    """A parameter's name without the prefixes of wrappers."""
    while key.startswith(_WRAPPERS):
        key = key.split(".", 1)[1]
    return key


def _advice(key: str) -> str:
    options = _OPTIONS.get(key.split(".", 1)[0])
    return f"check {options}" if options else "these are weights of another network"


def _state(source: torch.nn.Module | torch.optim.Optimizer | StateDict) -> StateDict:
    return source if isinstance(source, Mapping) else source.state_dict()


def _portable(value: Any) -> Any:
    """Return `value` with tensors on the CPU and without the storage they are views of; see `write_checkpoint`."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        return value.clone() if value.numel() * value.element_size() < value.untyped_storage().nbytes() else value
    if isinstance(value, Mapping):
        return {key: _portable(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_portable(item) for item in value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint takes tensors and plain values, not {type(value).__name__}")


def _os_error(error: BaseException | None) -> OSError | None:
    """The OSError behind an error: torch turns a failed write into a RuntimeError about file positions."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error
