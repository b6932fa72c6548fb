"""A correction of PI control of four tanks, from a run to full service, with faults caught.

python rollout_plant.py [--quick]
"""

import sys
from pathlib import Path

from rollout_steps import Way
from rollout_way import go

WAY = Way(
    task="plant/four-tank",
    incumbent="kanbatsu.envs.pi_control:four_tank",
    share=0.1,
    safe_action=[3.0, 3.0],  # the operating point
    returns=(-120.0, 0.0),
    worse_by=20.0,
    sensor=0,  # the level of tank 1
)

if __name__ == "__main__":
    go(WAY, Path("out/rollout-plant"), quick="--quick" in sys.argv)
