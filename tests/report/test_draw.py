import re
from dataclasses import replace

import numpy as np
import pytest
from upath import UPath

from dfloc.errors import ConfigError
from dfloc.metrics.metric import IOU
from dfloc.report import draw, figures, files
from dfloc.report.chart import Axis, Bars, Figure, Heat, LegendKey, Lines, Mark, Panel, Series, Tile, scale
from dfloc.report.page import Report, Section
from tests.report.conftest import curve_of
from tests.report.drawn import SVG, named, overlaps, points, root, texts, titles
from tests.report.studies import MINI

N = Axis("n, images of the held-out domain")


def figure(*charts: Lines | Heat | Bars, title="A panel", legend=()) -> Figure:
    return Figure(
        id="fig",
        title="Title.",
        caption="Caption.",
        panels=[Panel(title, each, "words") for each in charts],
        legend=legend,
    )


def line(*marks: Mark | tuple, **more) -> Lines:
    return Lines([Series("a line", [Mark(*mark) for mark in marks], "#0072B2", **more)], N, scale(IOU, "test"))


def test_text_stays_text_and_data_lie_where_they_should():
    drawn = figure(line((0, 0.2), (10, 0.5), (40, 0.9)), legend=[LegendKey("of the legend", "#0072B2")])
    assert {"A panel", N.label, "test IoU", "of the legend", "0.2", "1.0", "0", "10", "40"} == {
        text for text in texts(drawn) if text not in ("0.0", "0.4", "0.6", "0.8")
    }
    path, markers = map(points, named(drawn, "a line"))
    np.testing.assert_allclose(path, markers)
    ratio = (path[1] - path[0]) / (path[2] - path[0])
    np.testing.assert_allclose(ratio, [10 / 40, 0.3 / 0.7], atol=1e-3)
    assert path[2, 1] < path[0, 1]


def test_the_unit_of_an_axis_is_kept():
    heights = [points(named(figure(line((0, 0.5), (1, top))), "a line")[0])[:, 1] for top in (0.6, 0.9)]
    assert heights[0][0] == pytest.approx(heights[1][0])
    assert (heights[1][0] - heights[1][1]) / (heights[0][0] - heights[0][1]) == pytest.approx(4, rel=1e-3)


def test_values_stand_by_factors_where_their_gaps_differ_fivefold_and_0_is_shown():
    spread = figure(line(*((n, 0.5) for n in (0, 4, 16, 64, 256))))
    across = points(named(spread, "a line")[0])[:, 0]
    assert {"0", "4", "16", "64", "256", f"{N.label} (log scale from 4 on)"} <= set(texts(spread))
    np.testing.assert_allclose(np.diff(across[1:]), np.diff(across)[1], rtol=1e-3)
    assert across[1] - across[0] > 15
    even = points(named(figure(line(*((n, 0.5) for n in (0, 16, 32, 64)))), "a line")[0])[:, 0]
    np.testing.assert_allclose(np.diff(even) / (even[1] - even[0]), [1, 1, 2], rtol=1e-3)


def test_each_small_n_beside_a_large_one_has_its_tick_and_its_label():
    spread = figure(line(*((n, 0.5) for n in (4, 16, 48, 3000))))
    assert {"4", "16", "48", "3,000"} <= set(texts(spread))
    across = points(named(spread, "a line")[0])[:, 0]
    assert min(np.diff(across)) > 25, "points"
    assert overlaps(spread) == []


def test_an_interval_below_0_is_drawn_on_an_axis_that_goes_there():
    axis = Axis("lost", {-0.2: "-0.2", 0: "0.0", 0.2: "0.2"}, (-0.2, 0.2))
    series = Series("a line", [Mark(0, 0.0, (-0.1, 0.1)), Mark(1, 0.1, (-0.1, 0.1))], "#0072B2")
    ends = points(named(figure(Lines([series], N, axis)), "a line")[0])[:, 1]
    bar = next(
        node for node in root(figure(Lines([series], N, axis))).iter(f"{SVG}path") if "opacity" in str(node.attrib)
    )
    found = np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", bar.get("d", "")), dtype=float)[:2, 1]
    assert np.ptp(found) == pytest.approx(2 * abs(ends[1] - ends[0]), rel=1e-2)


