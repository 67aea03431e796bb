"""Make executed notebooks the same on every machine.

Removes what differs between two runs without meaning anything: execution times, the author's
kernel name and version, warnings on stderr, and the pieces in which printed text arrived. Figures
lose an alpha channel that is opaque throughout. Notes what the results follow from
(`notebook_results`).
"""

import base64
import io
import sys
from pathlib import Path

import nbformat
import notebook_results
from PIL import Image

from hvae_course.files import write_whole


def _joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs with printed text in one piece."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].output_type == "stream":
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _without_alpha(picture: str) -> str:
    """A PNG in base64 without its alpha channel, if all of its pixels are opaque."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        if image.mode != "RGBA" or image.getchannel("A").getextrema() != (255, 255):
            return picture
        resolution = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
        file = io.BytesIO()
        image.convert("RGB").save(file, "png", optimize=True, **resolution)
    return base64.b64encode(file.getvalue()).decode()


def tidy(path: Path) -> None:
    """Tidy one notebook in place, whole or not at all.

    Args:
        path: the notebook.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        notebook_results.KEY: notebook_results.fingerprint(notebook),
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _joined([o for o in cell.outputs if o.get("name") != "stderr"])
            for output in cell.outputs:
                if "image/png" in output.get("data", {}):
                    output.data["image/png"] = _without_alpha(output.data["image/png"])
    text = nbformat.writes(notebook).removesuffix("\n") + "\n"
    write_whole(path, lambda file: file.write(text.encode()))


if __name__ == "__main__":
    for name in sys.argv[1:]:
        tidy(Path(name))
