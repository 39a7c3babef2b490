"""Networks and losses: plain PyTorch, no files, no options.

dinet.py           the generator and its AdaAT
discriminator.py   frame and clip discriminator
syncnet.py         SyncNet and its initialisation
losses.py          perceptual, GAN and sync loss
perceptual.py      VGG features for the perceptual loss
blocks.py          building blocks of all networks
inference_form.py  a trained network made fast for inference
fast_conv.py       convolutions with fewer multiplications, for CPUs
whisper_encoder.py the encoder of Whisper tiny, for speech features
audio_to_lips.py   predicts the lip shape from audio (small data)
lip_regressor.py   predicts lip opening and width from a mouth image (small data)
chung_syncnet.py   Chung and Zisserman's SyncNet, for LSE-D and LSE-C
"""
