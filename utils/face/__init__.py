"""Where the face is, and what is cut out of a frame.

landmarks.py       the 68 points: every landmark index, lip and head measures, one face through a video
openface_csv.py    OpenFace's csv, read and written
tracker.py         landmark detector and tracker (dlib)
landmark_cache.py  detected landmarks of earlier runs, or detected ahead
tracks.py          what it has tracked, and the table of that
parallel.py        parts of a video tracked by several processes, joined
analysis.py        first pass over a video: scene cuts, landmarks, crops
crop_geometry.py   crop and mouth region from landmarks
crop_plan.py       crop of every frame of a video
crop.py            cuts a crop out of a frame
"""
