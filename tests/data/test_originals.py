"""What was changed of an original, by hand-made pictures: `changed`, the judgement of a mask, and the words."""

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from dfloc.data import alignment
from dfloc.data.alignment import MaskComparison, MaskVerdict, compared, judge, together, words
from dfloc.data.originals import changed
from tests.cases.originals import BOX, HEIGHT, WIDTH, Pixels, smooth, triple


def encoded(pixels: Pixels, quality: int = 85) -> Pixels:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


def test_shares_are_counted_on_each_side() -> None:
    original = np.zeros((10, 20, 3), np.uint8)
    image, mask = original.copy(), np.zeros((10, 20), np.uint8)
    mask[:5, :10] = 255
    image[:5, :4, 2] = 1  # 20 of 50 inside
    image[9, :3, 0] = 1  # 3 of 150 outside
    assert changed(image, original, mask) == (20 / 50, 3 / 150, False)
    assert changed(image, original, 255 - mask) == (3 / 150, 20 / 50, False)
    assert changed(image, original, np.full_like(mask, 255)) == (23 / 200, None, False)
    assert changed(image, original, np.zeros_like(mask)) == (None, 23 / 200, False)
    assert changed(image, original, np.where(mask, 128, 127).astype(np.uint8)) == (20 / 50, 3 / 150, False)


@pytest.mark.parametrize("quality", [75, 85, 95])
def test_encoding_anew_is_no_change(quality: int) -> None:
    fake, original, mask = triple(0)
    found = changed(encoded(fake, quality), original, mask)
    assert (encoded(fake, quality) != original).any(axis=2)[mask == 0].mean() > 0.5, "most pixels outside do differ"
    assert found.inside is not None
    assert found.outside is not None
    assert found.inside > 0.8
    assert found.outside < 0.1
    assert found.everywhere


def test_a_larger_original_is_resized_and_another_shape_is_not_compared() -> None:
    original = smooth(3, 2 * HEIGHT, 2 * WIDTH)
    fake = np.asarray(Image.fromarray(original).resize((WIDTH, HEIGHT), Image.Resampling.BOX)).copy()
    _, _, mask = triple(3)
    fake[BOX] = 255 - fake[BOX]
    found = changed(fake, original, mask)
    assert found.inside is not None
    assert found.outside is not None
    assert found.inside > 0.8
    assert found.outside < 0.1
    assert changed(fake, original[:, : WIDTH + 4], mask) == (None, None, False)
    assert judge(fake, original[:, : WIDTH + 4], mask).verdict == alignment.UNCOMPARED


SPOILT: dict[str, tuple[Callable[[Pixels], Pixels], str]] = {
    "right": (lambda mask: mask, "fits"),
    "inverted": (lambda mask: 255 - mask, "inverted"),
    "shifted": (lambda mask: np.roll(mask, (3, -7), (0, 1)), "moved 7 -3"),
    "far": (lambda mask: np.roll(mask, 20, 1), "moved -20 0"),
    "half": (lambda mask: mask[::-1, ::-1], "turned by 180 degrees"),
    "left": (lambda mask: np.rot90(mask), "turned by 90 degrees to the right"),
    "right turn": (lambda mask: np.rot90(mask, -1), "turned by 90 degrees to the left"),
    "mirror": (lambda mask: mask[:, ::-1], "mirrored left to right"),
    "upside down": (lambda mask: mask[::-1], "mirrored top to bottom"),
    "transposed": (lambda mask: mask.T, "with rows and columns exchanged"),
    "both": (lambda mask: 255 - mask[::-1, ::-1], "inverted, turned by 180 degrees"),
    "real": (np.zeros_like, "partly"),
}


