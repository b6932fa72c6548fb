"""A correction of a base-stock policy, from a run to full service, with faults that are caught.

python rollout_inventory.py [--quick]
"""

import sys
from pathlib import Path

from rollout_steps import Way
from rollout_way import go

WAY = Way(
    task="inventory/seasonal",
    incumbent="kanbatsu.envs.base_stock:seasonal",
    share=0.2,
    safe_action=[1.0, 1.0, 1.0, 1.0],  # the mean demand
    returns=(-150.0, -30.0),
    worse_by=20.0,
    sensor=0,  # what is on hand at the retailer
)

if __name__ == "__main__":
    go(WAY, Path("out/rollout-inventory"), quick="--quick" in sys.argv)
