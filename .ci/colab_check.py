"""Run the notebooks as a hosted service would: ``make colab-check``.

Twice, with the newest versions of the libraries and with the lowest that pyproject.toml allows: a
new environment without the course's package. The set-up cell installs it from this clone (the last
commit) in place of the repository's address; tables are read from the clone too. Every chapter's
notebook and every student copy runs from an empty folder. Date, versions, commit and minutes go
into `colab_check.json`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import venv
from datetime import date
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from set_repository import current

from hvae_course.files import write_whole

PROJECT = Path(__file__).parent.parent
RECORD = PROJECT / ".ci/colab_check.json"
NOTEBOOKS = [
    *sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb")),
    *sorted((PROJECT / "notebooks/student").glob("*.ipynb")),
]
JUPYTER = ("ipykernel", "matplotlib-inline")


def requirements(lowest: bool) -> list[str]:
    """Read what the package asks for.

    Args:
        lowest: whether to stay at the lowest release of each library.

    Returns:
        Requirements for pip.
    """
    text = (PROJECT / "pyproject.toml").read_text("utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    names = re.findall(r'"([^"]+)"', block[1])
    # the last patch of the lowest release: others exclude some first ones
    return [f"{n.replace('>=', '~=')}.0" if lowest else n.partition(">=")[0] for n in names]


def make_environment(folder: Path, lowest: bool) -> Path:
    """Create an environment with a kernel but without the package.

    Args:
        folder: where.
        lowest: whether to install the lowest versions.

    Returns:
        Its Python.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements(lowest), *JUPYTER], check=True)
    kernel = ["ipykernel", "install", "--prefix", folder, "--name", "hosted"]
    subprocess.run([python, "-m", *kernel], check=True, capture_output=True)
    return python


def run(path: Path, folder: Path) -> str | None:
    """Run a notebook in the environment's kernel.

    Args:
        path: the notebook; the copy in memory is changed, the file is not.
        folder: working directory.

    Returns:
        What went wrong, if anything.
    """
    notebook, published = nbformat.read(path, as_version=4), f"https://github.com/{current()}"
    for cell in notebook.cells:
        local = cell.source.replace(published, f"file://{PROJECT}")
        cell.source = local.replace("/raw/main/", "/")
    client = NotebookClient(
        notebook,
        kernel_name="hosted",
        timeout=1800,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return str(error)
    return None


def versions(python: Path) -> dict[str, str]:
    """List what the environment holds of the libraries that the package asks for.

    Args:
        python: of the environment.

    Returns:
        Versions by name, and that of Python.
    """
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
    )
    wanted = {*requirements(lowest=False)}
    have = {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}
    found = {name: version for name, version in sorted(have.items()) if name in wanted}
    return {"python": sys.version.split()[0], **found}


def check(name: str, chosen: list[Path]) -> tuple[dict, list[str]]:
    """Run notebooks with one set of versions.

    Args:
        name: "newest" or "lowest".
        chosen: the notebooks.

    Returns:
        What is to be recorded, and the notebooks that failed.
    """
    failed, start = [], time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        environment, work = Path(place, "environment"), Path(place, "work")
        work.mkdir()
        python = make_environment(environment, name == "lowest")
        os.environ["JUPYTER_PATH"] = str(environment / "share/jupyter")
        for path in chosen:
            problem = run(path, work)
            title = f"{name}: {path.relative_to(PROJECT)}"
            print(f"{title}: {'failed' if problem else 'ok'}", flush=True)
            if problem:
                print(problem, flush=True)
                failed.append(title)
        minutes = round((time.monotonic() - start) / 60, 1)
        return {"versions": versions(python), "minutes": minutes}, failed


def main() -> None:
    """Run both checks and record them if nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("newest", "lowest"), help="one of the two, no record")
    parser.add_argument("names", nargs="*", help="parts of notebook names; by default all")
    options = parser.parse_args()
    chosen = [p for p in NOTEBOOKS if not options.names or any(n in p.stem for n in options.names)]
    git = ["git", "-C", PROJECT, "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    record: dict = {"date": date.today().isoformat(), "commit": commit, "notebooks": len(chosen)}
    failures: list[str] = []
    for name in [options.only] if options.only else ["newest", "lowest"]:
        record[name], failed = check(name, chosen)
        failures += failed
    if failures:
        sys.exit("failed:\n" + "\n".join(failures))
    if not options.only and not options.names:
        write_whole(RECORD, lambda file: file.write(f"{json.dumps(record, indent=2)}\n".encode()))
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
