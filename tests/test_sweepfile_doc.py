"""docs/SWEEPFILE.md has every key that the models check, and examples that are valid."""

import jsonschema
import pytest
from pydantic import BaseModel

from dfloc.sweep import json_schema, yaml_text
from tests import sweepfile


def test_the_page_is_what_the_models_say() -> None:
    assert sweepfile.PAGE.read_text() == sweepfile.page(), "write it anew: python -m tests.sweepfile"


@pytest.mark.parametrize("model", json_schema.MODELS, ids=lambda model: model.__name__)
def test_every_key_has_a_meaning_and_a_valid_example(model: type[BaseModel]) -> None:
    definitions = json_schema.schema()["$defs"]
    validator = jsonschema.Draft202012Validator(definitions[model.__name__] | {"$defs": definitions})
    for key, _ in sweepfile.keys(model):
        example = sweepfile.example(model, key)
        assert example, key
        assert validator.is_valid(yaml_text.Text(f"{key}: {example}", "here").values), (key, example)
        assert f"`{key}`" in sweepfile.page()


def test_every_definition_of_the_schema_is_on_the_page() -> None:
    assert json_schema.schema()["$defs"].keys() - {"CellAsk", "TrainPart"} == sweepfile.SECTIONS.keys()
