from types import SimpleNamespace

import numpy as np

from utils.evaluation.single_pass import play_once


class Recorder:
    def __init__(self, order):
        self.order = np.array(order, int)
        self.seen = []

    def add(self, tick, frame):
        self.seen.append((tick, frame.index))


class Reader:
    def __init__(self):
        self.played = []

    def play(self, order):
        for index in order:
            self.played.append(int(index))
            yield SimpleNamespace(index=index)


def test_every_metric_gets_its_frames_and_each_is_decoded_once():
    reader, repeats, late = Reader(), Recorder([0, 0, 2, 2, 3]), Recorder([3, 4, 5])
    shown = [(tick, int(frame.index)) for tick, frame in play_once(reader, np.array([0, 1, 1, 3]), [repeats, late])]
    assert shown == [(0, 0), (1, 1), (2, 1), (3, 3)]
    assert repeats.seen == [(0, 0), (1, 0), (2, 2), (3, 2), (4, 3)]
    assert late.seen == [(0, 3), (1, 4), (2, 5)], "frames after the last one shown"
    assert reader.played == [0, 1, 2, 3, 4, 5]
