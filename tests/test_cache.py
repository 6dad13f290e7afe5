"""Where compiled kernels are kept."""

import os
import subprocess
import sys
from pathlib import Path

ASK = "from spherecnn.kernels.jit import cache_folder; print(cache_folder())"


def ask(tmp_path, *options, **environment):
    done = subprocess.run(
        [sys.executable, *options, "-c", ASK],
        env={**os.environ, "TMPDIR": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )
    return done, Path(done.stdout.strip())


def test_chosen_folder(tmp_path):
    done, folder = ask(tmp_path, SPHERECNN_CACHE_DIR=str(tmp_path / "kernels"))
    assert done.returncode == 0, done.stderr
    assert folder.parent == tmp_path / "kernels"


def test_a_chosen_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    done, _ = ask(tmp_path, SPHERECNN_CACHE_DIR=str(tmp_path / "file"))
    assert "name a folder that can be written" in done.stderr.splitlines()[-1]


def test_without_a_usual_place_the_cache_is_private_and_removed(tmp_path):
    (tmp_path / "file").touch()
    done, folder = ask(tmp_path, SPHERECNN_CACHE_DIR="", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 0, done.stderr
    assert "they are compiled for this process only" in done.stderr
    assert folder.parent.parent == tmp_path
    assert not folder.parent.exists()
