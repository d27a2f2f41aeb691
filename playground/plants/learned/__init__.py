"""Learned plants: a model from ``models/`` as a plant in a run."""

from playground.plants.learned.plant import LearnedPlant

__all__ = ["LearnedPlant"]
