"""What several test files use.

sample_media.py          a real face in motion (public domain), speech-like audio
videos.py                synthetic videos and audio of any codec, rate and size
speech_signal.py         synthetic speech as an array
faces.py                 landmarks of one face
lip_patches.py           drawn lips
landmarks.py             landmark tables of several faces
training_data.py         a small training set, and training scripts run on it
samples.py               samples whose values say which frames they are of
training_steps.py        networks and batches for training steps
distributed_training.py  a training in two processes
deepspeech_graph.py      a small graph in the layout of DeepSpeech's
differences.py           differences of tensors
packages.py              pretends that a package is not installed
forked.py                scripts in forked children, under limits
pool_jobs.py             jobs for the processes of a pool
mutations.py             seeded damage to files and options
browser.py               a headless browser
"""
