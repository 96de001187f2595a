import re
import xml.etree.ElementTree as ET

import numpy as np
import plotly.graph_objects as go
import pytest
from upath import UPath

from dfloc.errors import ConfigError
from dfloc.report import figures, svg
from dfloc.report.page import Report, Section
from dfloc.report.plot import Figure, Key, Panel, Tile, axes, heat
from tests.report.conftest import curve_of
from tests.report.studies import MINI

SVG = "{http://www.w3.org/2000/svg}"


def figure(*drawn: go.Figure, name: str = "fig", title: str = "A panel", legend=()) -> Figure:
    return Figure(name, "Title.", "Caption.", [Panel(title, each, "words") for each in drawn], legend, "")


def texts(data: bytes) -> list[str]:
    return [text for node in ET.fromstring(data).iter(f"{SVG}text") if (text := "".join(node.itertext()).strip())]


def groups(data: bytes, name: str) -> list[ET.Element]:
    return [node for node in ET.fromstring(data).iter(f"{SVG}g") if node.get("id") == name]


def points(node: ET.Element) -> np.ndarray:
    """Return the corners of a group's path, [points, 2]."""
    (path,) = node.iter(f"{SVG}path")
    return np.array(re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path.get("d")), dtype=float)


def line(x, y, **more) -> go.Figure:
    made = axes("n")
    made.add_scatter(x=x, y=y, name="a line", mode="lines+markers", line={"color": "#0072B2"}, **more)
    return made


def test_text_stays_text_and_data_lie_where_they_should():
    data = svg.svg(figure(line([0, 10, 40], [0.2, 0.5, 0.9]), legend=[Key("of the legend", "#0072B2")]))
    found = texts(data)
    assert {"A panel", "n", "test IoU", "of the legend", "0.2", "1.0"} <= set(found)
    (node,) = groups(data, svg.line_id("a line"))
    corners = points(node)
    assert len(corners) == 3
    ratio = (corners[1] - corners[0]) / (corners[2] - corners[0])
    np.testing.assert_allclose(ratio, [10 / 40, 0.3 / 0.7], atol=1e-4)
    assert corners[2, 1] < corners[0, 1]
    assert "stroke: #0072b2" in ET.tostring(node).decode()


def test_the_range_of_an_axis_is_kept():
    found = [points(groups(svg.svg(figure(line([0, 1], [0.5, top]))), svg.line_id("a line"))[0]) for top in (0.6, 0.9)]
    assert found[0][0, 1] == pytest.approx(found[1][0, 1], abs=0.5)
    rises = [corners[0, 1] - corners[1, 1] for corners in found]
    assert rises[1] / rises[0] == pytest.approx(4, rel=1e-3)


def test_dashes_and_error_bars_are_drawn():
    plain = svg.svg(figure(line([0, 1], [0.2, 0.4])))
    dashed = axes("n")
    dashed.add_scatter(x=[0, 1], y=[0.2, 0.4], name="a line", mode="lines", line={"color": "#000000", "dash": "dash"})
    assert "stroke-dasharray" in ET.tostring(groups(svg.svg(figure(dashed)), svg.line_id("a line"))[0]).decode()
    assert "stroke-dasharray" not in ET.tostring(groups(plain, svg.line_id("a line"))[0]).decode()
    bars = svg.svg(figure(line([0, 1], [0.2, 0.4], error_y={"array": [0.1, 0.1], "arrayminus": [0.05, 0.1]})))
    assert [len(groups(data, "LineCollection_1")) for data in (plain, bars)] == [0, 1]
    hidden = svg.svg(figure(line([0, 1], [0.2, 0.4], error_y={"array": [0.1, 0.1], "visible": False})))
    assert groups(hidden, "LineCollection_1") == []


