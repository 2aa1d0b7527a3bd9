"""Optional dependencies and packaged configs of an installation."""

import importlib.metadata
import pathlib
import re


def require_extra(extra: str, needed_by: str) -> None:
    """Checks that the packages of an extra of pyproject.toml are installed.

    In a checkout that is not installed itself nothing is known of extras, and nothing
    is checked.

    Args:
      extra: its name, as in `pip install ".[train]"`.
      needed_by: part of the package, for the message.

    Raises:
      ModuleNotFoundError: names the missing packages and the command that installs
        them.
    """
    try:
        requirements = importlib.metadata.requires("kdjax") or ()
    except importlib.metadata.PackageNotFoundError:
        return
    missing = []
    for requirement in requirements:
        name, _, marker = requirement.partition(";")
        if re.search(rf"extra == ['\"]{extra}['\"]", marker):
            package = re.match(r"[\w.-]+", name).group()
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                missing.append(package)
    if missing:
        message = (
            f"{needed_by} needs {', '.join(missing)}: in the checkout of kdjax, "
            f'pip install ".[{extra}]"'
        )
        if extra in ("train", "data"):
            message += '; for all that training needs, ".[train,data]"'
        raise ModuleNotFoundError(message)


def find_config(path: str) -> str:
    """Finds a config file: below the current folder, else among the packaged ones.

    Args:
      path: of the file; "configs/NAME.py" also names the one that comes with kdjax.

    Returns:
      The path of an existing file, or `path` unchanged if there is none.
    """
    if pathlib.Path(path).is_file() or not path.startswith("configs/"):
        return path
    package = pathlib.Path(__file__).parent.parent
    # Inside the package in an installation, next to it in a checkout.
    for folder in (package, package.parent):
        if (folder / path).is_file():
            return str(folder / path)
    return path
