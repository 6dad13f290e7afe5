"""The pages: links that lead somewhere, a README that runs, an entry for every layer and command."""

import csv
import doctest
import re
from pathlib import Path

import click
import pytest

import spherecnn as sc
from spherecnn.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page for folder in (".", "docs", "data", "scripts", "benchmarks") for page in (ROOT / folder).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r"```\{image\} (\S+)", page.read_text())
    for link in links:
        if "://" not in link:
            assert (page.parent / link).is_file(), f"{page.name} links to {link}, which is not there"


def test_readme_runs():
    result = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 5
    assert result.failed == 0


def test_readme_starts_with_the_two_commands():
    commands = re.search(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert commands.group(1).splitlines() == [
        "pip install -e '.[demo]' && spherecnn demo",
        "pip install -e '.[test]' && pytest",
    ]


LAYERS = [n for n, v in vars(sc.layers).items() if isinstance(v, type) and issubclass(v, sc.layers.Layer)]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_has_an_entry(name):
    assert re.search(rf"\*\*`{name}\b", (ROOT / "docs" / "layers.md").read_text())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_entry(command):
    assert f"`spherecnn {command}`" in (ROOT / "docs" / "cli.md").read_text()


def test_commands_in_the_pages_exist_with_their_options():
    for page in PAGES:
        for line in re.findall(r"^(?:.*&& )?spherecnn ([a-z][^\n#`]*)$", page.read_text(), re.MULTILINE):
            name, *words = line.split()
            command = main.get_command(click.Context(main), name)
            while isinstance(command, click.Group) and words and not words[0].startswith("-"):
                command = command.get_command(click.Context(command), words.pop(0))
            assert command is not None, f"{page.name} shows `spherecnn {line}`"
            known = {option for param in command.params for option in param.opts} | {"--help"}
            used = {word.split("=")[0] for word in words if word.startswith("--")}
            assert used <= known, f"{page.name} shows `spherecnn {line}`"


def test_speed_in_the_readme_is_what_the_committed_csv_says():
    lines = (ROOT / "benchmarks" / "speed.csv").read_text().splitlines()
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        ratios.setdefault((row["case"], row["pass"]), []).append(float(row["ratio"]))

    def span(case, which):
        found = ratios.get((case, which), [])
        return " to ".join(f"{r:.2f}" for r in sorted({min(found), max(found)})) if found else ""

    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^\| ([^|]+?)(?:, a training step)? \| ([\d. to]*?) ?\| ([\d. to]+) \|$", readme, re.MULTILINE)
    assert len(shown) > 20
    for case, forward, both in shown:
        assert (forward, both) == (span(case, "forward"), span(case, "forward+backward") or span(case, "step")), case
    slower = {case for (case, _), found in ratios.items() if min(found) < 1}
    assert slower <= {case for case, _, _ in shown}, "the README leaves out what torch does faster"
