import pytest

from tests import small_clip


@pytest.fixture(scope="session", autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    small_clip.register(tmp_path_factory.mktemp("models"))
