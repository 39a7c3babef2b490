"""Parts of the generator that are frozen in a training."""

import copy

import torch

from utils.training.build import make_dinet_networks
from utils.training.settings import NetworkSettings


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
