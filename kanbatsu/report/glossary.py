"""Probes and words that the report explains, in the order of the page, and their sources."""

PROBES = (
    "accuracy",
    "loss",
    "dormant_0.1",
    "dormant_0.025",
    "srank",
    "erank",
    "stable_rank",
    "gradient_norm",
    "weight_norm",
    "feature_norm",
    "plasticity",
    "plasticity_lifted",
    "plasticity_fit",
    "interference",
    "interference_magnitude",
    "interference_negative",
    "simplicity",
    "simplicity_score",
    "overestimation",
    "value",
    "return_followed",
    "overestimation_tail",
)
"""Probes with a title and a meaning in texts/, under `probe.<name>`."""

WORDS = {
    "arm": "",
    "control": "",
    "env_step": "",
    "sparsity": "Ma et al. 2025, arXiv:2506.17204",
    "distribution": "Mocanu et al. 2018, arXiv:1707.04780; Evci et al. 2020, arXiv:1911.11134",
    "simba": "Lee et al. 2025, arXiv:2410.09754",
    "final_return": "",
    "iqm": "Agarwal et al. 2021, arXiv:2108.13264",
    "interval": "Agarwal et al. 2021, arXiv:2108.13264",
    "verdict": "Yuen 1974, Biometrika 61",
    "collapse": "Clopper and Pearson 1934, Biometrika 26",
    "improvement": "Agarwal et al. 2021, arXiv:2108.13264",
    "dormant": "Sokar et al. 2023, arXiv:2302.12902",
    "srank": "Kumar et al. 2021, arXiv:2010.14498",
    "flops": "",
}
"""The source of each word with a title and a meaning in texts/, under `word.<name>`."""
