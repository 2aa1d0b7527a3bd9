"""From nothing to the predictions of a distilled network, in Python.

Trains a teacher on a thousand 8x8 digits, then a small student on 96 of them, distilled
by OFD, and prints what the student predicts. Takes two minutes on two CPU cores:

    python docs/examples/from_python.py runs/from_python

Each `# %%` starts a cell for Jupyter, VS Code and Colab.
"""

# %%
import pathlib
import sys

import jax
import jax.numpy as jnp

from kdjax import method_recipes, models, recipes, train
from kdjax.data import datasets, normalization
from kdjax.runs import trained

folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "runs/from_python")

# %% A recipe is a configuration with every field set; change what you like.
teacher = recipes.teacher("wrn_16_2,digits")
teacher.log_every_steps = 50
result = train.train_and_evaluate(teacher, folder / "teacher")
print(f"teacher: {result['final_test_accuracy']:.2%}")

# %% The same with a pair of networks and a method. Run it again to resume.
student = method_recipes.of_methods("overhaul", "wrn_16_2-wrn_10_1,digits")
student.teacher.checkpoint = str(folder / "teacher")
result = train.train_and_evaluate(student, folder / "student")
print(f"student: {result['final_test_accuracy']:.2%}")

# %% A trained network is a Flax module and its variables.
run = trained.load(folder / "student")
test = datasets.load(run.data).test
network = run.network(test.image.shape[1:])


@jax.jit
def predict(image: jax.Array) -> tuple[jax.Array, models.Features]:
    """Returns the logits [B, K] and the features of uint8 images [B, H, W, 3]."""
    image = normalization.normalize(image, mean=run.data.mean, std=run.data.std)
    return network.apply(run.variables, image, train=False)


logits, features = predict(test.image)
predicted = jnp.argmax(logits, -1)
print("predicted:", predicted[:10], "true:", test.label[:10])
print("features:", [stage.shape for stage in features.post])
