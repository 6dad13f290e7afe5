"""Run settings as TOML: plain values only."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from spherecnn.errors import InputError
from spherecnn.files import write_atomic


def dump_config(config: dict[str, Any]) -> str:
    """Return a nested dict of words, numbers, booleans and lists as TOML text; None values are left out.

    Raises
    ------
    InputError
        If a value is of another kind.

    Examples
    --------
    >>> print(dump_config({"method": "circular", "lr": 0.001, "grid": {"height": 60}}), end="")
    method = "circular"
    lr = 0.001
    <BLANKLINE>
    [grid]
    height = 60
    """
    return "".join(_table(config, ())).lstrip("\n")


def save_config(path: str | os.PathLike[str], config: dict[str, Any]) -> None:
    """Write settings to a TOML file."""
    write_atomic(path, dump_config(config).encode())


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read settings from a TOML file.

    Raises
    ------
    InputError
        If the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); expected a TOML file: check the path.") from error
    except ValueError as error:
        raise InputError(
            f"{path} is not TOML ({error}); expected lines such as epochs = 3: correct the file."
        ) from error


def _table(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {k: v for k, v in table.items() if v is not None and not isinstance(v, dict)}
    inner = {k: v for k, v in table.items() if isinstance(v, dict)}
    lines = [f"\n[{'.'.join(map(_key, path))}]\n"] if path and (plain or not inner) else []
    lines += [f"{_key(k)} = {_value(v, '.'.join((*path, k)))}\n" for k, v in plain.items()]
    for k, v in inner.items():
        lines += _table(v, (*path, k))
    return lines


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any, name: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str | os.PathLike):
        return _text(os.fspath(value))
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v, name) for v in value) + "]"
    raise InputError(
        f"the setting {name} is a {type(value).__name__}; expected a word, a number, true or false, "
        "or a list of these: pass plain values in config."
    )
