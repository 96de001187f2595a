"""Training and evaluation of trials, without Ray and MLflow."""