def test_ticks_of_many_values_are_thinned_evenly_and_of_few_put_on_two_lines():
    many = figure(line(*((n, 0.5) for n in range(0, 3001, 250))))
    assert [text for text in texts(many) if text in {f"{n:,}" for n in range(0, 3001, 250)}] == [
        f"{n:,}" for n in range(0, 3001, 500)
    ]
    layers = [3, 7, 11, 15, 19, 20, 23]
    assert {str(layer) for layer in layers} <= set(texts(figure(line(*((layer, 0.5) for layer in layers)))))


def test_dashes_and_intervals_are_drawn():
    plain, dashed = figure(line((0, 0.2), (1, 0.4))), figure(line((0, 0.2), (1, 0.4), dash="dash"))
    assert [
        "stroke-dasharray" in str([e.attrib for e in named(each, "a line")[0].iter()]) for each in (plain, dashed)
    ] == [False, True]
    spans = [(0, 0.2, (0.1, 0.3)), (1, 0.4, (0.2, 0.6))]
    counts = [len(list(root(figure(line(*spans, bars=bars))).iter(f"{SVG}path"))) for bars in (True, False)]
    assert counts[0] == counts[1] + 1


def test_points_of_one_place_stand_side_by_side():
    chart = Lines(
        [Series(str(shift), [Mark(1, 0.5)], "#000000", shift=shift) for shift in (0, 4)], N, scale(IOU, "test")
    )
    left, right = (points(named(figure(chart), name)[1])[0] for name in "04")
    assert right[0] - left[0] == pytest.approx(3, abs=0.02), "4 pixels are 3 points"


def test_markers_have_the_shape_of_each_point():
    chart = line((0, 0.2), (1, 0.3, None, "x"), (2, 0.4, None, "diamond-open"), (3, 0.5))
    _, *marks = named(figure(chart), "a line")
    assert [len(points(each)) for each in marks] == [2, 1, 1]
    hollow = "".join(node.get("style", "") for node in marks[2].iter())
    assert "fill:#ffffff" in hollow
    assert "stroke:#0072b2" in hollow


def test_a_pointer_is_told_a_number_its_interval_and_what_else_is_known():
    chart = line((16, 0.5, (0.4, 0.6), "", ["80 steps", "4 runs"]))
    assert titles(figure(chart)) == ["a line, n 16: 0.500 (0.400 … 0.600)\n80 steps\n4 runs"]
    (value,) = chart.values
    assert (value.series, value.x, value.value, value.span, value.notes) == (
        "a line",
        "16",
        0.5,
        (0.4, 0.6),
        ["80 steps", "4 runs"],
    )


def heat() -> Heat:
    tiles = [
        [Tile(0.5, "0.50", ["COLLAPSED"], framed=True), Tile(None, "not run", [])],
        [Tile(0.9, "0.90", []), Tile(0.0, "0.00", [])],
    ]
    return Heat(["celebahq/ldm", "mini/telea"], ["celebahq/ldm", "mini/telea"], tiles, "trained on", "tested on")


def test_a_heat_map_has_its_numbers_heads_holes_and_frames():
    found = texts(figure(heat()))
    assert [found.count(text) for text in ("0.50", "0.90", "0.00", "not run", "celebahq/ldm")] == [1, 1, 1, 1, 2]
    tiles = [node for node in root(figure(heat())).iter(f"{SVG}path") if node.find(f"{SVG}title") is not None]
    fills = [re.search(r"fill:#([0-9a-f]{6})", node.get("style"))[1] for node in tiles]
    levels = [[int(fill[place : place + 2], 16) for place in (0, 2, 4)] for fill in fills]
    expected = [(0x7F, 0xB5, 0xDC), (0xEC, 0xEC, 0xEC), (0x17, 0x4F, 0x8B), (0xFF, 0xFF, 0xFF)]
    np.testing.assert_allclose(levels, expected, atol=2)
    assert ["#111111" in node.get("style") for node in tiles] == [True, False, False, False]
    assert titles(figure(heat()))[:2] == [
        "tested on celebahq/ldm, trained on celebahq/ldm: 0.500\nCOLLAPSED",
        "tested on celebahq/ldm, trained on mini/telea\nnot run",
    ]


