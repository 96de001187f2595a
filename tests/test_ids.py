"""The names of samples and maps."""

import pytest

from dfloc.data.dolos import reference
from dfloc.ids import MapName, SampleId


@pytest.mark.parametrize(
    ("file", "bare"),
    [
        ("00017.png", "00017"),
        ("v1.2/abc", "v1.2/abc"),
        ("v1.2/abc.png", "v1.2/abc"),
        ("v1.2/b.3/abc.tar.png", "v1.2/b.3/abc.tar"),
        (".hidden", ".hidden"),
        ("a..png", "a."),
    ],
)
def test_an_id_is_taken_apart_whatever_dots_its_folders_have(file: str, bare: str) -> None:
    found = SampleId.of(f"mine/sd-1.5/test/{file}")
    assert found == ("mine", "sd-1.5", "test", file)
    assert (found.domain, found.place) == ("mine/sd-1.5", ("mine/sd-1.5", "test"))
    assert (found.bare, found.pair) == (bare, f"mine/{bare}")
    assert str(found) == f"mine/sd-1.5/test/{file}"


def test_an_imported_file_has_the_names_that_its_id_says(tmp_path) -> None:  # type: ignore[no-untyped-def]
    sample = reference("v1.2/abc-3.png", tmp_path, "mine/sd", "test", "soft")
    assert (sample.id, sample.pair, sample.stem) == ("mine/sd/test/v1.2/abc-3.png", "mine/v1.2/abc-3", "mine/v1.2/abc")
    assert (sample.name, SampleId.of(sample.id).pair) == ("v1.2/abc-3.png", sample.pair)


def test_a_map_is_of_a_backbone_and_may_have_no_name() -> None:
    assert MapName.of("clip-vit-l14/layer20") == ("clip-vit-l14", "layer20")
    assert MapName.of("timm:vit_base/blocks/11") == ("timm:vit_base", "blocks/11")
    assert MapName.of("pixels") == ("pixels", "")
