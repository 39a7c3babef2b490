"""Everything between the networks and the scripts: a folder per subject, and what all of them use.

dubbing/          the engine behind inference.py
training/         the training behind train_*.py
data_processing/  the steps behind data_processing.py
evaluation/       metrics behind evaluate.py
benchmark/        the published procedure, to compare with (benchmark.py)
export/           ONNX (export_weights.py)
page/             the page behind app.py
face/             landmarks and face crops
media/            video, audio and image files
speech/           speech features

settings.py       option(): a dataclass field with its command-line option
errors.py         UserError, and running a script so that it becomes one line
files.py          atomic writes, fingerprints
checkpoints.py    checkpoint files, published and ours
pickle_check.py   loads PyTorch files after checking what they hold
device.py         device and number format
distributed.py    several training processes (torchrun)
pipeline.py       stages in threads of their own
executors.py      process pools, Dask
progress.py       progress bars
"""
