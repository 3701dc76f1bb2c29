"""What mkdocs does beside its own work: README is the home page, and links that leave docs/ lead to a page of the file.

So the texts are written once, and their links lead to files of the checkout as well as to pages of the site.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # file of the checkout -> page
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "tracker/weights/README.md": "model-card.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".ini": "ini", ".xml": "xml", ".toml": "toml"}


def page_of(file: str) -> str:
    """The page, or the picture, that shows a file or a folder of the checkout."""
    if file in PAGES:
        return PAGES[file]
    return file.removeprefix("docs/") if file.startswith("docs/") else f"source/{file}.md"


def linked(text: str, here: str) -> set[str]:
    """Files and folders of the checkout that a text links to. here: the file that holds it."""
    found = set()
    for match in LINK.finditer(text):
        if "://" not in match[2]:
            found.add(posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2])))
    return found


def source_page(file: str) -> str:
    """A page that shows a file as it is, or lists what is in a folder."""
    path = ROOT / file
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {file}\n\n"
    if path.is_dir():
        return head + "".join(f"- [{one.name}]({path.name}/{one.name})\n" for one in inside(path))
    return f"{head}````{LANGUAGES.get(path.suffix, 'text')}\n{path.read_text(encoding='utf-8')}\n````\n"


def inside(folder: Path) -> list[Path]:
    """What of a folder is shown."""
    return sorted(
        one
        for one in folder.iterdir()
        if not one.name.startswith((".", "__")) and (one.is_dir() or one.suffix in (".md", ".txt", *LANGUAGES))
    )


def on_files(files, config):
    """Add README and its like, and a page for each file that is linked to."""
    texts = {f"docs/{one.src_uri}": one.content_string for one in files.documentation_pages()}
    texts |= {file: (ROOT / file).read_text(encoding="utf-8") for file in PAGES}
    for file, page in PAGES.items():
        files.append(File.generated(config, page, content=texts[file]))
    waiting = sorted(set().union(*(linked(text, file) for file, text in texts.items())))
    known = set(PAGES)
    while waiting:
        file = waiting.pop()
        if file in known or file.startswith("docs/") or not (ROOT / file).exists():
            continue
        known.add(file)
        files.append(File.generated(config, page_of(file), content=source_page(file)))
        if (ROOT / file).is_dir():
            waiting += [one.relative_to(ROOT).as_posix() for one in inside(ROOT / file)]
    return files


def on_page_markdown(markdown, page, config, files):
    """Point links to the pages of what they name."""
    uri = page.file.src_uri
    here = next((file for file, name in PAGES.items() if name == uri), None)
    if here is None:
        here = uri.removeprefix("source/").removesuffix(".md") if uri.startswith("source/") else f"docs/{uri}"
    if uri.startswith("source/") and not (ROOT / here).is_dir():
        return markdown  # a file as it is

    def moved(match):
        if "://" in match[2]:
            return match[0]
        target = page_of(posixpath.normpath(posixpath.join(posixpath.dirname(here), match[2])))
        return f"{match[1]}{posixpath.relpath(target, posixpath.dirname(uri) or '.')}{match[3] or ''}{match[4]}"

    return LINK.sub(moved, markdown)