def test_shares_are_bars_from_the_top():
    drawn = figure(Bars({"lr": 0.8, "loss": 0.2}, "share"))
    assert {"lr", "loss", "80 %", "20 %"} <= set(texts(drawn))
    lr, loss = (points(named(drawn, name)[0]) for name in ("lr", "loss"))
    assert np.ptp(lr[:, 0]) == pytest.approx(4 * np.ptp(loss[:, 0]), rel=1e-2)
    assert lr[:, 1].mean() < loss[:, 1].mean()


def test_markup_of_names_is_shown_and_not_obeyed():
    evil = "<script>alert(1)</script> $\\frac{1}$ a <b> & c"
    drawn = figure(Bars({evil: 0.5}, "share"), title=evil, legend=[LegendKey(evil, "#000000")])
    assert texts(drawn).count(evil) >= 1
    assert b"<script" not in files.drawn(drawn, "svg")


def test_long_names_break_and_nothing_overlaps():
    names = [f"{'a-very-long-generator-of-somebody' * 2}/{i}" for i in range(6)]
    tiles = [[Tile(None, "not scored by dolos-2024", []) for _ in names] for _ in names]
    ranked = Lines(
        [Series("ID", [Mark(i, 0.5) for i in range(6)], "#000000")],
        Axis("IoU"),
        Axis("Model", dict(enumerate(names))),
        True,
    )
    drawn = figure(
        Heat(names, names, tiles, "trained on", "tested on"),
        ranked,
        title=names[0],
        legend=[LegendKey(name, "#000000") for name in names],
    )
    assert overlaps(drawn) == []


def test_texts_that_overlap_are_found():
    drawn = figure(Heat(["row"], ["a" * 9, "b" * 9], [[Tile(0.5, "x", []), Tile(0.5, "y", [])]], "trained on", ""))
    assert overlaps(drawn) == []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "wrapped", lambda text, *_: [text * 5])
        assert ("a" * 45, "b" * 45) in overlaps(drawn)


@pytest.mark.parametrize("kind", files.KINDS)
def test_the_same_data_give_the_same_bytes_without_a_date_whatever_the_user_s_settings_are(kind, tmp_path):
    import matplotlib as mpl

    first = files.drawn(figure(line((0, 0.2), (1, 0.4)), heat()), kind)
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.hashsalt": None}):
        assert files.drawn(figure(line((0, 0.2), (1, 0.4)), heat()), kind) == first
        assert mpl.rcParams["font.size"] == 20
    assert first.startswith({"svg": b"<svg", "pdf": b"%PDF", "png": b"\x89PNG"}[kind])
    assert b"CreationDate" not in first


def test_every_curve_of_the_exposure_study_is_there(mini_study):
    drawn = figures.panels(mini_study, [])
    for domain in MINI:
        lines = named(drawn, domain)[::2]
        assert len(lines) == 4
        assert {len(points(node)) for node in lines} == {4}
    assert {f"Held out: {domain}" for domain in MINI} <= set(texts(drawn))
    heights = points(named(drawn, MINI[0])[0])[:, 1]
    values = [group.score([MINI[0]]).value for group in curve_of(mini_study, MINI[0]).values()]
    np.testing.assert_allclose(np.corrcoef(heights, values)[0, 1], -1, atol=1e-4)


def test_files_and_names(tmp_path):
    drawn = replace(figure(line((0, 0.1))), id="fig-mean")
    page = Report("t", "", [], [], [Section("s", "s", "", [drawn])], [])
    assert [path.name for path in files.write(page, UPath(tmp_path), "pdf")] == ["fig-mean.pdf"]
    assert (tmp_path / "fig-mean.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ConfigError, match=r'unknown figure of this report "fig-men"; did you mean "fig-mean"'):
        files.write(page, UPath(tmp_path), "svg", "fig-men")


def test_a_file_says_alone_where_its_numbers_come_from():
    source = ["Protocol declip-2025.", "Training seeds 0, sampling seeds 0."]
    drawn = replace(figure(line((0, 0.1))), title="T.", caption="C.", source=source, shared=frozenset(source))
    assert root(drawn).get("aria-label") == f"T. C. {' '.join(source)}"
    for kind, lead in (
        ("pdf", b"/Subject (C. Protocol declip-2025."),
        ("png", b"Description\0C. Protocol declip-2025."),
    ):
        assert lead in files.drawn(drawn, kind)
