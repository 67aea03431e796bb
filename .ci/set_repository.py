"""Set the address of the repository, in pyproject.toml and in every file that repeats it."""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parent.parent
ADDRESS = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)")


def current() -> str:
    """Owner and name as pyproject.toml has them.

    Returns:
        For instance ``"owner/name"``.
    """
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("Repository = "))
    return ADDRESS.search(line)[1]


def main(address: str) -> None:
    """Replace the old address everywhere git tracks it.

    Args:
        address: for instance ``https://github.com/owner/name``.
    """
    match = ADDRESS.fullmatch(address.removesuffix("/").removesuffix(".git"))
    if match is None:
        sys.exit(f"expected URL=https://github.com/owner/name, got {address!r}")
    old, new = current(), match[1]
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for path in (PROJECT / name for name in tracked):
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        changed = re.sub(rf"(github(?:\.com)?/){re.escape(old)}\b", rf"\g<1>{new}", text)
        if changed != text:
            path.write_text(changed, encoding="utf-8")
            print(path.relative_to(PROJECT))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
