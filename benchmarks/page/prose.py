"""The words of the results page that stand whatever the numbers are; there are none in here.

Lines of a paragraph end where they have to: Markdown joins them.
"""

INTRODUCTION = r"""
# Results

Do the models of this course reach the numbers of the papers that they come from? What do depth,
learned priors and another posterior rule buy, and what do they cost? This page answers with
measurements. It is generated (`make results`) from one file per trained model in
`benchmarks/results`; every number below is computed from them, and so is every verdict, favourable
or not.

## How to read the numbers

All values are in {term}`nats` per image. Papers print costs, and so does this page: the bounds
have their sign turned round, and **smaller is better**. The chapters print the bounds themselves.

- **−ELBO** is minus the {term}`ELBO`, averaged over many draws per image.
- **−IW-S** is minus the importance-weighted bound {cite:p}`burda2016`: the logarithm of the mean
  of S weights $p(x, z) / q(z \mid x)$, where the ELBO has the mean of their logarithms. In
  expectation it lies between the ELBO and $\log p(x)$, closer with every further draw. What papers
  call "log-likelihood" is usually this. It is still a bound: of two numbers with different S, the
  one with more draws has an advantage.
- **±** is the standard deviation over seeds: what training the same model again would change. The
  standard error over test images says another thing: what another test set would change.

Settings were chosen on the validation split, and every model is judged with the weights of its
best validation epoch. Nothing was chosen by what came out on the test split.
""".strip()

TITLES = {
    "mnist": "## Dynamically binarised MNIST, beside the papers",
    "trials": "### Which settings matter",
    "spoils": "### What spoils such a comparison",
    "digits": "## Digits, for everybody",
    "depth": "## What every level carries, by depth",
    "cost": "## What a nat costs",
    "speed": "## How fast training is",
    "scaling": "## How the cost of a step grows",
    "repeat": "## Repeat it",
}
"""Headings of the sections."""

DIGITS = """
Images small and few enough that everybody can repeat all of it, in the split of all chapters. No
published row stands beside these, and nothing here says how the models compare with those of
papers.
""".strip()

MNIST = """
Fully connected networks, no convolution; binary pixels, drawn anew in every epoch of training, and
once for validation and test.
""".strip()

SPEED = """
Images per second are a property of a machine; ratios of times that were taken in turns carry over
better. A *textbook loop* reads images through a `DataLoader` with `ToTensor`, has a layer of its
own for every parameter, and fetches its losses in every step. The *bound* is the time of the
matrix products alone, forward and backward, at the same shapes: no training of this model in this
precision is faster. `python -m benchmarks.throughput` takes these times on your machine.
""".strip()

REPEAT = """
```sh
python -m benchmarks.likelihoods digits
python -m benchmarks.likelihoods mnist --device cuda
python -m benchmarks.likelihoods trials
make results
```

The first two train, evaluate and diagnose what is not there yet, two runs at a time; an
interrupted one goes on when the command is given again. The third trains the variants behind
“Which settings matter”, and the last writes this page. A single row
takes two commands, listed below for the first seed; for another, change it in `--seed` and in the
name of the folder.
""".strip()

FIGURES = {
    "training": (
        "Minus the validation ELBO in nats per image against the epoch, one curve for each of "
        "the main models, one panel for each data set that was measured.",
        "Minus the ELBO on the validation split over training, means over the seeds. The first "
        "fifth of training lies above the panel. During {term}`warm-up` the price of information "
        "is still rising; what is shown is the ELBO itself at every epoch.",
    ),
    "cost": (
        "Minus the importance-weighted bound against seconds of training on a logarithmic axis: "
        "one marker with error bars for each of the main models, and, where they were measured, "
        "two connected rows of points for the models by depth.",
        "What seconds of training buy: further down is better, further left is cheaper. "
        "Bars are standard deviations over the seeds, small numbers are depths.",
    ),
    "depth": (
        "Two tables side by side in shades of blue, bottom-up and ladder. Columns are models "
        "with more and more levels, rows their levels from the one next to the data upward, and "
        "every cell holds the information of that level in nats per image.",
        "Information of every level by depth, means over the seeds, on the test split. A column "
        "is one model; its cells sum to what lies between reconstruction and ELBO.",
    ),
    "scaling": (
        "Three panels of milliseconds per training step: against the number of levels, the width "
        "of the hidden layers and the batch size. Each has one curve for the ladder and one for "
        "the bare matrix products.",
        "Time of a training step of the ladder, and of nothing but its matrix products, forward "
        "and backward, against one size at a time.",
    ),
}
"""Alternative text and caption of every figure."""
