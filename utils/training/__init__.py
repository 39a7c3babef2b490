"""The training behind train_*.py.

settings.py           options of all training scripts: defaults, loss weights, learning rates
dinet_step.py         losses of the frame stage and the clip stage; one call is one training step
syncnet_step.py       losses of SyncNet
lip_step.py           loss of the networks that predict the lips (small data)
lip_supervision.py    lip loss of the DINet stages (small data)
step.py               what all steps have in common
trainer.py            the loop: epochs, checkpoints, resuming, reports on held-out data
optimizer.py          optimizer step, mixed precision, learning-rate schedule
networks.py           networks with their optimizers, EMA and DistributedDataParallel
build.py              generator and discriminators of the DINet stages, and their learning rates
pretrained.py         weights that a training starts from, or holds frozen in a loss
vgg_weights.py        weights of the perceptual loss
checkpoint_folder.py  checkpoints in the result folder: names, newest, how many to keep
log.py                JSON lines and TensorBoard
signals.py            SIGTERM and Ctrl-C end a training after the current step
"""
