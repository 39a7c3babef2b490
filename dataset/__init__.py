"""Training samples and batches from prepared data.

settings.py        options: what to train on, how it is loaded
manifest.py        the training json: videos, clips, speech features
collect.py         makes it from prepared folders
samples.py         samples of the frame stage and the clip stage
sync_samples.py    samples of SyncNet
lip_samples.py     samples with lip landmarks (small data)
augmentation.py    augmentation of images and speech features
crops.py           reads face crops, or keeps them in memory
loading.py         batches in a reproducible, resumable order
fitting.py         fits weights to one person (inference.py --fit)
person_samples.py  its samples
"""
