import logging
import types

import pytest

from kdjax.runs import messages


def test_an_error_becomes_one_line_without_the_traceback_before_it():
    text = "Traceback:\n  File a\nValueError: first\nKeyError: second\n  third"
    assert messages.one_line(ValueError(text)) == "second third"
    assert messages.one_line("a: b\nc") == "a: b c"


@pytest.mark.parametrize(
    ("argument", "said", "message"),
    [
        (
            "--config.a.epoks=3",
            'epoks. Did you mean "epochs" instead of "epoks"?',
            '--config.a.epoks=3: no such field. Did you mean "epochs" instead of '
            '"epoks"?',
        ),
        (
            "--config.epoks=3",
            "epoks",
            "--config.epoks=3: no such field. --dry_run lists the fields",
        ),
        ("--workdir=epoks", "epoks", "--config: KeyError: 'epoks'"),
    ],
)
def test_a_field_that_does_not_exist_is_named_as_it_was_given(argument, said, message):
    assert messages.parsing_error(KeyError(said), ["main", argument]) == message


def test_errors_of_orbax_that_are_raised_as_well_are_not_logged():
    def record(path):
        return logging.LogRecord("absl", logging.ERROR, path, 1, "failed", (), None)

    assert not messages.keep_record(record("/a/site-packages/orbax/checkpoint/b.py"))
    assert messages.keep_record(record("/a/orbax_user/tensorflow_datasets/b.py"))


def test_callbacks_of_a_failed_save_are_ignored_and_others_are_not():
    reported = []
    for text in ("Event loop is closed", "another"):
        report = types.SimpleNamespace(exc_value=RuntimeError(text))
        messages.unraisable_hook(report, reported.append)
    assert [str(report.exc_value) for report in reported] == ["another"]
