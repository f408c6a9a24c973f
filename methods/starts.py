"""How much of a training is a pretraining; known without importing torch."""

PRETRAINED_SHARE = 0.75
"""Of the training images, those that the pretraining of a method with ``init=pretrained`` sees."""
