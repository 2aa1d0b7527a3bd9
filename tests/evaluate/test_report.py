import numpy as np

from kdjax.evaluate import report


def one_hot(prediction, classes):
    return 5 * np.eye(classes, dtype=np.float32)[np.asarray(prediction)]


def test_few_classes():
    label = np.array([0, 0, 1, 1])
    text = report.text(one_hot([0, 1, 1, 1], 3), label, ("a", "b", "c"), None)
    assert "top-1 accuracy              75.00%" in text
    assert "top-5" not in text
    assert "teacher" not in text
    rows = [line.split() for line in text.splitlines()]
    assert ["a", "2", "50.00%"] in rows
    assert ["b", "2", "100.00%"] in rows
    assert ["c", "0", report._DASH] in rows
    assert ["a", "b", "1"] in rows


def test_only_the_worst_of_many_classes():
    label = np.repeat(np.arange(1, 30), 10)  # There is no image of class 0.
    prediction = label.copy()
    prediction[:5], prediction[10] = 0, 0
    names = [f"class{k}" for k in range(30)]
    text = report.text(one_hot(prediction, 30), label, names, 0.5)
    rows = [line.split() for line in text.splitlines()]
    first = rows.index(["worst", "classes", "images", "accuracy"]) + 2
    assert rows[first : first + 3] == [
        ["class1", "10", "50.00%"],
        ["class2", "10", "90.00%"],
        ["class3", "10", "100.00%"],
    ]
    assert rows[first + report.WORST_CLASSES] == []
    assert "top-5 accuracy" in text
    assert ["agreement", "with", "the", "teacher", "50.00%"] in rows


def test_no_errors_and_no_teacher():
    text = report.text(one_hot([0, 1], 2), np.array([0, 1]), "ab", "it is gone")
    assert "No image is classified wrongly." in text
    assert text.endswith("The agreement with the teacher is not known: it is gone")


def test_names_are_escaped():
    logits = np.eye(2)[[0, 1, 0]]
    names = ("a\x1b[31m\nb", "c")
    text = report.text(logits, np.asarray([0, 1, 1]), names, None)
    assert "\x1b" not in text
    assert text.count("a\\x1b[31m\\nb") == 2
