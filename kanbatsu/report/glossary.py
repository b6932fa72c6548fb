"""What each probe and each word of the report means, and where it comes from."""

PROBES = {
    "dormant_0.1": (
        "Dormant ratio, τ = 0.1",
        "Share of hidden units whose activity is at most a tenth of their layer's mean. Lower is "
        "healthier.",
    ),
    "dormant_0.025": (
        "Dormant ratio, τ = 0.025",
        "The same with a stricter threshold: a fortieth of the mean.",
    ),
    "srank": (
        "Effective rank (srank)",
        "How many directions the last hidden features use. A fall means that states are told "
        "apart less and less.",
    ),
    "gradient_norm": (
        "Gradient norm",
        "Length of the gradient that the optimizer receives. Near zero, learning has stopped; "
        "spikes are instability.",
    ),
    "weight_norm": (
        "Weight norm",
        "Length of all weights together. Steady growth makes each step matter less.",
    ),
    "feature_norm": (
        "Feature norm",
        "Mean length of the last hidden features. Growth without bound is a warning. SimBa's come "
        "out of a LayerNorm, so they start near the square root of the width.",
    ),
}
"""Title and meaning of each probe, in the order of the page."""

GLOSSARY = (
    (
        "Arm, run, study",
        "An arm is one configuration. A run is one arm with one seed on one task. A study is a set "
        "of runs that answers one question.",
        "",
    ),
    (
        "Control",
        "The arm that every other arm is compared with.",
        "",
    ),
    (
        "Env step",
        "One step of the simulator, before action repeat; the unit of every horizontal axis of "
        "time.",
        "",
    ),
    (
        "Sparsity, kept weights",
        "Sparsity is the share of a network's prunable weights (the kernels of its layers) that "
        "was removed once, at random, before training, and never came back. The kept weights are "
        "the rest. Biases and normalisation are never removed and are counted among parameters "
        "only.",
        "Ma et al. 2025, arXiv:2506.17204",
    ),
    (
        "Distribution (uniform, er, erk)",
        "How a sparsity is spread over the layers. Erdős-Rényi (er, erk) keeps a larger share in "
        "smaller layers.",
        "Mocanu et al. 2018, arXiv:1707.04780; Evci et al. 2020, arXiv:1911.11134",
    ),
    (
        "SimBa",
        "The network: normalised observations, residual blocks with layer normalisation, a linear "
        "head.",
        "Lee et al. 2025, arXiv:2410.09754",
    ),
    (
        "Final return",
        "The mean undiscounted return of the episodes of a run's last evaluation, without "
        "exploration noise.",
        "",
    ),
    (
        "IQM",
        "Interquartile mean: the highest and the lowest quarter of all runs are set aside and the "
        "rest is averaged. With fewer than four runs nothing is set aside and it is the mean.",
        "Agarwal et al. 2021, arXiv:2108.13264",
    ),
    (
        "95 % interval",
        "Where the number would mostly fall if the study were repeated with other seeds on the "
        "same tasks: a percentile bootstrap that draws seeds anew within each task. With few seeds "
        "it is too narrow. Intervals are not corrected for the number of comparisons.",
        "Agarwal et al. 2021, arXiv:2108.13264",
    ),
    (
        "Probability of improvement",
        "The share of all pairs of runs on the same task in which the arm returned more than the "
        "control (a tie counts half), averaged over tasks. 0.5 is no difference; it says how "
        "often, not by how much.",
        "Agarwal et al. 2021, arXiv:2108.13264",
    ),
    (
        "Dormant ratio",
        "A hidden unit is dormant when its mean activity, after the activation function, is at "
        "most τ times the mean of its layer.",
        "Sokar et al. 2023, arXiv:2302.12902",
    ),
    (
        "srank",
        "The number of leading singular values of the feature matrix that hold 99 % of their sum.",
        "Kumar et al. 2021, arXiv:2010.14498",
    ),
    (
        "FLOPs per update",
        "Additions and multiplications of one gradient update. Dense counts every weight; sparse "
        "counts the kept ones. A packed layer computes those only; a masked one computes densely, "
        "and the sparse number is what could be saved.",
        "",
    ),
)
"""Word, meaning, source."""
