"""The networks of a DINet training: learning rates, the seed, and parts of the generator that are frozen."""

import copy

import torch

from utils.checkpoints import Metadata
from utils.distributed import DistInfo
from utils.training.build import make_dinet_networks, make_training_networks
from utils.training.settings import DINetSettings, NetworkSettings, OptimisationSettings


def test_a_frozen_audio_encoder_stays_as_it_is():
    networks = make_dinet_networks(
        NetworkSettings(feature_channel=16, freeze_audio_encoder=True), 80, max_audio_norm=3.0
    )
    assert networks["net_g"].max_audio_norm == 3
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


def test_a_seed_makes_the_networks_and_each_has_its_learning_rate():
    sizes = NetworkSettings(feature_channel=16, D_num_blocks=2, D_block_expansion=8)
    metadata = Metadata(audio_channel=29, max_audio_norm=3.0)
    settings = sizes, DINetSettings(lr_g=0.5, lr_dI=0.25), OptimisationSettings(), metadata

    def make(seed: int, clip: bool = False):
        return make_training_networks(*settings, seed, DistInfo(), torch.device("cpu"), clip=clip)

    def weights(networks):
        return torch.cat([value.flatten().float() for value in networks.modules["net_g"].state_dict().values()])

    one = make(1)
    assert one.modules["net_g"].max_audio_norm == 3
    assert torch.equal(weights(one), weights(make(1))) and not torch.equal(weights(one), weights(make(2)))
    assert one.set_learning_rates(1.0) == {"net_g": 0.5, "net_dI": 0.25}
    assert make(1, clip=True).set_learning_rates(1.0) == {"net_g": 0.5, "net_dI": 0.25, "net_dV": 0.25}
