"""Train the bundled skill, `kglearn/assets/clinic_skill`: `make skill`.

The same first step as `kglearn demo`: K from the lexicon and clinic's `graph` part, the skill from its `train` part.
Weights are kept in half precision; the encoder is named in the config, not copied.
"""
import tempfile
from pathlib import Path

from kglearn.data import ASSETS
from kglearn.skill import save_skill
from kglearn.trial import Trial, clinic_plan

with tempfile.TemporaryDirectory() as folder:
    trial = Trial(Path(folder) / "workspace", clinic_plan(), print)
    trial.learn()
    live = trial.system.live
    save_skill(live.skill.half(), live.processor.snapshot, ASSETS / "clinic_skill")
    print(live.card)
    trial.system.close()
print({path.name: path.stat().st_size for path in sorted((ASSETS / "clinic_skill").iterdir())})
