"""Generator, discriminators, SyncNet and perceptual network against the golden outputs and a plain AdaAT."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.networks import (
    BATCH,
    HEIGHT,
    MOUTH,
    WIDTH,
    discriminator,
    formula_weights,
    generator,
    generator_inputs,
    normal_tensor,
    syncnet,
    uniform_tensor,
    vgg_weights,
)

from models.dinet import ANGLE, AdaAT, DINet
from models.discriminator import Discriminator, min_image_side
from models.inference_form import fuse_batchnorm, optimize_for_inference
from models.perceptual import PerceptualNetwork
from models.syncnet import SyncNet, lsuv_init_
from utils.training.build import make_dinet_networks
from utils.training.settings import NetworkSettings


def largest_difference(result: torch.Tensor, expected: np.ndarray | torch.Tensor) -> float:
    expected = torch.as_tensor(expected)
    assert result.shape == expected.shape
    return (result.detach().float() - expected.float()).abs().max().item()


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

    def test_the_form_for_inference_gives_the_same(self, eval_generator):
        source, reference, audio = generator_inputs()
        with torch.no_grad():
            expected = eval_generator(source, reference, audio)
            network = optimize_for_inference(generator(), torch.device("cpu"), torch.float32)
            folded = network.generate(source, network.encode_reference(reference), audio)
            half = optimize_for_inference(generator(), torch.device("cpu"), torch.float16)
            source, reference, audio = (x.half() for x in (source, reference, audio))
            rounded = half.generate(source, half.encode_reference(reference), audio).float()
        norms = [name for name, part in network.named_modules() if isinstance(part, torch.nn.BatchNorm2d)]
        assert norms and all(name.endswith("norm1") for name in norms)
        assert half.adaAT.scale[0].weight.dtype == torch.float32
        assert largest_difference(folded, expected) < 1e-4
        assert -10 * torch.log10((rounded - expected).square().mean()) > 45

    @pytest.mark.parametrize("first_row", [4, 24, 64])
    def test_rows_that_nobody_looks_at_change_nothing_below(self, eval_generator, first_row):
        source, reference, audio = generator_inputs()
        with torch.no_grad():
            code = eval_generator.encode_reference(reference)
            whole = eval_generator.generate(source, code, audio)
            below = eval_generator.generate(source, code, audio, first_row)
        assert below.shape == whole[:, :, first_row:].shape
        assert largest_difference(below, whole[:, :, first_row:]) < 1e-5

    def test_norms_in_training_are_not_folded(self):
        with pytest.raises(RuntimeError, match="eval mode"):
            fuse_batchnorm(generator().train())

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


class TestDiscriminator:
    @pytest.mark.parametrize(("name", "channels"), [("dI", 3), ("dV", 15)])
    def test_score_map_is_golden(self, name, channels, golden_forward):
        with torch.no_grad():
            outputs, score = discriminator(channels)(uniform_tensor(1003, BATCH, channels, HEIGHT, WIDTH))
        assert largest_difference(score, golden_forward[name]) < 1e-4
        assert [x.shape[1] for x in outputs] == [128, 256, 256, 256]

    @pytest.mark.parametrize("blocks", [1, 3, 4, 5])
    def test_smallest_image(self, blocks):
        network, side = Discriminator(3, 4, blocks, 8), min_image_side(blocks)
        assert network(torch.rand(1, 3, side, side))[1].shape == (1, 1, 1, 1)
        with pytest.raises(RuntimeError, match="Kernel size"):
            network(torch.rand(1, 3, side, side - 1))


class TestSyncNet:
    def test_score_map_is_golden(self, golden_forward):
        with torch.no_grad():
            score = syncnet()(uniform_tensor(1004, BATCH, 15, MOUTH, MOUTH), normal_tensor(1005, BATCH, 29, 9))
        assert largest_difference(score, golden_forward["syncnet"]) < 1e-4

    @pytest.mark.parametrize(("mouth", "size"), [(64, 2), (128, 4), (256, 8)])
    def test_score_map_grows_with_the_mouth(self, mouth, size):
        network = SyncNet(in_channel_audio=80)
        with torch.no_grad():
            assert network(torch.rand(1, 15, mouth, mouth), torch.randn(1, 80, 36)).shape == (1, 1, size, size)


class TestPerceptualNetwork:
    @pytest.mark.parametrize("name", ["VGG16", "VGG19"])
    def test_outputs_are_those_of_the_plain_stack(self, name):
        weights = vgg_weights(name)
        pooled_at = {"VGG16": [4, 9, 16, 23], "VGG19": [4, 9, 18, 27]}[name]
        outputs_at = {"VGG16": [1, 6, 11, 18, 25], "VGG19": [1, 6, 11, 20, 29]}[name]
        images = uniform_tensor(3, 1, 3, 32, 32)
        x = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
            :, None, None
        ]
        expected = []
        for index in range(outputs_at[-1] + 1):  # torchvision's numbering, layer by layer
            if f"features.{index}.weight" in weights:
                x = F.conv2d(x, weights[f"features.{index}.weight"], weights[f"features.{index}.bias"], padding=1)
            else:
                x = F.max_pool2d(x, 2) if index in pooled_at else F.relu(x)
            if index in outputs_at:
                expected.append(x)
        for ours, plain in zip(PerceptualNetwork(weights)(images), expected, strict=True):
            assert largest_difference(ours, plain) < 1e-4

    def test_weights_may_stop_early_and_be_half_precision(self):
        weights = {key: value.half() for key, value in vgg_weights("VGG16").items() if int(key.split(".")[1]) <= 21}
        outputs = PerceptualNetwork(weights)(torch.rand(1, 3, 32, 32))
        assert [tuple(x.shape[1:]) for x in outputs] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
        assert outputs[0].dtype == torch.float32

    def test_is_frozen(self):
        assert not any(parameter.requires_grad for parameter in PerceptualNetwork(vgg_weights()).parameters())

    def test_other_weights_are_refused(self):
        weights = vgg_weights()
        with pytest.raises(ValueError, match=r"features\.0\.weight"):
            PerceptualNetwork({"conv.weight": torch.zeros(1)})
        with pytest.raises(ValueError, match=r"features\.5\.bias"):
            PerceptualNetwork({key: value for key, value in weights.items() if key != "features.5.bias"})
        with pytest.raises(ValueError, match=r"features\.0\.weight"):
            PerceptualNetwork(weights | {"features.0.weight": torch.zeros(64, 3, 5, 5)})


def test_syncnet_is_trained_from_weights_that_tell_motion_from_persons():
    torch.manual_seed(0)
    network = SyncNet()
    stills = F.interpolate(torch.rand(8, 3, 8, 8), scale_factor=8, mode="bilinear").repeat(1, 5, 1, 1)
    mouths = (stills + 0.1 * F.interpolate(torch.randn(8, 15, 8, 8), scale_factor=8, mode="bilinear")).clamp(0, 1)
    audio = torch.randn(8, 29, 9)

    def spread(pictures: torch.Tensor) -> float:
        with torch.no_grad():
            codes = network.face_encoder(pictures)
        return (codes.std(0).mean() / codes.mean()).item()

    assert spread(mouths) < 1e-3  # PyTorch's own initialisation
    lsuv_init_(network, mouths, audio)
    assert spread(mouths) > 0.5
    assert spread(stills) < 1e-3  # mouths that do not move look alike, whoever's they are
    with torch.no_grad():
        scores = network(mouths, audio)
    assert scores.mean().item() == pytest.approx(0.5, abs=0.01) and scores.std().item() == pytest.approx(0.1, rel=0.1)


def test_a_frozen_audio_encoder_stays_as_it_is():
    networks = make_dinet_networks(NetworkSettings(feature_channel=16, freeze_audio_encoder=True), 80)
    network = copy.deepcopy(networks["net_g"]).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = network(torch.rand(2, 3, 104, 80), torch.rand(2, 15, 104, 80), torch.randn(2, 80, 20))
    made.mean().backward()
    after = network.state_dict()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("audio_encoder."), name
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and not any(name.startswith("audio_encoder.") for name in changed)
    assert all(not part.training for part in network.audio_encoder.modules())


def test_frozen_norms_keep_their_statistics_and_learn_the_rest():
    networks = make_dinet_networks(NetworkSettings(feature_channel=16, freeze_norms=True), 80)
    network = copy.deepcopy(networks["net_g"]).train()
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # as training on several GPUs does
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = network(torch.rand(2, 3, 104, 80), torch.rand(2, 15, 104, 80), torch.randn(2, 80, 20))
    made.mean().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert network.out_conv[0].norm.weight.grad is not None and network.out_conv[0].conv.weight.grad is not None
    assert network.training and not network.out_conv[0].norm.training


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
