"""Pipelines of diffusers as models. Needs diffusers and transformers: ``python -m pip install 'dode[pipelines]'``."""
