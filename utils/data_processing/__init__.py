"""The steps behind data_processing.py.

settings.py        folders and parameters, names of files
steps.py           every step, for one video
video_cutting.py   resampled and cut videos
clips.py           face crops, nine frames per clip
hdtf.py            HDTF's annotations
cached_results.py  results that survive an interruption and are not made twice
report.py          what was done and what was skipped
"""
