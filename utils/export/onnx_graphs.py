"""The generator as two ONNX graphs, for programs without PyTorch: one for the references, run once, one for frames.

    references.onnx  reference [1, 15, H, W] -> features [1, C, H/4, W/4], trans [1, C/2, H/4, W/4]
    frames.onnx      source [B, 3, H, W], audio [B, A, T], features, trans -> face [B, 3, H, W]

B, T, H and W may differ from run to run. Images are RGB in [0, 1]; the mouth of `source` is masked with 0.
"""

import contextlib
import io
import logging
import os
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from models.dinet import AdaAT, DINet, ReferenceFeatures
from models.inference_form import fuse_batchnorm
from utils.checkpoints import Metadata
from utils.errors import UserError
from utils.face.crop_geometry import mouth_region, network_size
from utils.files import atomic_path

REFERENCES_FILE, FRAMES_FILE = "references.onnx", "frames.onnx"
OPSET = 18
"""ONNX operator set: 16 is the first with GridSample; TensorRT 10 reads up to 22."""
_MIN_MAP, _MAX_MAP = 8, 1024  # sides of the feature maps that the graphs take: crops of 32 to 4096 pixels


class _GraphAdaAT(nn.Module):
    """AdaAT in operations that ONNX has for every size of the map: the results differ by rounding only."""

    def __init__(self, original: AdaAT):
        super().__init__()
        self.original = original
        channels = torch.arange(len(original.depth_floor))
        # The depth half of the sampling is a 1 x 1 convolution; the two columns outside the volume count as zero.
        weight = torch.zeros(len(channels), len(channels) + 2)
        weight[channels, original.depth_floor + 1] += 1 - original.depth_fraction
        weight[channels, original.depth_floor + 2] += original.depth_fraction
        self.register_buffer("depth_weight", weight[:, 1:-1, None, None].contiguous())

    def blend(self, feature: torch.Tensor) -> torch.Tensor:
        """See AdaAT.blend."""
        return F.conv2d(feature, self.depth_weight)

    def warp(self, blended: torch.Tensor, embedding: torch.Tensor, first_row: int = 0) -> torch.Tensor:
        """See AdaAT.warp; always the whole map."""
        height, width = blended.shape[-2:]
        maps = self.original.affine(embedding)
        batch, channels = maps.shape[:2]
        x, y = _coordinates(width)[None, None, :], _coordinates(height)[None, :, None]
        maps = maps.flatten(0, 1)[..., None, None]
        grid = torch.stack([maps[:, i, 0] * x + maps[:, i, 1] * y + maps[:, i, 2] for i in (0, 1)], -1)
        planes = blended.expand(batch, -1, -1, -1).reshape(batch * channels, 1, height, width)
        moved = F.grid_sample(planes, grid, padding_mode="zeros", align_corners=False)
        return moved.view(batch, channels, height, width)


def _coordinates(size: int) -> torch.Tensor:
    """`size` coordinates from -1 to 1."""
    steps = torch.arange(size).float()
    return 2 * steps / steps[-1] - 1


class _References(nn.Module):
    def __init__(self, network: DINet):
        super().__init__()
        self.network = network

    def forward(self, reference: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encoded = self.network.encode_reference(reference)
        return encoded.features, encoded.trans


class _Frames(nn.Module):
    def __init__(self, network: DINet):
        super().__init__()
        self.network = network

    def forward(
        self, source: torch.Tensor, audio: torch.Tensor, features: torch.Tensor, trans: torch.Tensor
    ) -> torch.Tensor:
        return self.network.generate(source, ReferenceFeatures(features, trans), audio)


def write_onnx(network: DINet, metadata: Metadata, folder: Path) -> list[Path]:
    """Write the two graphs in float32; returns their paths.

    The metadata of each file holds what the weights were trained for, and the masked square of that mouth region as
    `mask` = "top,bottom,left,right" in pixels of the crop, bottom and right exclusive.

    Args:
        network: with its weights; cannot be used otherwise afterwards.
        metadata: of the weights, complete: mouth region and speech feature are known.
        folder: made where it does not exist.

    Raises:
        UserError: a package that is missing, or a folder that cannot be written to.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ImportError as error:
        raise UserError(
            f"--format onnx: needs {error.name}, which is not installed; pip install -r requirements-onnx.txt"
        ) from error

    network.eval().requires_grad_(False)
    fuse_batchnorm(network)
    network.adaAT = _GraphAdaAT(network.adaAT)
    height, width = (torch.export.Dim(name, min=_MIN_MAP, max=_MAX_MAP) for name in ("map_height", "map_width"))
    batch, rows = torch.export.Dim("batch"), torch.export.Dim("audio_rows")
    image, feature_map = {2: 4 * height, 3: 4 * width}, {2: height, 3: width}
    shape = network_size(metadata.mouth_region_size)
    reference = torch.rand(1, network.ref_in_conv[0].conv.in_channels, *shape)
    source = torch.rand(2, network.source_in_conv[0].conv.in_channels, *shape)
    audio = torch.rand(2, metadata.audio_channel, 5 * metadata.audio_rows_per_frame)
    encoded = network.encode_reference(reference)
    graphs = {
        REFERENCES_FILE: _graph(
            _References(network), {"reference": reference}, ["features", "trans"], {"reference": image}
        ),
        FRAMES_FILE: _graph(
            _Frames(network),
            {"source": source, "audio": audio, "features": encoded.features, "trans": encoded.trans},
            ["face"],
            {
                "source": {0: batch} | image,
                "audio": {0: batch, 2: rows},
                "features": feature_map,
                "trans": feature_map,
            },
        ),
    }
    known = {name: str(value) for name, value in asdict(metadata).items() if value is not None}
    mask = ",".join(f"{side.start},{side.stop}" for side in mouth_region(metadata.mouth_region_size))
    paths = []
    for name, graph in graphs.items():
        onnx.helper.set_model_props(graph, known | {"mask": mask})
        paths.append(folder / name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(paths[-1]) as partial, partial.open("wb") as file:
                file.write(graph.SerializeToString())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"--result_path: {paths[-1]} cannot be written ({error.strerror}); name another folder"
            ) from error
    return paths


def _graph(module: nn.Module, inputs: dict[str, torch.Tensor], outputs: list[str], dynamic: dict) -> object:
    """The onnx.ModelProto of a module; output of the exporter is suppressed."""
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_shapes=dynamic,
            verbose=False,
        )
    return program.model_proto
