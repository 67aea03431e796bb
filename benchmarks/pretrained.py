"""Retrain the models that come with the course, and print the checksums of their files.

Run it with ``python -m benchmarks.pretrained`` for the small models, or with the names of some;
that on MNIST takes hours. It trains each model as specified in
`hvae_course.pretrained.PRETRAINED`, writes its weights to ``hvae_course/pretrained``, and prints
size and SHA-256 of the file for that table. An interrupted run resumes from its last epoch when it
is started again.
"""

import argparse
import hashlib
from pathlib import Path

from hvae_course.pretrained import PRETRAINED, train
from hvae_course.training import Checkpoint, save_checkpoint

ROOT = Path(__file__).parents[1]
OUT = ROOT / "hvae_course/pretrained"
SCRATCH = ROOT / "runs/pretrained"
"""Folder of the checkpoints of unfinished runs; a finished run leaves nothing there."""


def write(name: str, out: Path, *, scratch: Path = SCRATCH, epochs: int | None = None) -> Path:
    """Train one model, and write its weights and configuration to a file, which is returned.

    An interrupted run resumes from a checkpoint in the folder ``scratch``.
    """
    path = out / f"{name}.pt"
    # the decay of the learning rate depends on the number of epochs, and with it the run
    resumable = scratch / f"{name}_{epochs or 'all'}_epochs.pt"
    model, history = train(name, epochs=epochs, checkpoint=resumable)
    save_checkpoint(Checkpoint(model.config, model.cpu().state_dict()), path)
    resumable.unlink()
    print(f"{name}: ELBO {history.best('elbo'):.2f} nats per example, epoch {history.best_epoch}")
    return path


def main() -> None:
    """Train the named models, and print size and checksum of their files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PRETRAINED)}")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, metavar="FOLDER")
    parser.add_argument(
        "--epochs", type=int, default=None, help="by default the number in the table"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PRETRAINED):
        parser.error(
            f"no model {', '.join(sorted(unknown))}; choose among {', '.join(PRETRAINED)}"
        )
    small = [name for name, entry in PRETRAINED.items() if entry.experiment.data.data != "mnist"]
    for name in arguments.names or small:
        path = write(name, arguments.out, scratch=arguments.scratch, epochs=arguments.epochs)
        content = path.read_bytes()
        print(f"{path}: {len(content) / 1e6:.2f} MB")
        print(f'sha256="{hashlib.sha256(content).hexdigest()}",')


if __name__ == "__main__":
    main()
