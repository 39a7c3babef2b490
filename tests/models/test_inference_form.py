"""A network prepared for inference returns what it returned before."""

import pytest
import torch
from golden.networks import (
    generator,
    generator_inputs,
)
from helpers.differences import largest_difference

from models.inference_form import fuse_batchnorm, optimize_for_inference


def test_an_optimized_generator_returns_the_same():
    source, reference, audio = generator_inputs()
    with torch.no_grad():
        expected = generator().eval()(source, reference, audio)
        network = optimize_for_inference(generator(), torch.device("cpu"), torch.float32)
        fused = network.generate(source, network.encode_reference(reference), audio)
        half = optimize_for_inference(generator(), torch.device("cpu"), torch.float16)
        source, reference, audio = (x.half() for x in (source, reference, audio))
        rounded = half.generate(source, half.encode_reference(reference), audio).float()
    norms = [name for name, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert norms and all(name.endswith("norm1") for name in norms)
    assert half.adaAT.scale[0].weight.dtype == torch.float32
    assert largest_difference(fused, expected) < 1e-4
    assert -10 * torch.log10((rounded - expected).square().mean()) > 45


def test_norms_in_training_mode_are_not_fused():
    with pytest.raises(RuntimeError, match="eval mode"):
        fuse_batchnorm(generator().train())
