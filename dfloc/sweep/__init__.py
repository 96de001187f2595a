"""From a study's YAML to finished trials."""
