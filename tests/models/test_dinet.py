"""The generator against its golden outputs, and AdaAT against a plain sampling of the volume."""

import pytest
import torch
import torch.nn.functional as F
from golden.networks import (
    BATCH,
    formula_weights,
    generator,
    generator_inputs,
    normal_tensor,
)
from helpers.differences import largest_difference

from models.dinet import ANGLE, AdaAT, DINet


def volumetric_adaat(network: AdaAT, feature: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """AdaAT as published: trilinear sampling of the map as a volume, without the factored form's algebra."""
    batch, channels, height, width = feature.shape
    code = network.commn_linear(code)
    scale = 2 * network.scale(code)[:, :, None, None]
    angle = ANGLE * network.rotation(code)[:, :, None, None]
    translation = network.translation(code).view(batch, channels, 2)[:, :, None, None]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid_x = scale * (angle.cos() * x - angle.sin() * y) + translation[..., 0]
    grid_y = scale * (angle.sin() * x + angle.cos() * y) + translation[..., 1]
    grid_z = torch.linspace(-1, 1, channels)[:, None, None].expand(grid_x.shape)
    grid = torch.stack([grid_x, grid_y, grid_z], -1)
    return F.grid_sample(feature[:, None], grid, padding_mode="zeros", align_corners=False)[:, 0]


@pytest.fixture(scope="module")
def eval_generator() -> DINet:
    return generator().eval()


class TestGenerator:
    def test_has_the_published_number_of_parameters(self):
        assert sum(parameter.numel() for parameter in DINet().parameters()) == 19_190_275

    def test_eval_output_is_golden(self, eval_generator, golden_forward):
        with torch.no_grad():
            output = eval_generator(*generator_inputs())
        assert largest_difference(output, golden_forward["dinet_eval"]) < 2e-4

    def test_training_output_and_statistics_are_golden(self, golden_forward):
        network = generator().train()
        with torch.no_grad():
            output = network(*generator_inputs())
        norm = network.source_in_conv[0].norm
        # Not 1e-4: in training mode float32 noise of the trunk grows until it moves AdaAT's sampling points. Float64
        # is 2.6e-4 from golden at most and 3e-5 on average; the eval output above has the sharp tolerance.
        assert largest_difference(output, golden_forward["dinet_train"]) < 1e-3
        assert (output - torch.from_numpy(golden_forward["dinet_train"])).abs().mean() < 1e-4
        assert largest_difference(norm.running_mean, golden_forward["dinet_train_running_mean"]) < 1e-4
        assert largest_difference(norm.running_var, golden_forward["dinet_train_running_var"]) < 1e-4

    def test_encoded_references_give_the_same_faces(self, eval_generator):
        source, reference, audio = generator_inputs()
        with torch.no_grad():
            expected = eval_generator(source, reference, audio)
            result = eval_generator.generate(source, eval_generator.encode_reference(reference), audio)
        assert largest_difference(result, expected) < 1e-4

    def test_one_encoded_reference_serves_a_batch(self, eval_generator):
        source, reference, audio = generator_inputs()
        with torch.no_grad():
            expected = eval_generator(source, reference[:1].expand(BATCH, -1, -1, -1), audio)
            result = eval_generator.generate(source, eval_generator.encode_reference(reference[:1]), audio)
        assert largest_difference(result, expected) < 1e-4

    def test_references_cannot_be_encoded_in_training(self):
        with pytest.raises(RuntimeError, match="eval mode"):
            DINet().encode_reference(torch.zeros(1, 15, 32, 32))

    @pytest.mark.parametrize(("channels", "rows"), [(80, 20), (384, 10), (29, 1)])
    def test_takes_any_audio(self, channels, rows):
        network = DINet(audio_channel=channels).eval()
        with torch.no_grad():
            output = network(torch.rand(1, 3, 52, 40), torch.rand(1, 15, 52, 40), torch.randn(1, channels, rows))
        assert output.shape == (1, 3, 52, 40)
        assert output.min() > 0 and output.max() < 1

    @pytest.mark.parametrize("first_row", [4, 24, 64])
    def test_rows_above_the_first_one_are_not_needed_below(self, eval_generator, first_row):
        source, reference, audio = generator_inputs()
        with torch.no_grad():
            code = eval_generator.encode_reference(reference)
            whole = eval_generator.generate(source, code, audio)
            below = eval_generator.generate(source, code, audio, first_row)
        assert below.shape == whole[:, :, first_row:].shape
        assert largest_difference(below, whole[:, :, first_row:]) < 1e-5

    def test_a_narrow_one_is_smaller_and_encodes_its_references_alike(self):
        torch.manual_seed(0)
        network = DINet(feature_channel=64).eval()
        assert sum(parameter.numel() for parameter in network.parameters()) < 2_500_000
        source, reference, audio = generator_inputs()
        with torch.no_grad():
            expected = network(source, reference, audio)
            result = network.generate(source, network.encode_reference(reference), audio)
        assert largest_difference(result, expected) < 1e-5

    @pytest.mark.parametrize("image_dtype", [torch.float32, torch.bfloat16])
    def test_bf16_and_channels_last_stay_close(self, image_dtype, eval_generator):
        source, reference, audio = (x[:1, ..., :32, :24] if x.dim() == 4 else x[:1] for x in generator_inputs())
        network = generator().eval().to(memory_format=torch.channels_last)
        with torch.no_grad():
            expected = eval_generator(source, reference, audio)
        source, reference = (x.to(image_dtype, memory_format=torch.channels_last) for x in (source, reference))
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            plain = network(source, reference, audio)
            encoded = network.generate(source, network.encode_reference(reference), audio)
        for output in (plain, encoded):
            assert (output.float() - expected).abs().mean().item() < 0.03

    def test_bf16_training_gives_finite_gradients(self):
        network = generator().train().to(memory_format=torch.channels_last)
        # The crop of the smallest mouth region, 32. On smaller ones trans_conv ends with a map one pixel wide, and
        # oneDNN's AMX kernel (PyTorch 2.15) returns uninitialised memory as the weight gradient of a strided
        # convolution of such a map.
        inputs = (x[..., :52, :40] if x.dim() == 4 else x for x in generator_inputs())
        with torch.autocast("cpu", torch.bfloat16):
            output = network(*inputs)
        output.float().mean().backward()
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


class TestAdaAT:
    def test_output_is_golden(self, golden_forward):
        network = formula_weights(AdaAT())
        with torch.no_grad():
            output = network(normal_tensor(1006, BATCH, 256, 13, 10), normal_tensor(1007, BATCH, 256))
        assert largest_difference(output, golden_forward["adaat"]) < 2e-4

    def test_equals_the_volume_sampling(self):
        network = formula_weights(AdaAT())
        feature, code = normal_tensor(1, 3, 256, 26, 20), normal_tensor(2, 3, 256)
        feature.requires_grad_(True)
        results, gradients = [], []
        for output in (network(feature, code), volumetric_adaat(network, feature, code)):
            results.append(output.detach())
            gradients.append(torch.autograd.grad(output.square().mean(), [feature, *network.parameters()]))
        assert largest_difference(*results) < 2e-4
        for ours, plain in zip(*gradients, strict=True):
            assert largest_difference(ours, plain) < 1e-3 * plain.abs().max().item() + 1e-9

    def test_a_bf16_map_is_sampled_at_full_precision(self):
        network = formula_weights(AdaAT())
        feature, code = normal_tensor(1, 1, 256, 26, 20).bfloat16(), normal_tensor(2, 1, 256)
        with torch.no_grad():
            output = network(feature, code)
            plain = volumetric_adaat(network, feature.float(), code)
        assert output.dtype == torch.bfloat16
        assert (output - plain).abs().mean() < 0.005


class TestAudioNorm:
    def test_long_embeddings_are_scaled_down_and_short_ones_stay(self):
        torch.manual_seed(0)
        network = DINet(audio_channel=29, feature_channel=16).eval()
        audio = torch.randn(8, 29, 5) * torch.linspace(0.1, 30, 8)[:, None, None]
        free = network.encode_audio(audio)
        limit = free.norm(dim=1).median().item()
        network.max_audio_norm = limit
        limited = network.encode_audio(audio)
        short = free.norm(dim=1) <= limit
        assert short.any() and not short.all()
        assert torch.allclose(limited[short], free[short])
        assert limited[~short].norm(dim=1).allclose(torch.tensor(limit))
        cosine = torch.nn.functional.cosine_similarity(limited, free)
        assert cosine.allclose(torch.ones(8))
