"""From a recipe to a run directory: training, evaluation, pictures."""
