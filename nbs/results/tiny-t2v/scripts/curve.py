"Write the log of a run (from its checkpoint) to lab/results/RUN_log.json, with its configuration"
import json, sys
from pathlib import Path
import torch
LAB = Path(__file__).parent
run = sys.argv[1]
d = torch.load(LAB/"runs"/f"{run}.pt", weights_only=True, mmap=True)
(LAB/"results"/f"{run}_log.json").write_text(json.dumps(d["log"], indent=0) + "\n")
if "losses" in d: (LAB/"results"/f"{run}_losses.json").write_text(json.dumps(d["losses"]) + "\n")
print(run, "step", d["step"], "spent", d["spent"], "entries", len(d["log"]))
