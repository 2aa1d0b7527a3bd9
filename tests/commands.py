"""Commands run in this process, and what they say."""


def run(main, capsys, *flags):
    """Returns the status of a command and what it prints, to stdout and to stderr."""
    status = main(list(map(str, flags)))
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refused(main, capsys, *flags):
    """Returns the one line of a command that ends with status 2, without its name."""
    name = main.__module__.removesuffix(".__main__").rpartition(".")[2]
    status, out, err = run(main, capsys, *flags)
    assert (status, out) == (2, "")
    assert err.startswith(f"{name}: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    return err.removeprefix(f"{name}: ").removesuffix("\n")
