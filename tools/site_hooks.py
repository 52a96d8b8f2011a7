"""What mkdocs.yml has mkdocs do, so that documents which GitHub shows make a site, too.

README.md becomes the home page. Links that leave docs/ lead to copies in the site: of
files beside the pages, such as pictures and programs. What leads to a folder becomes
plain text, since a site has no listings.
"""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

HOME = "index.md"
# These pages of the site lie elsewhere in the repository.
PAGES_OUTSIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
# Copies of other files go into this folder of the site.
COPIES = "repository"

_PAGES = {HOME: "README.md", **PAGES_OUTSIDE}
_LINK = re.compile(
    r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?!https?:|#)([^)\s#]+)(#[^)]*)?\)"
)


def expanded(entries):
    """Returns a navigation in which `FOLDER/*` has become a list of all pages there."""
    listed = []
    for entry in entries:
        ((title, value),) = entry.items()
        if isinstance(value, list):
            value = expanded(value)
        elif value.endswith("/*"):
            found = sorted((DOCS / value).parent.glob("*.md"))
            value = [{path.stem: path.relative_to(DOCS).as_posix()} for path in found]
        listed.append({title: value})
    return listed


def on_config(config):
    """Completes the navigation."""
    config.nav = expanded(config.nav)
    return config


def on_files(files, config):
    """Adds what lies outside of docs/: pages, and what pages lead to."""
    from mkdocs.structure.files import File

    def add(source, path):
        absolute = str(ROOT / path)
        if not files.get_file_from_path(source):
            files.append(File.generated(config, source, abs_src_path=absolute))

    for source, path in _PAGES.items():
        add(source, path)
    for page in list(files.documentation_pages()):
        text = Path(page.abs_src_path).read_text(encoding="utf-8")
        for _, _, link, _ in _LINK.findall(text):
            path = _in_repository(page.src_uri, link)
            if (ROOT / path).is_file() and _in_site(path).startswith(COPIES):
                add(_in_site(path), path)
    return files


def on_page_markdown(markdown, page, config, files):
    """Leads links of GitHub's to the pages and copies of the site."""
    folder = posixpath.dirname(page.file.src_uri)

    def lead(found):
        picture, text, link, anchor = found.groups()
        path = _in_repository(page.file.src_uri, link)
        if (ROOT / path).is_dir():
            return text
        target = posixpath.relpath(_in_site(path), folder or ".")
        return f"{picture}[{text}]({target}{anchor or ''})"

    return _LINK.sub(lead, markdown)


def _in_repository(source, link):
    """Returns where a link of a page leads, as a path in the repository."""
    place = posixpath.dirname(_PAGES.get(source, f"docs/{source}"))
    return posixpath.normpath(posixpath.join(place, link))


def _in_site(path):
    """Returns where a file of the repository lies in the site."""
    for source, page in _PAGES.items():
        if path == page:
            return source
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    # mkdocs would make a page of every other .md file.
    return f"{COPIES}/{path}" + (".txt" if path.endswith(".md") else "")
