"""Checks a tag before it is published: version, change log and citation agree with it."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def disagreements(tag: str, root: Path = ROOT) -> list[str]:
    """Return what does not agree with a tag such as v0.1.0."""
    source = (root / "kanbatsu" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)
    wrong = []
    if tag != f"v{version}":
        wrong.append(f"the tag is {tag}, and kanbatsu/__init__.py says {version}")
    if f"\nversion: {version}\n" not in (root / "CITATION.cff").read_text():
        wrong.append(f"CITATION.cff has another version than {version}")
    heading = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if not re.search(heading, (root / "CHANGELOG.md").read_text(), re.MULTILINE):
        wrong.append(f"CHANGELOG.md has no section {version} with a date")
    return wrong


if __name__ == "__main__":
    found = disagreements(sys.argv[1])
    print("\n".join(found) or "version, change log and citation agree")
    sys.exit(bool(found))
