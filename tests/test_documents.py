"""Every page is in the navigation, and every link leads somewhere."""

import importlib
import re

import pytest

from networks import ROOT, load_tool

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES]
# A link or a picture, whose text may be broken into lines; code is not looked at.
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|^    .*?$|`[^`]*`", re.DOTALL | re.MULTILINE)


def anchors(path):
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading).lower() for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    text = CODE.sub("", path.read_text(encoding="utf-8"))
    for link in LINK.findall(text):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists() and target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation():
    yaml = pytest.importorskip("yaml")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    site = load_tool("site_hooks")
    listed = list(leaves(site.expanded(settings["nav"])))
    assert len(listed) == len(set(listed))
    outside = {site.HOME, *site.PAGES_OUTSIDE}
    assert set(listed) - outside == {page.removeprefix("docs/") for page in PAGES}
    assert outside <= set(listed)


def leaves(entries):
    for entry in entries:
        (value,) = entry.values()
        if isinstance(value, str):
            yield value
        else:
            yield from leaves(value)


@pytest.mark.parametrize("page", sorted((DOCS / "api").glob("*.md")), ids=str)
def test_reference_names_what_there_is(page):
    (name,) = re.findall("^::: (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert page.stem == name.removeprefix("keras_shift.")
    importlib.import_module(name)
