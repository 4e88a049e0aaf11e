import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

import pytest  # noqa: E402
import support  # noqa: E402


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Three workers in two zones, with data; whoever comes without a token may write."""
    cluster = support.filled(tmp_path_factory.mktemp("page"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def browser():
    with support.chromium() as browser:
        yield browser


@pytest.fixture
def page(cluster, browser):
    """The page, freshly opened. A script error, a refused resource or a dialog that a value brought about fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    page = context.new_page()
    said = support.listen(page)
    page.goto(cluster.sync_url("/"))
    support.until(page, "document.querySelector('#health').dataset.level")
    yield page
    context.close()
    assert said == []


@pytest.fixture
def admin(page):
    """The same, with the token of the role admin."""
    support.give_token(page, "boss")
    return page


