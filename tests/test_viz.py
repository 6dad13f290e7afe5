"""Pictures: what is where, and whole files only."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from spherecnn.errors import InputError
from spherecnn.grids import Equirect
from spherecnn.viz import (
    colour_labels,
    confusion,
    error_map,
    globe,
    label_map,
    overlay,
    palette,
    panel,
    render_globe,
    value_map,
)

RED, BLUE = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])


def painted(grid, where):
    """Red where `where(lat, lon)` in degrees, blue elsewhere."""
    red = where(np.degrees(grid.lat), np.degrees(grid.lon))
    return np.where(red[:, None], RED, BLUE).reshape(*grid.shape, 3)


@pytest.mark.parametrize(
    ("where", "view", "red", "blue"),
    [
        (lambda lat, lon: lon > 0, (0, 0), (20, 30), (20, 10)),  # east is right of Greenwich
        (lambda lat, lon: lon > 0, (0, 180), (20, 10), (20, 30)),  # and left of the date line
        (lambda lat, lon: lat > 0, (0, 75), (10, 20), (30, 20)),  # north is up
        (lambda lat, lon: lon > 0, (90, 0), (20, 30), (20, 10)),  # from above the pole, lon 0 is down
        (lambda lat, lon: abs(lon) < 90, (90, 0), (30, 20), (10, 20)),
        (lambda lat, lon: abs(lon) < 90, (-90, 0), (10, 20), (30, 20)),  # from below, lon 0 is up
        (lambda lat, lon: lat > 50, (50, 130), (5, 20), (25, 20)),
    ],
)
@pytest.mark.parametrize("grid", [Equirect(24), Equirect(25, 48, pole_rows=True), Equirect(400)], ids=repr)
def test_globe_has_east_right_and_north_up(grid, where, view, red, blue):
    picture = render_globe(painted(grid, where), grid, *view, size=40)
    assert np.allclose(picture[red], [*RED, 1], atol=1e-5)
    assert np.allclose(picture[blue], [*BLUE, 1], atol=1e-5)
    assert picture[0, 0, 3] == 0


def test_globe_has_no_seam():
    grid = Equirect(16)
    smooth = (0.5 + 0.5 * np.cos(grid.lat) * np.cos(grid.lon)).reshape(16, 32, 1)
    view = render_globe(smooth, grid, 0, 180, size=41)[..., 0]
    assert np.abs(np.diff(view[20, 5:36])).max() < 0.05
    assert np.allclose(view[20], view[20, ::-1], atol=1e-5)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def test_globe_file_shows_each_view(tmp_path):
    grid = Equirect(24)
    path = globe(painted(grid, lambda lat, lon: lon > 0), grid, tmp_path / "g.png", [(0, 0), (0, 90)], graticule=False)
    picture = pixels(path)
    quarters = np.array_split(picture[picture.shape[0] // 2], 4)
    red = [(q[:, 0] > 200) & (q[:, 2] < 50) for q in quarters]
    assert [bool(r[len(r) // 2]) for r in red] == [False, True, True, True]
    assert [p.name for p in tmp_path.iterdir()] == ["g.png"]


@pytest.mark.parametrize("graticule", [False, True])
def test_graticule_is_drawn_on_the_near_side_only(tmp_path, graticule):
    path = globe(np.zeros((8, 16, 1)), Equirect(8), tmp_path / "g.png", [(0, 0)], graticule=graticule)
    picture = pixels(path).sum(axis=-1)
    middle = picture[picture.shape[0] // 2 + 12, 30:-30]  # below the equator's line
    assert (np.count_nonzero(middle > 60) >= 5) == graticule


def test_panel_puts_north_up_and_east_right(tmp_path):
    grid = Equirect(12)
    images = [painted(grid, lambda lat, lon: lon > 0), painted(grid, lambda lat, lon: lat > 0)]
    picture = pixels(panel(np.stack(images), tmp_path / "p.png", ["east", "north"], columns=1))
    rows = np.flatnonzero(((picture[..., 0] > 200) & (picture[..., 2] < 50)).any(axis=1))
    gap = np.argmax(np.diff(rows)) + 1
    for part, axis in ((rows[:gap], 1), (rows[gap:], 0)):
        block = picture[part[0] : part[-1] + 1]
        red, blue = ((block[..., c] > 200) & (block[..., 2 - c] < 50) & (block[..., 1] < 50) for c in (0, 2))
        if axis == 1:
            assert np.argwhere(red)[:, 1].min() > np.argwhere(blue)[:, 1].max() - 2
        else:
            assert red.sum() > 20 * blue.sum()


def test_panel_of_fields_and_refusals(tmp_path):
    field = np.random.default_rng(0).standard_normal((5, 6, 12))
    field[0, 0, 0] = np.nan
    assert panel(field, tmp_path / "p.svg", title="five").read_bytes().startswith(b"<?xml")
    with pytest.raises(InputError, match="2 titles"):
        panel(field, tmp_path / "q.png", ["a", "b"])
    with pytest.raises(InputError, match="no titles"):
        panel(field[:0], tmp_path / "q.png")
    with pytest.raises(InputError, match="choose channels"):
        panel(np.ones((1, 6, 12, 5)), tmp_path / "q.png")
    with pytest.raises(InputError, match=r"'\.bmp'"):
        panel(field, tmp_path / "q.bmp")
    with pytest.raises(InputError, match="could not be written"):
        panel(field, tmp_path / "missing" / "q.png")
    assert [p.name for p in tmp_path.iterdir()] == ["p.svg"]


def test_confusion_is_dark_on_the_diagonal_of_a_good_model(tmp_path):
    good = pixels(confusion(np.eye(3) * 40, "abc", tmp_path / "good.png"))
    uniform = pixels(confusion(np.ones((3, 3)), "abc", tmp_path / "uniform.png"))
    dark = [(p[:, : int(p.shape[1] * 0.7)].sum(axis=-1) < 250).mean() for p in (good, uniform)]
    assert dark[0] > 3 * dark[1]
    with pytest.raises(InputError, match=r"\(3, 3\) for 2 classes"):
        confusion(np.eye(3), "ab", tmp_path / "bad.png")


def test_globe_refuses_another_grid(tmp_path):
    with pytest.raises(InputError, match="give its own grid"):
        globe(np.ones((8, 4, 1)), Equirect(4), tmp_path / "g.png")


def test_nothing_heavy_is_imported_before_it_is_needed():
    code = "import sys, spherecnn.viz, spherecnn.datasets; print({'matplotlib', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- labels and values -------------------------------------------------------------------------------------


# Machado, Oliveira and Fernandes 2009, severity 1: what a person without red or green cones sees, in linear RGB.
BLIND = {
    "red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


def least_distance(table):
    return (np.linalg.norm(table[:, None] - table[None], axis=-1) + 9 * np.eye(len(table))).min()


def test_palette_colours_differ():
    assert least_distance(palette(20)) > 0.15
    assert least_distance(palette(40)) > 0.02
    np.testing.assert_array_equal(palette(40)[:20], palette(20))


@pytest.mark.parametrize("cones", BLIND)
def test_seven_colours_differ_for_the_colour_blind(cones):
    seen = np.clip(palette(7) ** 2.2 @ np.array(BLIND[cones]).T, 0, 1) ** (1 / 2.2)
    assert least_distance(seen) > 0.15


def test_labels_and_what_is_no_class():
    rgb = colour_labels(np.array([[0, 1], [2, -1]]), 2)
    np.testing.assert_array_equal(rgb[0], palette(2))
    assert rgb[1].tolist() == [[0.75] * 3] * 2
    image = np.random.default_rng(0).random((2, 2, 3)).astype(np.float32)
    laid = overlay(image, np.array([[0, 1], [2, -1]]), 2, alpha=0.25)
    np.testing.assert_array_equal(laid[1], image[1])
    np.testing.assert_allclose(laid[0], 0.75 * image[0] + 0.25 * palette(2), rtol=1e-6)


def shares(path, colour):
    """Share of the pixels of a file that have a colour."""
    return (np.abs(pixels(path) - 255 * np.asarray(colour)).max(axis=-1) < 3).mean()


def test_label_map_shows_classes_and_names_their_area(tmp_path):
    labels = np.zeros((8, 16), int)
    labels[:, 8:] = 1
    path = label_map(labels, ["sea", "land", "ice"], tmp_path / "l.png")
    sea, land, ice = (shares(path, c) for c in palette(3))
    assert sea == pytest.approx(land, rel=0.1)
    assert sea > 0.15
    assert ice == 0
    svg = label_map(labels, ["sea", "land", "ice"], tmp_path / "l.svg").read_text()
    assert "sea, 50.0%" in svg
    assert "ice" not in svg


def test_value_map_leaves_gaps_grey_and_error_map_is_signed(tmp_path):
    values = np.tile(np.linspace(1, 2, 16), (8, 1))
    values[:, 4:8] = np.nan
    assert shares(value_map(values, tmp_path / "v.png", unit="m"), [0.75] * 3) > 0.1
    off = np.zeros((8, 16))
    off[:4], off[4:] = 1, -1
    picture = pixels(error_map(off, np.zeros((8, 16)), tmp_path / "e.png"))
    reddish = (picture[..., 0] - picture[..., 2] > 60)[:, : picture.shape[1] // 2]
    blueish = (picture[..., 2] - picture[..., 0] > 60)[:, : picture.shape[1] // 2]
    assert np.argwhere(reddish)[:, 0].max() <= np.argwhere(blueish)[:, 0].min() + 1


def test_error_map_of_classes_counts_labelled_pixels_by_area(tmp_path):
    true = np.zeros((4, 8), int)
    true[:, 4:] = 255
    wrong = true.copy()
    wrong[0, :4] = 1
    svg = error_map(wrong, true, tmp_path / "e.svg", classes=2).read_text()
    assert "wrong on 14.6% of the labelled sphere" in svg
    path = error_map(wrong, true, tmp_path / "e.png", classes=2)
    assert shares(path, [0.75] * 3) > 0.2
    assert shares(path, [0.835, 0.369, 0.0]) > 0.02


def test_label_pictures_refuse_what_they_cannot_show(tmp_path):
    with pytest.raises(InputError, match="expected class numbers"):
        label_map(np.zeros((4, 8)), ["a"], tmp_path / "a.png")
    with pytest.raises(InputError, match="equal rows and columns"):
        overlay(np.zeros((4, 8, 3)), np.zeros((2, 4), int), 2)
    with pytest.raises(InputError, match="choose a channel"):
        value_map(np.zeros((4, 8, 2)), tmp_path / "a.png")
    with pytest.raises(InputError, match="match them"):
        error_map(np.zeros((4, 8)), np.zeros((4, 4)), tmp_path / "a.png")
    with pytest.raises(InputError, match="choose one"):
        label_map(np.zeros((1, 4, 8), int), ["a"], tmp_path / "a.png")
