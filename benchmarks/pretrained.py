"""The trained models that come with the course: their files, and the checksums to paste.

Run it with ``python -m benchmarks.pretrained``, or with the names of some models. It trains each
as `hvae_course.pretrained.PRETRAINED` says, writes its weights to ``hvae_course/pretrained``, and
prints size and SHA-256 of the file for that table. A run that is interrupted goes on from its
last epoch when it is started again.
"""

import argparse
import hashlib
from pathlib import Path

from hvae_course.pretrained import PRETRAINED, train
from hvae_course.training import Checkpoint, save_checkpoint

ROOT = Path(__file__).parents[1]
OUT = ROOT / "hvae_course/pretrained"
SCRATCH = ROOT / "runs/pretrained"
"""What an interrupted run goes on from; a finished one leaves nothing there."""


def write(name: str, out: Path, *, scratch: Path = SCRATCH, epochs: int | None = None) -> Path:
    """Train one model and write its weights and configuration.

    Args:
        name: a key of `hvae_course.pretrained.PRETRAINED`.
        out: folder of the file.
        scratch: folder of the checkpoint that an interrupted run goes on from.
        epochs: number of epochs; None for those of the table.

    Returns:
        The file.
    """
    path = out / f"{name}.pt"
    # another number of epochs may be another run, because the decay of the learning rate follows
    resumable = scratch / f"{name}_{epochs or 'all'}_epochs.pt"
    model, history = train(name, epochs=epochs, checkpoint=resumable)
    save_checkpoint(Checkpoint(model.config, model.cpu().state_dict()), path)
    resumable.unlink()
    print(f"{name}: ELBO {history.best('elbo'):.2f} nats per example, epoch {history.best_epoch}")
    return path


def main() -> None:
    """Train the models that are asked for, and print what their files are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(PRETRAINED)}")
    parser.add_argument("--out", type=Path, default=OUT, metavar="FOLDER")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, metavar="FOLDER")
    parser.add_argument("--epochs", type=int, default=None, help="instead of those of the table")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(PRETRAINED):
        parser.error(
            f"no model {', '.join(sorted(unknown))}; choose among {', '.join(PRETRAINED)}"
        )
    for name in arguments.names or PRETRAINED:
        path = write(name, arguments.out, scratch=arguments.scratch, epochs=arguments.epochs)
        content = path.read_bytes()
        print(f"{path}: {len(content) / 1e6:.2f} MB")
        print(f'sha256="{hashlib.sha256(content).hexdigest()}",')


if __name__ == "__main__":
    main()
