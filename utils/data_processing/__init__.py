"""The steps behind data_processing.py.

settings.py           folders and parameters, names of files
steps.py              every step, for one video
jobs.py               what a video asks of the processes
video_cutting.py      resampled and cut videos
landmark_detection.py landmarks of a video
clips.py              face crops, nine frames per clip
hdtf.py               HDTF's annotations
cached_results.py     results that survive an interruption and are not made twice
report.py             what was done and what was skipped
"""
