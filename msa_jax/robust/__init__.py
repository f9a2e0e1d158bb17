"""What a model is still worth when clips lack words, frames or modalities, under published protocols."""
