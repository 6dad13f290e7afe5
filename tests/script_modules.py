"""The programs of scripts/ as modules, for tests."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@contextmanager
def script_modules(*names):
    """Import scripts of these names as if from their folder; afterwards forget them, and what they import there."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(SCRIPTS))
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").parent == SCRIPTS:
                del sys.modules[name]
