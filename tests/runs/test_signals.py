import os
import signal

import pytest

from kdjax.runs import signals


@pytest.fixture(params=["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def sent(request):
    """A signal, whose handler is restored after the test."""
    number = getattr(signal, request.param)
    before = signal.getsignal(number)
    yield number
    assert signal.getsignal(number) == before


def test_a_signal_asks_to_stop(sent):
    with signals.stop_requests() as requested:
        assert not requested()
        os.kill(os.getpid(), sent)
        assert requested()


def test_a_signal_with_nothing_to_save_ends_the_process(sent, capsys):
    with pytest.raises(SystemExit) as end, signals.stop_at_once("stopped"):
        os.kill(os.getpid(), sent)
    assert end.value.code == signals.STOPPED == 75
    assert capsys.readouterr().out == "stopped\n"


def test_a_signal_that_is_ignored_stays_ignored(sent):
    """As SIGHUP under nohup."""
    before = signal.signal(sent, signal.SIG_IGN)
    try:
        with signals.stop_requests() as requested:
            os.kill(os.getpid(), sent)
            assert not requested()
    finally:
        signal.signal(sent, before)


def test_a_second_interrupt_is_one():
    with signals.stop_requests() as requested:
        os.kill(os.getpid(), signal.SIGINT)
        assert requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
