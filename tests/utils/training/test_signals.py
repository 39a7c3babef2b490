"""Signals that end a training."""

from utils.training.signals import StopSignals


def test_a_second_signal_ends_the_process_at_once(monkeypatch):
    handlers = {}
    monkeypatch.setattr("signal.signal", handlers.__setitem__)
    import signal

    stop = StopSignals()
    stop(signal.SIGTERM, None)
    assert stop.received and handlers == {signal.SIGTERM: signal.SIG_DFL}
