# %% [markdown]
# # Does it help on your task?
#
# One run of each says nothing: reinforcement learning scatters between seeds. A study compares
# *arms* over several seeds, by a rule that is fixed before the first run.

# %%
import kanbatsu
from kanbatsu.study.file import study_from_dict

study = study_from_dict(
    {
        "question": "Pendulum: does a critic of a tenth of its weights do as well as a whole one?",
        "tasks": ["jax/pendulum"],  # or gym/<id>, dmc/<domain>-<task>, package.module:factory
        "agent": "sac",
        "env_steps": 4_000,
        "seeds": 5,
        "control": "dense",
        "decision": {"goal": "no_worse", "measure": "mean_difference", "maximal_regression": 150},
        "actor": {"network": "mlp", "width": 32, "blocks": 1},
        "learning_rate": 2e-3,
        "train": {
            "batch_size": 64,
            "updates_per_interaction": 1,
            "warmup_interactions": 300,
            "evaluate_every": 1_000,
            "evaluation_episodes": 3,
            "probe_every": 2_000,
            "probe_batch": 256,
        },
        "arm": {
            "dense": {"critic": {"network": "mlp", "width": 64, "blocks": 2}},
            "sparse": {"critic": {"network": "mlp", "width": 64, "blocks": 2, "sparsity": 0.9}},
        },
    }
)
study

# %% [markdown]
# `carry_out` trains what is missing (both arms side by side here, in one program) and writes the
# report. The same call continues after a stop.

# %%
outcome = kanbatsu.carry_out(study, "out/pendulum", population="auto")

# %%
outcome

# %% [markdown]
# The same numbers as records. `frame()` makes a data frame of pandas of them.

# %%
results = outcome.results
results.runs().frame().groupby("arm").final_return.describe().round(0)

# %%
results.figure("returns")

# %%
results.figure("finals")

# %% [markdown]
# The task is an easy one, and the runs are short, so that the whole takes a minute: a demonstration
# of the way, not evidence. Results of a study that lies in a folder are read with
# `kanbatsu.report.read("out/pendulum")`; what was measured in longer ones is under
# [evidence](../docs/evidence/README.md).
