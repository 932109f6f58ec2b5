"""The report on a model and its model card: what they are made of, and how they are rendered."""
