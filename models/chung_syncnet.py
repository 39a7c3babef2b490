"""Chung and Zisserman's SyncNet (2016), which LSE-D and LSE-C are measured with; names as in syncnet_v2.model."""

import torch
from torch import nn

EMBEDDING_DIM = 1024
"""Length of an embedding."""


def _stack(kind: str, layers: tuple) -> nn.Sequential:
    """Convolutions (cin, cout, kernel, stride, padding) with norm and ReLU, and poolings (kernel, stride, padding)."""
    conv, norm, pool = (getattr(nn, f"{name}{kind}") for name in ("Conv", "BatchNorm", "MaxPool"))
    modules: list[nn.Module] = []
    for layer in layers:
        if len(layer) == 3:
            kernel, stride, padding = layer
            modules.append(pool(kernel, stride, padding))
        else:
            cin, cout, kernel, stride, padding = layer
            modules += [conv(cin, cout, kernel, stride, padding), norm(cout), nn.ReLU(inplace=True)]
    return nn.Sequential(*modules)


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBEDDING_DIM))


class ChungSyncNet(nn.Module):
    """Embeddings of five face images and of 0.2 s of audio, close to each other if they are in sync."""

    def __init__(self):
        super().__init__()
        self.netcnnaud = _stack(
            "2d",
            (
                (1, 64, 3, 1, 1),
                (1, 1, 0),
                (64, 192, 3, 1, 1),
                (3, (1, 2), 0),
                (192, 384, 3, 1, 1),
                (384, 256, 3, 1, 1),
                (256, 256, 3, 1, 1),
                (3, 2, 0),
                (256, 512, (5, 4), 1, 0),
            ),
        )
        self.netfcaud = _head()
        flat, halved = (1, 3, 3), (1, 2, 2)
        self.netcnnlip = _stack(
            "3d",
            (
                (3, 96, (5, 7, 7), halved, 0),
                (flat, halved, 0),
                (96, 256, (1, 5, 5), halved, (0, 1, 1)),
                (flat, halved, (0, 1, 1)),
                (256, 256, flat, 1, (0, 1, 1)),
                (256, 256, flat, 1, (0, 1, 1)),
                (256, 256, flat, 1, (0, 1, 1)),
                (flat, halved, 0),
                (256, 512, (1, 6, 6), 1, 0),
            ),
        )
        self.netfclip = _head()

    def encode_audio(self, mfcc: torch.Tensor) -> torch.Tensor:
        """MFCC [B, 1, 13, 20], 20 rows at 100 Hz, to embeddings [B, EMBEDDING_DIM]."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def encode_video(self, faces: torch.Tensor) -> torch.Tensor:
        """Faces, BGR in levels 0 .. 255, [B, 3, 5, 224, 224], to embeddings [B, EMBEDDING_DIM]."""
        return self.netfclip(self.netcnnlip(faces).flatten(1))