@pytest.mark.parametrize(("spoil", "verdict"), SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("anew", [False, True], ids=["exact", "encoded"])
def test_what_is_wrong_with_a_mask_is_named(spoil: Callable[[Pixels], Pixels], verdict: str, anew: bool) -> None:
    """The box has another place after every turn, so that each has one cure."""
    for seed in range(3):
        fake, original, mask = triple(seed)
        found = judge(encoded(fake) if anew else fake, original, np.ascontiguousarray(spoil(mask))).verdict
        if anew and verdict == "fits":
            assert found == alignment.ENCODED
        elif anew and verdict.startswith("moved"):
            right, down = (int(number) for number in found.split()[1:])
            assert [right, down] == pytest.approx([int(number) for number in verdict.split()[1:]], abs=2)
        else:
            assert found == verdict


def test_a_whole_picture_made_anew_says_nothing_of_a_mask() -> None:
    for seed in range(4):
        _, original, mask = triple(seed)
        found = judge(smooth(seed + 100), original, mask)
        assert found.verdict == alignment.ANEW
        assert found.inside == pytest.approx(found.outside, abs=0.3)


def test_equal_pictures_and_parts_that_no_mask_covers() -> None:
    fake, original, mask = triple(0)
    assert judge(original, original, mask).verdict == alignment.UNCHANGED
    fake[60:90, 5:90] = 255 - fake[60:90, 5:90]
    assert judge(fake, original, mask).verdict == alignment.PARTLY


def test_a_picture_of_many_pixels_is_judged_on_a_coarser_grid() -> None:
    fake, original, mask = (pixels.repeat(8, 0).repeat(8, 1) for pixels in triple(1))
    assert judge(fake, original, np.roll(mask, 48, 1)).verdict == "moved -48 0", "in its own pixels"


def test_means_and_verdicts_of_several() -> None:
    judged = [
        MaskVerdict(1.0, 0.0, "fits"),
        MaskVerdict(0.5, None, "fits"),
        MaskVerdict(None, None, alignment.UNCOMPARED),
    ]
    first = MaskComparison(images=2, inside=0.75, outside=0.0, verdicts={"fits": 2, "not compared": 1})
    assert compared(judged) == first
    assert compared([]) is None
    second = MaskComparison(images=6, inside=0.25, outside=0.5, verdicts={"fits": 6})
    assert together([first, None, second]) == MaskComparison(
        images=8, inside=0.375, outside=0.375, verdicts={"fits": 8, "not compared": 1}
    )
    assert together([None]) is None


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ({"fits": 20}, []),
        ({"fits": 19, "inverted": 1}, []),
        (
            {"inverted": 4},
            [r"4 of 4 masks have the wrong polarity.*folder pair: --domain .* --masks DIR --fake-is black"],
        ),
        ({"moved 8 -3": 3, "moved 7 -3": 2, "fits": 1}, [r"5 of 6 .*moved by about 8 pixels right and 3 pixels up"]),
        ({"moved 8 0": 3, "moved -20 5": 2, "moved 0 9": 2}, ["7 of 7 .*each by another way"]),
        ({"turned by 180 degrees": 2}, ["2 of 2 masks fit their originals only when turned by 180 degrees"]),
        ({"encoded anew": 9, "fits": 1}, ["9 of 10 masks lie on images that were encoded anew"]),
        ({"made anew": 2, "inverted": 2}, ["as much as inside", "wrong polarity"]),
        ({"unchanged": 1}, ["equal to their originals"]),
        ({"not compared": 1, "fits": 9}, ["1 of 10 masks cannot be compared with an original"]),
    ],
)
def test_words_say_what_is_wrong(verdicts: dict[str, int], said: list[str]) -> None:
    images = sum(verdicts.values()) - verdicts.get("not compared", 0)
    found = MaskComparison(images=images, inside=0.25, outside=0.5, verdicts=verdicts)
    lines = list(words("mine/sd", "fake_is_white", found))
    assert len(lines) == len(said)
    for line, expected in zip(lines, said, strict=True):
        assert line.startswith("mine/sd: ")
        assert line.endswith("(changed inside 25.0%, outside 50.0% of the masks)")
        assert re.search(expected, line), line
