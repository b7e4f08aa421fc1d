"""Examinations: of an agent's promises, an environment, a run, an installation. Each gives findings."""
