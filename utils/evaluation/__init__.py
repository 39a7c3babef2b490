"""Metrics, baselines and report behind evaluate.py.

evaluator.py        scores the videos of a clip in one pass over their frames
comparison.py       which frames of two videos belong together; what a score holds
clips.py            finds and dubs the videos to score
baselines.py        untouched source and pasted mouths
videos.py           landmarks and scene cuts of each video, analysed once
single_pass.py      one pass over a video's frames for several metrics
image_metrics.py    PSNR, SSIM, MS-SSIM, L1, sharpness, flicker of images
image_scores.py     these, collected over a video
lpips_fid.py        LPIPS, FID
csim.py             CSIM: face identity
lip_metrics.py      LMD, correlation of lip openings, lips against the audio
sync_confidence.py  sync confidence and offset of our SyncNet
lse.py              LSE-D, LSE-C with Chung and Zisserman's SyncNet
report.py           table, csv, json, image strips, plots
"""
