"""What benchmark.py measures, and the published procedure to compare with.

settings.py              options
generators.py            the generators to measure and their inputs
published_generator.py   the published sampling of AdaAT; a checkout of the original code
published_inference.py   the published way to dub a video
published_training.py    the published training loop
synthetic.py             videos, landmarks and crops to measure with
clock.py                 timing, FLOPs, chart of the stages
streaming.py             live dubbing
"""
