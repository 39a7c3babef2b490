"""Files in and out: video, audio, images.

video_reader.py   frames of a video or image file as YUV
video_parts.py    parts of a video, for several processes
video_joining.py  parts encoded by several processes, joined
video_track.py    packets, time stamps and rotation, as ffmpeg gives them
video_writer.py   H.264 in MP4, with audio
yuv.py            I420 planes, RGB patches of them, colour matrices
aac.py            the AAC track of an MP4
audio.py          any audio as a mono waveform; WAV
resampling.py     resampling of audio
images.py         image files, arrays and tensors
shots.py          scene cuts
container.py      opens media files safely
limits.py         bounds on what a file may ask for
suffixes.py       which files are videos
"""
