import pytest

from dfloc.report.sheet import SMALLEST, fitted, text_width, unbroken, wrapped


def test_a_line_ends_after_a_word_then_after_a_sign_then_anywhere():
    width = text_width("celebahq/ldm,", 8)
    assert wrapped("depth = 12, celebahq/ldm", width, 8) == ["depth = 12,", "celebahq/ldm"]
    assert wrapped("without-celebahq/repaint", width, 8) == ["without-", "celebahq/", "repaint"]
    long = "x" * 40
    assert len(wrapped(long, width, 8)) > 1
    assert "".join(wrapped(long, width, 8)) == long
    assert all(text_width(line, 8) <= width for line in wrapped(long, width, 8))


def test_a_text_becomes_smaller_until_it_has_room():
    width = text_width("unfinished", 8) * 0.8
    font = unbroken("unfinished", width, 8)
    assert SMALLEST < font < 8
    assert text_width("unfinished", font) <= width < text_width("unfinished", font + 0.5)
    assert fitted("not scored by dolos-2024", 400, 9, most=1) == (["not scored by dolos-2024"], 9)
    assert fitted("a b c d e f", 1, 9, most=2) == (["a", "b"], SMALLEST)


@pytest.mark.parametrize("weight", ["normal", "bold"])
def test_width_is_proportional_to_size_and_bold_is_wider(weight):
    assert text_width("panel", 18, weight) == pytest.approx(2 * text_width("panel", 9, weight), rel=0.1)
    assert text_width("panel", 9, "bold") > text_width("panel", 9)