def test_a_heat_map_has_its_numbers_heads_holes_and_frames():
    tiles = [
        [Tile(0.5, "0.50", [], framed=True), Tile(None, "not run", [])],
        [Tile(0.9, "0.90", []), Tile(0.0, "0.00", [])],
    ]
    names = ["celebahq/ldm", "mini/telea"]
    data = svg.svg(figure(heat(names, names, tiles, "trained on", "tested on")))
    found = texts(data)
    assert [found.count(text) for text in ("0.50", "0.90", "0.00", "not run")] == [1, 1, 1, 1]
    assert found.count("celebahq/ldm") == 2
    where = {
        "".join(node.itertext()): [float(value) for value in re.findall(r"-?[\d.]+", node.get("transform"))[-2:]]
        for node in ET.fromstring(data).iter(f"{SVG}text")
        if node.get("transform")
    }
    assert where["0.50"][1] < where["0.90"][1]
    assert where["0.50"][0] < where["not run"][0]
    fills = re.findall(r"fill: (#[0-9a-f]{6})", ET.tostring(groups(data, "QuadMesh_1")[0]).decode())
    levels = [[int(fill[place : place + 2], 16) for place in (1, 3, 5)] for fill in fills]
    expected = [(0x7F, 0xB5, 0xDC), (0xEC, 0xEC, 0xEC), (0x17, 0x4F, 0x8B), (0xFF, 0xFF, 0xFF)]
    np.testing.assert_allclose(levels, expected, atol=2)
    assert "#111111" in data.decode()


def test_bars_are_drawn_upwards_and_sideways():
    made = axes("loss", unit=False)
    made.add_bar(x=["dice", "bce"], y=[0.2, 0.6], marker={"color": "#D55E00"})
    sideways = axes("loss", unit=False)
    sideways.add_bar(y=["dice", "bce"], x=[0.2, 0.6], orientation="h")
    for drawn in (made, sideways):
        data = svg.svg(figure(drawn))
        assert {"dice", "bce"} <= set(texts(data))
    assert "#d55e00" in svg.svg(figure(made)).decode()


def test_markup_of_names_is_shown_and_not_obeyed():
    drawn = line([0, 1], [0.2, 0.4])
    drawn.add_annotation(x=0.5, y=0.5, text="<i>a &lt;b&gt; &amp; $x_1$</i><br>two", showarrow=False)
    found = texts(svg.svg(figure(drawn, title="<script>alert(1)</script> $\\frac{1}$")))
    assert "<script>alert(1)</script> $\\frac{1}$" in found
    assert "a <b> & $x_1$" in found


def test_the_same_data_give_the_same_bytes():
    assert svg.svg(figure(line([0, 1], [0.2, 0.4]))) == svg.svg(figure(line([0, 1], [0.2, 0.4])))
    assert b"<dc:date>" not in svg.svg(figure(line([0, 1], [0.2, 0.4])))


def test_a_trace_that_cannot_be_drawn_is_named():
    made = axes("n")
    made.add_pie(values=[1, 2])
    with pytest.raises(ValueError, match="a pie trace cannot be drawn as SVG"):
        svg.svg(figure(made))


def test_every_curve_of_the_exposure_study_is_there(mini_study):
    data = svg.svg(figures.panels(mini_study, []))
    for domain in MINI:
        lines = groups(data, svg.line_id(domain))
        assert len(lines) == 4
        assert {len(points(node)) for node in lines} == {4}
    assert {f"Held out: {domain}" for domain in MINI} <= set(texts(data))
    heights = points(groups(data, svg.line_id(MINI[0]))[0])[:, 1]
    curve = curve_of(mini_study, MINI[0])
    values = [group.score([MINI[0]]).value for group in curve.values()]
    np.testing.assert_allclose(np.corrcoef(heights, values)[0, 1], -1, atol=1e-6)


def test_files_and_names(tmp_path):
    page = Report("t", "", [], [], [Section("s", "s", "", [figure(line([0], [0.1]), name="fig-mean")])], [])
    assert [path.name for path in svg.write(page, UPath(tmp_path))] == ["fig-mean.svg"]
    ET.parse(tmp_path / "fig-mean.svg")
    with pytest.raises(ConfigError, match=r'unknown figure of this report "fig-men"; did you mean "fig-mean"'):
        svg.write(page, UPath(tmp_path), "fig-men")
